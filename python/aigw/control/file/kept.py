"""The entities of an earlier file in the store, when a gateway starts without one.

In: the store and its stamp. Out: a `Kept`, or None if no file declared anything. A forgotten option must not delete keys: these
entities stay in force, read-only, with the origin that they have. A start with a file replaces them; `--config none` deletes them.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from aigw.control.file.stamp import Stamp
from aigw.control.store import tables
from aigw.control.store.origin import Origin
from aigw.control.store.read import StoreReader


@dataclass(frozen=True, slots=True)
class Kept:
    """`source`: the file that declared the entities, or `POST /config`; `entities`: their number."""

    source: str
    entities: int

    @property
    def message(self) -> str:
        """The state and its repair, for the log and `GET /status`."""
        entities = f"{self.entities} {'entity' if self.entities == 1 else 'entities'}"
        return (
            f"started without --config: the {entities} that {self.source} declared stay in force and cannot be changed here;"
            " start with --config FILE to change them, or with --config none to delete them"
        )


def kept(reader: StoreReader, stamp: Stamp | None) -> Kept | None:
    """The entities of an earlier file."""
    entities, source = 0, stamp.source if stamp is not None else ""
    for table in tables.ENTITIES.values():
        of_file = table.c.origin.is_not(None)
        count = int(reader.connection.scalar(sa.select(sa.func.count()).select_from(table).where(of_file)) or 0)
        if count and not source:
            found = reader.connection.scalar(sa.select(table.c.origin).where(of_file).limit(1))
            source = Origin.parse(str(found)).file
        entities += count
    return Kept(source, entities) if entities or stamp is not None else None
