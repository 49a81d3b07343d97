"""One entity of a configuration file: its content, its position, and an id that does not depend on order.

Ids are uuid5 of kind and name below a fixed namespace: the same file makes the same ids on every machine, and neither
order nor lines change them. A plugin without a name takes its scope. Native code makes the ids of consumers, credentials
and acls by the same rule (`src/io/consumers/rows.rs`).
"""

from typing import Final, NamedTuple
from uuid import UUID, uuid5

from aigw.config.finding import Path
from aigw.types import JsonDict

NAMESPACE: Final = UUID("5f2b0e0c-6f0a-5d4e-9d3c-0a1e6b7c8d90")


def entity_id(kind: str, name: str) -> str:
    """The id of a file's entity: the uuid5 of "kind:name" (RFC 9562, 5.5)."""
    return str(uuid5(NAMESPACE, f"{kind}:{name}"))


class FileEntity(NamedTuple):
    """One entity of the file. `body` has the store's form, without keys and with `created_at` and `updated_at` 0: the writer sets the
    times."""

    kind: str
    """upstreams, targets, services, routes, tiers, models or plugins."""
    id: str
    name: str
    """For a person: the name, or the owner and what distinguishes it there."""
    body: JsonDict
    line: int
    path: Path
