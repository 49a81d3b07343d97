"""Warnings about a file that a gateway can use: parts of it probably lack the effect their author wanted.

In: a checked file, and the mark of the secret that its HMACs should belong to. Out: calls of `Source.warn`, each with its position.
A warning changes nothing; `aigw check --strict` refuses a file that has one.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aigw.config.budgets import warn_budgets
from aigw.config.finding import Path
from aigw.config.patterns import Names
from aigw.config.secret import secret_path
from aigw.config.source import MAX_FINDINGS, Source
from aigw.config.suggest import nearest
from aigw.entities.model import ModelSpec
from aigw.entities.rates import Rates
from aigw.entities.tier import TierSpec, milliseconds_of

SHORT: Final = 16
"""Characters: 16 hex digits are 64 bits, which nobody guesses over a network."""
_NAME: Final = r"([A-Za-z_][A-Za-z0-9_]*)"
_FOREIGN: Final = re.compile(
    rf"os\.environ[/.]{_NAME}\Z|env[:.]{_NAME}\Z|\${_NAME}\Z|\$\({_NAME}\)\Z|%{_NAME}%\Z|\{{vault://env/([a-zA-Z_][\w-]*)\}}\Z"
)
"""How other programs write the value of a variable."""
_MARKED: Final = re.compile(r"hmac:([0-9a-f]{8}):")
_SPANS: Final = ("connect", "first_byte", "between")


def warn(source: Source, models: Mapping[str, ModelSpec], tiers: Mapping[str, TierSpec], mark: str | None) -> None:
    """Add every warning about the file to `source`. `mark`: of the data folder's secret, where it is known."""
    features = list(dict.fromkeys(feature for spec in models.values() for feature in spec.features))
    for name, tier in tiers.items():
        at: Path = ("tiers", name, "allow")
        _patterns(source, (*at, "models"), tier.allow.models, models, "model")
        _patterns(source, (*at, "features"), tier.allow.features, features, "feature of a model")
        _timeouts(source, ("tiers", name, "timeouts"), tier.timeouts)
        _rates(source, ("tiers", name, "price"), tier.price)
    for name, spec in models.items():
        _timeouts(source, ("models", name, "timeouts"), spec.timeouts)
        _rates(source, ("models", name, "cost"), spec.cost)
    warn_budgets(source, models, tiers)
    _variables(source, models)
    for consumer, key, length in source.consumers.short_keys(SHORT, MAX_FINDINGS):
        path: Path = ("consumers", consumer, "keyauth_credentials", key, "key")
        source.warn(path, f"the key has {length} characters: take {SHORT} or more, as of `openssl rand -hex 16`")
    _marks(source, mark)


def _patterns(source: Source, path: Path, patterns: Iterable[str], names: Iterable[str], kind: str) -> None:
    known = dict.fromkeys(names)
    for index, pattern in enumerate(patterns):
        one = Names([pattern])
        if pattern.strip("*") == "" or pattern in known or any(name in one for name in known):
            continue
        text = f"no {kind} {'matches' if '*' in pattern else 'is called'} '{pattern}': this entry allows nothing"
        source.warn((*path, index), text, suggestion=nearest(pattern, list(known)))


def _timeouts(source: Source, path: Path, timeouts: Any) -> None:
    if timeouts.total is None:
        return
    for field in _SPANS:
        span = getattr(timeouts, field, None)
        if span is not None and milliseconds_of(span) > milliseconds_of(timeouts.total):
            text = (
                f"{field} is {span}, longer than the total of {timeouts.total}: the call ends before {field} can count"
            )
            source.warn((*path, field), text)


def _rates(source: Source, path: Path, rates: Rates | None) -> None:
    """Tokens that cost nothing since their field is left out, while those of the other direction cost something."""
    for field, other in (("output", "input"), ("input", "output")):
        if rates is not None and getattr(rates, other) and field not in rates.model_fields_set:
            text = f"{field} is left out, so {field} tokens cost nothing: add it, or {field}: 0 where that is meant"
            source.warn(path, text)


def _variables(source: Source, models: Mapping[str, ModelSpec]) -> None:
    """Values that hold the spelling of another program: here they are plain text, and the upstream would get them as its key."""
    paths: list[Path] = [*source.containing("os.environ"), *source.containing("vault://env/")]
    upstreams: dict[Path, None] = {}
    for name, spec in models.items():
        for index, upstream in enumerate(spec.upstreams):
            at: Path = ("models", name, "upstreams", index)
            fields = [
                ("api_key",),
                *(("headers", key) for key in upstream.headers),
                *(("query", key) for key in upstream.query),
            ]
            upstreams |= {(*at, *field): None for field in fields}
    for path in upstreams | dict.fromkeys(paths):
        found = _FOREIGN.match(source.text_at(path) or "")
        if found is not None and (path in upstreams or secret_path(path) or found[1]):
            name = next(group for group in found.groups() if group)
            if found[6]:  # a vault's name is that of the variable in lower case
                name = name.replace("-", "_").upper()
            text = "is taken as it stands: here the value of a variable is written ${NAME}"
            source.warn(path, text, suggestion=f"${{{name}}}")


def _marks(source: Source, mark: str | None) -> None:
    """HMACs that name their secret: of another data folder, or of two."""
    first: str | None = mark
    for path in source.containing("hmac:"):
        found = _MARKED.match(source.text_at(path) or "") if path[-1:] == ("key_hash",) else None
        if found is None:
            continue
        first = first or found[1]
        if found[1] != first:
            whose = f"the data folder has {mark}" if mark else f"another key_hash of this file has {first}"
            source.warn(
                path,
                f"made under another secret ({found[1]}; {whose}): no key opens with it; bring the secret of the gateway"
                " that it is from (DATA/secret), or write the key itself",
            )
