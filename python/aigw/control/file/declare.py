"""A checked configuration file -> entities for the store. In: a `File`. Out: `Declared`, in an order that the store accepts.

This module turns keys into HMACs and seals upstreams' keys: later modules see no secret. The reference of a secret (`${VAR}`) is kept
with its position, so a dump can show it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from aigw.config import File, FileEntity
from aigw.config.entity import entity_id
from aigw.control.consumers.lean import Leans, lean
from aigw.control.file.apply import Declared
from aigw.control.store.origin import Origin
from aigw.entities import KINDS
from aigw.entities.model import reference_of, with_sealed_keys
from aigw.types import JsonDict

Since = Callable[[list[str]], Mapping[str, int]]
"""Ids of credentials -> when the store says that the file's were made."""


class Sealer(Protocol):
    """The part of the publisher that takes secrets."""

    def hash_key(self, key: bytes) -> bytes: ...
    def seal(self, secret: bytes) -> str: ...


def declared(
    file: File, sealer: Sealer, now: int, since: Since, entities: Iterable[FileEntity] | None = None
) -> list[Declared]:
    """Everything the file declares, or these of its entities, made at `now`. A time to live counts from when the file first
    declared its key."""
    listed = file.entities if entities is None else tuple(entities)
    timed = [_credential_id(e, _digest(e, sealer)) for e in listed if e.ttl]
    return list(_declared(file, listed, sealer, now, since(timed) if timed else {}))


def plainly(file: File, sealer: Sealer, now: int) -> Leans:
    """The plain consumers, made at `now`."""
    return lean(file.plain, file.name, _tiers(file), sealer, now)


def default_tier(file: File) -> str | None:
    """Id of the file's default tier."""
    if file.default_tier is None:
        return None
    return _tiers(file)[file.default_tier]


def _tiers(file: File) -> dict[str, str]:
    return {e.name: e.id for e in file.others if e.kind == "tiers"}


def _declared(
    file: File, entities: Sequence[FileEntity], sealer: Sealer, now: int, made: Mapping[str, int]
) -> Iterator[Declared]:
    tiers, name = _tiers(file), file.name
    keys = any(entity.kind == "keyauth_credentials" for entity in entities)
    referring = {path[:-1] for path in file.document.containing("${") if path[-1:] == ("key",)} if keys else set()
    updated = {kind.name: kind.has_updated_at for kind in KINDS.values()}
    for entity in entities:
        body: JsonDict = {**entity.body, "created_at": now}
        if updated[entity.kind]:
            body["updated_at"] = now
        if entity.kind == "models":
            spec = file.models[entity.name]
            body |= with_sealed_keys(spec, file.api_keys_written(entity.name), sealer.seal, sealer.hash_key)
        if entity.kind == "keyauth_credentials":
            text = file.written((*entity.path, "key")) if entity.path in referring else None
            digest = _digest(entity, sealer)
            body["id"] = _credential_id(entity, digest)
            yield _credential(file.name, entity, body, digest, made.get(body["id"], now), text)
        else:
            tier = tiers[entity.tier] if entity.tier is not None else None
            yield Declared(entity.kind, body, Origin(name, entity.line), tier)


def _digest(entity: FileEntity, sealer: Sealer) -> bytes:
    """The HMAC of a credential's key."""
    return sealer.hash_key(entity.key.reveal().encode()) if entity.key is not None else entity.key_hash or b""


def _credential_id(entity: FileEntity, digest: bytes) -> str:
    """Its owner and the HMAC of its key: ids are shown, and a plain hash of the key would let anybody try keys against them."""
    return entity_id("keyauth_credentials", f"{entity.body['consumer']['id']}:{digest.hex()}")


def _credential(file: str, entity: FileEntity, body: JsonDict, digest: bytes, made: int, text: str | None) -> Declared:
    written = None
    body["created_at"] = made
    if entity.key is not None:
        written = reference_of(text)
        if written is not None and written != text:
            written = None  # its default may be the key: then its HMAC is what can be shown
    origin = Origin(file, entity.line, written=written)
    return Declared(entity.kind, body, origin, digest=digest, expires_at=made + entity.ttl if entity.ttl else 0)
