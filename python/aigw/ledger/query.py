"""The questions that a request asks of the ledger, checked. In: the texts of a query string. Out: `Filters`, a grouping, a size.

Raises `BadQuery`, which names the parameter and the repair. A parameter that is unknown is refused, not ignored: a misspelt filter would
answer with the sum of everyone's calls.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from aigw.errors import ConfigError

NS: Final = 10**9
FILTERS: Final = ("consumer", "model", "tier", "after", "before")
PRICE_FILTERS: Final = ("kind", "owner", "model", "tier", "at")
KINDS: Final = ("cost", "price")
"""Of a model, of a tier."""
TIMES: Final = ("minute", "hour", "day", "month")
ENTITIES: Final = ("consumer", "credential", "tier", "model", "route", "agent")
USAGE_GROUPS: Final = (*ENTITIES, *TIMES)
DENIAL_GROUPS: Final = ("consumer", "tier", "model", "reason", *TIMES)
EVENT_FIELDS: Final = (
    "id", "time", "admitted_at", "request_id", "attempt", "consumer", "credential", "tier", "route", "model", "upstream", "agent", "run_id",
    "parent_request_id", "depth", "status", "outcome", "usage_source", "overrun", "input_tokens", "cached_input_tokens",
    "cache_write_input_tokens", "output_tokens", "reasoning_tokens", "cost_nanodollars", "price_nanodollars", "cost_version",
    "price_version", "stream", "latency_ms", "first_byte_ms", "queued_ms", "counted", "image_input_tokens", "audio_input_tokens",
    "image_output_tokens", "audio_output_tokens", "service_tier",
)  # fmt: skip
"""Fields of an entry in answers, in order."""
PRICE_FIELDS: Final = ("id", "kind", "owner", "body", "valid_from", "valid_until")
"""Fields of a version of a price in answers, in order."""
LATEST: Final = (2**63 - 1) // (86400 * NS) * (86400 * NS)
"""Unix nanoseconds: the last midnight that an integer of SQLite holds, in April 2262. No entry is later."""
_MOST_SECONDS: Final = 253402300799  # the end of the year 9999
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?\Z", re.ASCII)
_DATES: Final = "unix seconds, or a date as in 2026-11-29, 2026-11-29T12:00:00Z"


class BadQuery(ConfigError):
    """A parameter that cannot be used. `field`: its name."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


class UnknownParameter(BadQuery):
    """A parameter that the question does not have."""


class Filters(NamedTuple):
    """Entries of interest. Names select by name or id; times are unix nanoseconds of admission, `before` excluded; None: no bound."""

    consumer: str | None = None
    model: str | None = None
    tier: str | None = None
    after: int | None = None
    before: int | None = None

    def digest(self) -> str:
        """A short text that differs for other filters."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:12]


class PriceFilters(NamedTuple):
    """Versions of prices of interest; `at`: in force at this time, unix nanoseconds; None: no bound."""

    kind: str | None = None
    owner: str | None = None
    at: int | None = None

    def digest(self) -> str:
        """A short text that differs for other filters."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:12]


def price_filters(query: Mapping[str, str], also: Iterable[str] = ()) -> PriceFilters:
    """The filters of a query for prices; `also`: its other parameters. `model` and `tier` name an owner with its kind."""
    _known(query, (*PRICE_FILTERS, *also))
    kind = query.get("kind")
    if kind is not None and kind not in KINDS:
        raise BadQuery("kind", f"expected one of: {', '.join(KINDS)}")
    owners = [name for name in ("owner", "model", "tier") if name in query]
    if len(owners) > 1:
        raise BadQuery(owners[1], f"{owners[0]} is given, too: one version has one owner")
    for name, of in (("model", "cost"), ("tier", "price")):
        if name in query and kind not in (None, of):
            raise BadQuery("kind", f"a {name} has versions of its {of}: leave out kind, or set it to {of}")
        kind = of if name in query else kind
    return PriceFilters(kind, _name(query, owners[0]) if owners else None, _held(_time(query, "at")))


def _known(query: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    for name in query:
        if name not in allowed:
            raise UnknownParameter(name[:64], f"unknown parameter: expected one of: {', '.join(allowed)}")


def filters(query: Mapping[str, str], also: Iterable[str] = (), of: Iterable[str] = FILTERS) -> Filters:
    """The filters of a query; `of`: the filters that it may have; `also`: its other parameters."""
    _known(query, (*of, *also))
    after, before = _time(query, "after"), _time(query, "before")
    if after is not None and before is not None and after >= before:
        raise BadQuery("before", "expected a time later than after")
    return Filters(
        _name(query, "consumer"),
        _name(query, "model"),
        _name(query, "tier"),
        _held(after),
        # The year 9999 is often written for "no bound".
        None if before is None or before >= LATEST else _held(before),
    )


def _name(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name)
    if text is not None and not 0 < len(text) <= 1024:
        raise BadQuery(name, f"expected the name or id of a {name}, 1 to 1024 characters")
    return text


def _held(ns: int | None) -> int | None:
    """The nearest time that the ledger can hold."""
    return None if ns is None else min(max(ns, 0), LATEST)


def _time(query: Mapping[str, str], name: str) -> int | None:
    """Unix nanoseconds, of any year."""
    text = query.get(name)
    if text is None:
        return None
    if _SECONDS.match(text):
        whole, _, part = text.partition(".")
        # 2026, 202611 and 20261101 are no seconds of 1970.
        if int(whole) <= _MOST_SECONDS and len(whole) not in (4, 6, 8):
            return int(whole) * NS + int(part.ljust(9, "0"))
    try:
        # A '+' that is not encoded arrives as a space.
        date = datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
        return (date - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError):
        raise BadQuery(name, f"'{text[:64]}' is no time: expected {_DATES}") from None


def grouping(query: Mapping[str, str], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The words of `group_by`, in their order: any of `allowed`, each once, and at most one time."""
    text = query.get("group_by", "")
    words = tuple(text.split(",")) if text else ()
    for word in words:
        if word not in allowed:
            raise BadQuery("group_by", f"'{word[:64]}' is no group: expected some of: {', '.join(allowed)}")
        if words.count(word) > 1:
            raise BadQuery("group_by", f"'{word}' stands twice")
    if sum(word in TIMES for word in words) > 1:
        raise BadQuery("group_by", f"expected one of: {', '.join(TIMES)}")
    return words


def size(query: Mapping[str, str]) -> int:
    """`size`, 1..1000, default 100."""
    text = query.get("size", "100")
    if not (re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) and 1 <= int(text) <= 1000):
        raise BadQuery("size", "must be an integer between 1 and 1000")
    return int(text)
