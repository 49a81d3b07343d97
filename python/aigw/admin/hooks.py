"""The steps of the engine in which entity kinds differ: `Hooks`, as most kinds do them. A kind that differs overrides some.

In: the engine at its moment, the store, input or a row. Out: input, rows and answers; a Refusal or SchemaViolation stops the engine. `kinds`
names the hooks of each kind; the engine (`crud`) asks no kind for its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aigw.admin import envelope
from aigw.control.publish.files import Publisher
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Row
from aigw.control.store.write import WriteSession
from aigw.entities import EntityKind
from aigw.entities.target import normal
from aigw.types import JsonDict

NO_KEY_BEHIND: Final = "a reference stands for a key that is stored, and this entity is new: send the key itself"
OTHER_KEY: Final = "is the reference to another key: send the key itself, or this one's reference, {}"

FORMER_SECONDS: Final = 600
"""Seconds for which deleting the former id of an entity is a success: a client that gave it another one deletes the id within seconds."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The values of the engine at one moment: `now` in unix seconds, `soon` rounded up. `publisher` makes HMACs of keys, and seals them
    where `shows_keys`."""

    publisher: Publisher
    now: int
    soon: int
    shows_keys: bool = False


class Hooks:
    """The steps of one kind."""

    key_fields: tuple[str, ...] = ()
    """Fields of its answers that have keys, or references to them."""

    def __init__(self, kind: EntityKind) -> None:
        self.kind: Final = kind

    def find(self, engine: Engine, reader: StoreReader, key: str, fixed: Mapping[str, str]) -> Row | None:
        """The entity that a path names by another text than its id. `fixed`: ids of its parents, as far as the path or body has them."""
        kind, key = self.kind, self.kind.key_of(key)
        if kind.endpoint_key not in kind.together:
            return reader.get(kind.name, kind.endpoint_key, key, engine.now)
        own = {**fixed, kind.endpoint_key: key}
        return reader.find(kind.name, own, engine.now) if own.keys() == set(kind.together) else None

    def of_form(self, given: JsonDict, row: Row | None) -> JsonDict:
        """The texts of a form, after those that the model types."""
        return given

    def typed(self, engine: Engine, given: JsonDict, row: Row | None) -> JsonDict:
        """The input without fields that are only read, and with keys in place of references. `row`: the entity before the write."""
        return given

    def named(self, given: JsonDict, name: str | None, row: Row | None) -> JsonDict:
        """The input of a PUT. `name`: the path's text, if that is no id. `row`: the entity that it names. The body's own name does not
        count, as in Kong: the next PUT to the same path means the same entity."""
        return given if name is None else {**given, self.kind.endpoint_key: name}

    def taken_over(
        self, engine: Engine, session: WriteSession, key: str, data: JsonDict, parents: Mapping[str, str]
    ) -> Row | None:
        """An entity that a PUT to the unknown id `key` means, under its new id. Raises ReadOnly.

        Here: none, but an entity with the same name in another spelling makes room. A client that compares texts makes the new one first."""
        text = data.get(self.kind.endpoint_key)
        row = self.find(engine, session, text, parents) if isinstance(text, str) and self.kind.folds else None
        if row is not None and row.body[self.kind.endpoint_key] != text:
            session.delete(self.kind, row)
            session.note_former(self.kind, row, engine.now + FORMER_SECONDS)
        return None

    def merged(self, engine: Engine, row: Row, given: JsonDict) -> JsonDict:
        """The input of a PATCH merged into the entity, in the form of input."""
        return {**row.body, **given}

    def sample(self, reader: StoreReader, data: JsonDict) -> tuple[JsonDict, Row | None]:
        """The input of a check without a write, and the entity that it means."""
        return data, None

    def check_input(self, reader: StoreReader, given: JsonDict) -> None:
        """Checks of a write before those of the model. Raises SchemaViolation."""

    def check_body(self, reader: StoreReader, body: JsonDict, row: Row | None) -> None:
        """Checks of a write after those of the model. Raises SchemaViolation."""

    def store(self, engine: Engine, session: WriteSession, body: JsonDict, row: Row | None) -> JsonDict:
        """Write the checked body, unless it changes nothing. Returns the answer. Raises UniqueViolation."""
        if row is None or not same(row.body, body):
            row = session.put(self.kind, body, row)
        return self.shown(engine, session, row)

    def absent(self, engine: Engine, reader: StoreReader, key: str, fixed: Mapping[str, str]) -> None:
        """Judge a DELETE of an entity that is not there: a success, except on a nested path that no entity left a moment ago. Raises a 404."""
        if fixed and not reader.was_below(self.kind.name, key, fixed, engine.now):
            raise envelope.not_found()

    def check_delete(self, reader: StoreReader, row: Row) -> None:
        """Raises a Refusal for an entity that must stay, besides one that a foreign field references."""

    def shown(self, engine: Engine, reader: StoreReader, row: Row) -> JsonDict:
        """The entity as clients see it."""
        return row.body


class Targets(Hooks):
    """The hooks of `targets`."""

    def shown(self, engine: Engine, reader: StoreReader, row: Row) -> JsonDict:
        """In Kong's form: earlier versions stored another one."""
        return {**row.body, "target": normal(row.body["target"])}


def same(before: JsonDict, after: JsonDict) -> bool:
    """Whether a write changes nothing: then nothing is stored and published, and `updated_at` stays."""
    return before == {**after, **({"updated_at": before["updated_at"]} if "updated_at" in before else {})}


def wrong_reference(own: str | None) -> str:
    """The finding about a reference in place of a key. `own`: the reference to the entity's own key; None for a new entity."""
    return NO_KEY_BEHIND if own is None else OTHER_KEY.format(own)
