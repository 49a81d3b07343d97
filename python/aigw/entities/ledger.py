"""Settings of the ledger in the configuration file: how long entries and their sums stay, and how large the file may grow.

A coarser sum stays at least as long as a finer one: a range of time is answered from the finest sum that is left.
"""

import re
from itertools import pairwise
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from aigw.schema.fields import Model, entity_violation, shown, violation

FOREVER: Final = "forever"
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}
_BYTES: Final = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_AGE: Final = re.compile(r"([1-9][0-9]{0,6})(m|h|d)\Z", re.ASCII)
_SIZE: Final = re.compile(r"([1-9][0-9]{0,6})(MiB|GiB|TiB)\Z", re.ASCII)
MAX_AGE_S: Final = 36_500 * 86400
"""A hundred years."""
MIN_BYTES: Final = 16 * 2**20


def seconds_of(age: str) -> int | None:
    """Seconds of an age like `400d`, `36h`; None: forever."""
    found = _AGE.match(age)
    return int(found[1]) * _SECONDS[found[2]] if found else None


def bytes_of(size: str) -> int | None:
    """Bytes of a size like `50GiB`; None: no bound."""
    found = _SIZE.match(size)
    return int(found[1]) * _BYTES[found[2]] if found else None


def _age(value: str) -> str:
    if value != FOREVER and not 60 <= (seconds_of(value) or 0) <= MAX_AGE_S:
        raise violation("expected an age from 1m to 36500d as in 36h, 400d; or forever")
    return value


def _size(value: str) -> str:
    if value != FOREVER and (bytes_of(value) or 0) < MIN_BYTES:
        raise violation(
            "expected a size in MiB, GiB or TiB, at least 16MiB, as in 500MiB, 50GiB; or forever for no bound"
        )
    return value


Age = Annotated[str, AfterValidator(_age), shown(pattern=r"^(forever|[1-9][0-9]{0,6}(m|h|d))$")]
Size = Annotated[str, AfterValidator(_size), shown(pattern=r"^(forever|[1-9][0-9]{0,6}(MiB|GiB|TiB))$")]


class LedgerSpec(Model):
    """The YAML object `ledger`."""

    events: Age = Field(default="400d", description="Time that an entry stays, from its admission.")
    minutes: Age = Field(default="14d", description="Time that sums by minute stay.")
    hours: Age = Field(default="400d", description="Time that sums by hour, and counts of refusals, stay.")
    days: Age = Field(default=FOREVER, description="Time that sums by day stay.")
    max_disk: Size = Field(
        default="50GiB",
        description="Size of the ledger's file above which the oldest entries go before their time; sums stay.",
    )

    @model_validator(mode="after")
    def _coarser_stays_longer(self) -> Self:
        ages = [(name, seconds_of(getattr(self, name)) or MAX_AGE_S + 1) for name in ("minutes", "hours", "days")]
        for (finer, short), (coarser, long) in pairwise(ages):
            if long < short:
                raise entity_violation(
                    f"{coarser} must stay at least as long as {finer}: {self._told(coarser)} is shorter than {self._told(finer)}; "
                    "raise the one or lower the other"
                )
        return self

    def _told(self, name: str) -> str:
        return f"{name} {getattr(self, name)}" + ("" if name in self.model_fields_set else " (its default)")
