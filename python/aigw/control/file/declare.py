"""A checked configuration file -> the entities to store. In: a `File`. Out: `Declared` and `ConsumerRows`.

This module turns consumers' keys into HMACs and seals upstreams' keys: later modules see no secret. The origin of an entity keeps the
reference (`${VAR}`) of its secret, so that `aigw dump` writes the reference back.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from aigw.config import File, FileEntity
from aigw.config.file import CONSUMER_KINDS, ORDER
from aigw.control.file.apply import Declared
from aigw.control.file.consumers import ConsumerRows, Since
from aigw.control.store.origin import Origin
from aigw.control.store.rows import LEDGER, V1, Row, Sections
from aigw.entities import KINDS, check_entity
from aigw.entities.certificate import referenced, stored
from aigw.entities.sealed import reference_of, with_sealed_keys
from aigw.schema.violations import SchemaViolation
from aigw.types import JsonDict


class Sealer(Protocol):
    """The part of the publisher that takes secrets."""

    def hash_key(self, key: bytes) -> bytes: ...
    def seal(self, secret: bytes) -> str: ...
    def unseal(self, sealed: str) -> bytes: ...


Keys = Mapping[str, Mapping[str, str]]
"""Id of a certificate -> field -> its private key, as PEM text."""
NO_KEYS: Final[Keys] = {}
NO_KEY: Final = (
    "the reference leads to no key in the store of this gateway: write the key itself, or ${file:PATH} or ${VAR}"
)


class KeyNotKept(Exception):
    """A reference in place of a key that leads to no key of the store, or to the key of another certificate."""

    def __init__(self, entity: FileEntity, field: str, message: str) -> None:
        self.entity, self.field, self.message = entity, field, message
        super().__init__(message)


def whole_keys(file: File, key_of: Callable[[str, str], str | None]) -> Keys:
    """The keys of the file's certificates, with the stored ones in place of references. `key_of`: (id of a stored certificate, field)
    -> its key. Raises KeyNotKept."""
    found: dict[str, Mapping[str, str]] = {}
    for entity in file.of("certificates"):
        given = file.private_keys[entity.id]
        keys = dict(given)
        for field, text in given.items():
            if (place := referenced(text)) is None:
                continue
            key = key_of(*place)
            if key is None:
                raise KeyNotKept(entity, field, NO_KEY)
            keys[field] = key
        if keys != given:
            try:
                check_entity(KINDS["certificates"], {**entity.body, **keys})
            except SchemaViolation as error:
                raise KeyNotKept(entity, "key", error.message) from None
        found[entity.id] = keys
    return found


def declared(file: File, sealer: Sealer, now: int, keys: Keys = NO_KEYS) -> list[Declared]:
    """All entities of the file except consumers, credentials and acls, made at `now` (unix seconds)."""
    return list(_declared(file, sealer, now, keys))


def consumer_rows(file: File, sealer: Sealer, now: int, since: Since, shift: int = 0) -> ConsumerRows:
    """Consumers, credentials and acls, made at `now`. A time to live counts from when the file first declared its key. `shift`: lines that
    they stand further down than their origins say."""
    return ConsumerRows(file, tier_ids(file), sealer, now, since, shift)


def consumers_mark(file: File, sealer: Sealer) -> str:
    """A text that differs for files whose `consumer_rows` differ."""
    ids = tier_ids(file)
    parts = [file.name, *(ids[name] for name in file.consumers.tiers)]
    return sealer.hash_key(file.consumers.digest() + "\0".join(parts).encode(errors="surrogateescape")).hex()


def section_mark(digest: bytes, file: str, sealer: Sealer) -> str:
    """A text that differs for sections of other bytes, and of other files. `digest` tells of keys, its HMAC does not."""
    return sealer.hash_key(b"section\0" + digest + file.encode(errors="surrogateescape")).hex()


def rows_of_file(file: File, sealer: Sealer, now: int, since: Since, keys: Keys = NO_KEYS) -> dict[str, list[Row]]:
    """Every entity of the file as the store would hold it, by kind; an entity comes after the ones it refers to."""
    found: dict[str, list[Row]] = {kind: [] for kind in ORDER}
    for entity in _declared(file, sealer, now, keys):
        found[entity.kind].append(entity.row())
    consumers = consumer_rows(file, sealer, now, since)
    return found | {kind: list(consumers.rows(kind)) for kind in CONSUMER_KINDS}


def default_tier(file: File) -> str | None:
    """Id of the file's default tier."""
    if file.default_tier is None:
        return None
    return tier_ids(file)[file.default_tier]


def sections_of(file: File) -> Sections:
    """The file's settings, as the store holds them."""
    specs = {V1: file.v1, LEDGER: file.ledger}
    return {name: None if spec is None else spec.model_dump(mode="json") for name, spec in specs.items()}


def tier_ids(file: File) -> Mapping[str, str]:
    """Ids of the file's tiers, by name."""
    return {e.name: e.id for e in file.of("tiers")}


def _declared(file: File, sealer: Sealer, now: int, keys: Keys) -> Iterator[Declared]:
    for entity in file.entities:
        body: JsonDict = {**entity.body, "created_at": now}
        if KINDS[entity.kind].has_updated_at:
            body["updated_at"] = now
        if entity.kind == "models":
            spec = file.models[entity.name]
            texts, files = file.secret_texts(entity.name), file.certificates.get(entity.name, {})
            body |= with_sealed_keys(spec, texts, files, sealer.seal, sealer.hash_key)
            copy = file.tokenizers.get(entity.name)
            body["tokenizer_file"] = {"sha256": copy.sha256, "per_byte": copy.per_byte} if copy is not None else None
        if entity.kind == "certificates":
            own = keys[entity.id]
            written = {field: reference_of(file.source_text((*entity.path, field))) for field in own}
            whole = {**body, "key": own["key"], "key_alt": own.get("key_alt")}
            body = stored(whole, sealer.seal, sealer.hash_key, {}, written)
        yield Declared(entity.kind, body, Origin(file.name, entity.line))
