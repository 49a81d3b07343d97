"""The prices of a configuration file, for people who bill: they have neither the keys nor the addresses that the rest refers to.

In: a path. Out: the price of each tier and the cost of each model, checked; their references alone are resolved. A misspelt section,
or field of a tier or a model, is a finding, since it could be its price; everything else in the file is left to `aigw check`.
"""

import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, Final, NamedTuple

from aigw.config.finding import Path
from aigw.config.reader import read_bytes
from aigw.config.report import checked, report_unknown
from aigw.config.shape import LACKING, Configuration
from aigw.config.source import Source
from aigw.config.suggest import fields_at
from aigw.entities.model import ModelSpec
from aigw.entities.rates import Rates
from aigw.entities.tier import TierSpec
from aigw.schema.violations import check
from aigw.settings import of_environment

Named = Mapping[str, Rates | None]
"""Name of a tier or model -> its prices; None: it has none."""
_FIELDS: Final[Mapping[str, tuple[str, Any]]] = {"tiers": ("price", TierSpec), "models": ("cost", ModelSpec)}


class Prices(NamedTuple):
    """The prices of a file."""

    tiers: Named
    """Tiers, including those of `consumer_groups`, which have none."""
    models: Named


def read_prices(path: str | os.PathLike[str], environment: Mapping[str, str] | None = None) -> Prices:
    """Read and check the prices of a configuration file. `environment` defaults to the process's own. Raises ConfigError."""
    name, most = os.fspath(path), of_environment("max_config_bytes")
    known = os.environ if environment is None else environment
    source = Source.of(name, read_bytes(name, most), known, FilePath(name).parent, most, _is_price)
    if source.root is not None and not isinstance(source.root, dict):
        source.add((), "expected a mapping, as in 'tiers: {free: {price: {input: 0.30}}}'")
        source.fail()
    sections = fields_at(Configuration, ())
    for key in source.root or ():
        if key not in sections and key not in LACKING:
            report_unknown(source, (key,), sections)
    tiers, models = (_named(source, section, *_FIELDS[section]) for section in ("tiers", "models"))
    source.fail()
    groups = source.get(("consumer_groups",))
    of_groups = (group.get("name") for group in groups if isinstance(group, dict)) if isinstance(groups, list) else ()
    return Prices({**{text: None for text in of_groups if isinstance(text, str)}, **tiers}, models)


def _is_price(path: Path) -> bool:
    return any(path[:1] == (section,) and path[2:3] == (field,) for section, (field, _) in _FIELDS.items())


def _named(source: Source, section: str, field: str, spec: type[Any]) -> dict[str, Rates | None]:
    given = source.get((section,))
    if given is not None and not isinstance(given, dict):
        source.add((section,), "expected a map")
    found: dict[str, Rates | None] = {}
    for name, own in given.items() if isinstance(given, dict) else ():
        path: Path = (section, name)
        found[name] = None
        if own is not None and not isinstance(own, dict):
            source.add(path, "expected a record")
            continue
        known = fields_at(spec, ())
        for key in own or {}:
            if key not in known:
                report_unknown(source, (*path, key), known)
        if own and own.get(field) is not None:
            found[name] = checked(source, (*path, field), Rates, own[field], lambda value: check(Rates, value))
    return found
