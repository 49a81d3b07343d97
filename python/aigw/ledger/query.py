"""The questions that a request asks of the ledger, checked. In: the texts of a query string. Out: `Filters`, a grouping, an offset.

Raises `BadQuery`, which names the parameter and the repair. A parameter that is unknown is refused, not ignored: a misspelt filter would
answer with the sum of everyone's calls.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
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
_LATEST: Final = 253402300799  # the end of the year 9999
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?\Z", re.ASCII)
_DATES: Final = "unix seconds, or a date as in 2026-11-29, 2026-11-29T12:00:00Z"


class BadQuery(ConfigError):
    """A parameter that cannot be used. `field`: its name."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


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
    return PriceFilters(kind, _name(query, owners[0]) if owners else None, _time(query, "at"))


def _known(query: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    for name in query:
        if name not in allowed:
            raise BadQuery(name[:64], f"unknown parameter: expected one of: {', '.join(allowed)}")


def filters(query: Mapping[str, str], also: Iterable[str] = (), of: Iterable[str] = FILTERS) -> Filters:
    """The filters of a query; `of`: the filters that it may have; `also`: its other parameters."""
    _known(query, (*of, *also))
    found = Filters(
        _name(query, "consumer"),
        _name(query, "model"),
        _name(query, "tier"),
        _time(query, "after"),
        _time(query, "before"),
    )
    if found.after is not None and found.before is not None and found.after >= found.before:
        raise BadQuery("before", "expected a time later than after")
    return found


def _name(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name)
    if text is not None and not 0 < len(text) <= 1024:
        raise BadQuery(name, f"expected the name or id of a {name}, 1 to 1024 characters")
    return text


def _time(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if _SECONDS.match(text):
        whole, _, part = text.partition(".")
        # 2026, 202611 and 20261101 are no seconds of 1970.
        if int(whole) <= _LATEST and len(whole) not in (4, 6, 8):
            return int(whole) * NS + int(part.ljust(9, "0"))
    try:
        # A '+' that is not encoded arrives as a space.
        date = datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
        seconds = (date - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds <= _LATEST:
        raise BadQuery(name, f"'{text[:64]}' is no time: expected {_DATES}")
    return int(seconds) * NS + date.microsecond * 1000


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


def offset_text(n: int, digest: str) -> str:
    """The opaque `offset` after event `n` of a query."""
    return base64.urlsafe_b64encode(f"{n}.{digest}".encode()).decode().rstrip("=")


def offset(query: Mapping[str, str], digest: str) -> int:
    """The number of the event after which the page starts; 0 without an offset."""
    text = query.get("offset")
    if text is None:
        return 0
    bad = f"'{text[:64]}' is not an offset: take it from the page before"
    try:
        if len(text) > 64:
            raise BadQuery("offset", bad)
        known = base64.b64decode((text + "=" * (-len(text) % 4)).encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise BadQuery("offset", bad) from None
    number, _, of = known.partition(".")
    if not re.fullmatch(r"[0-9]{1,18}", number, re.ASCII) or not of:
        raise BadQuery("offset", bad)
    if of != digest:
        raise BadQuery("offset", "belongs to a query with other filters: begin that query without an offset")
    return int(number)


def size(query: Mapping[str, str]) -> int:
    """`size`, 1..1000, default 100."""
    text = query.get("size", "100")
    if not (re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) and 1 <= int(text) <= 1000):
        raise BadQuery("size", "must be an integer between 1 and 1000")
    return int(text)
