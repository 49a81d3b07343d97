"""Key-auth credentials in the Admin API, where they differ from other entities: the store has an HMAC in place of the key.

In: input with a key or with the reference to it, rows. Out: rows with the HMAC, answers with the key (to the write that sent or made it,
or where `AIGW_ADMIN_SHOWS_KEYS=1` keeps it sealed) or with the reference.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from aigw.admin import envelope
from aigw.admin.hooks import FORMER_SECONDS, Engine, Hooks, wrong_reference
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Row
from aigw.control.store.write import WriteSession
from aigw.entities.keyauth_credential import key_hint, reference, referenced
from aigw.schema.fields import is_uuid
from aigw.schema.violations import SchemaViolation
from aigw.types import JsonDict

SEALED: Final = "sealed"
NOTE: Final = "moved"
"""A note that earlier versions made."""
_HIDDEN: Final = (SEALED, NOTE, "ttl")
"""Members of a stored credential that no answer has. `ttl` is computed."""
_SEGMENTS: Final = ("key-auth", "key-auths")
"""Segments of paths behind which a credential is named."""


def without_key(path: str) -> str:
    """A path for the log: a credential can be named by its key, which no log may have."""
    parts = path.split("/")
    named = {at for at, part in enumerate(parts[1:], 1) if unquote(parts[at - 1]) in _SEGMENTS and not is_uuid(part)}
    return "/".join("***" if at in named else part for at, part in enumerate(parts))


class Credentials(Hooks):
    """The hooks of `keyauth_credentials`."""

    key_fields = ("key",)

    def find(self, engine: Engine, reader: StoreReader, key: str, fixed: Mapping[str, str]) -> Row | None:
        if (key_id := referenced(key)) is not None:
            return reader.get(self.kind.name, "id", key_id, engine.now)
        return self._with_key(engine, reader, key)

    def typed(self, engine: Engine, given: JsonDict, row: Row | None) -> JsonDict:
        """A reference in place of the credential's own key goes: the key stays. Raises a Refusal for another one's."""
        given = {k: v for k, v in given.items() if k != "key_hint"}
        key_id = referenced(given["key"]) if isinstance(given.get("key"), str) else None
        if key_id is None:
            return given
        if row is None or key_id != row.id:
            wrong = wrong_reference(None if row is None else reference(row.id))
            raise envelope.schema_violation(SchemaViolation({"key": wrong}))
        return {k: v for k, v in given.items() if k != "key"}

    def named(self, given: JsonDict, name: str | None, row: Row | None) -> JsonDict:
        """A reference in the path names the credential, and is no key. Raises 404 for one that names none."""
        if name is None or referenced(name) is None:
            return super().named(given, name, row)
        if row is None:
            raise envelope.not_found()
        return given

    def taken_over(
        self, engine: Engine, session: WriteSession, key: str, data: JsonDict, parents: Mapping[str, str]
    ) -> Row | None:
        """The credential with the key in the body, under its new id. decK knows a credential by its key; where it sees a reference
        only, it sends the key with a new id, maybe below another consumer, and then deletes the old one. The key never stops working.
        A client that sees keys would send the old id, so another consumer's key with a new one is a clash, as in Kong."""
        sent = data.get("key")
        if not isinstance(sent, str) or referenced(sent) is not None:
            return None
        row = self._with_key(engine, session, sent)
        is_own = row is not None and row.body["consumer"]["id"] == parents.get("consumer")
        if row is None or not (is_own or (parents and not engine.shows_keys)):
            return None
        session.must_be_of(self.kind.name, row)
        session.note_former(self.kind, row, engine.now + FORMER_SECONDS)
        return session.rename(self.kind, row, {**row.body, "id": key})

    def merged(self, engine: Engine, row: Row, given: JsonDict) -> JsonDict:
        kept = {k: v for k, v in row.body.items() if k not in (SEALED, NOTE)}
        if "ttl" not in given and row.expires_at:
            kept["ttl"] = max(1, row.expires_at - engine.soon)  # counted from `soon` again, and 0 would mean for ever
        return {**kept, **given}

    def sample(self, reader: StoreReader, data: JsonDict) -> tuple[JsonDict, Row | None]:
        """A reference stands for a key of some credential: the check does not look for it."""
        key = data.get("key")
        if isinstance(key, str) and referenced(key):
            data = type(data)({k: v for k, v in data.items() if k != "key"})
        return data, None

    def store(self, engine: Engine, session: WriteSession, body: JsonDict, row: Row | None) -> JsonDict:
        key, ttl = body["key"], body["ttl"]
        if key is None and row is None:  # a new credential without a key gets the default
            key = self.kind.defaults()["key"]
        if key is not None:
            digest, hint = engine.publisher.hash_key(key.encode()), key_hint(key)
            session.purge_hash(digest, engine.now)
        else:
            assert row is not None
            digest, hint = row.hash, row.body["key_hint"]
        kept = {**body, "key": None, "key_hint": hint, "ttl": None}
        # Workers compare whole seconds: counted from the second before, a key with ttl 1 could be expired on arrival.
        end = engine.soon + ttl if ttl else 0
        known = row if row is not None and row.hash == digest else None
        if engine.shows_keys and known is not None and _key_of(engine, known):
            kept[SEALED] = known.body[SEALED]
        elif engine.shows_keys and key is not None:
            n = row.n if row is not None else session.number(self.kind.name, body["id"])
            kept[SEALED] = engine.publisher.seal(f"{n} {key}".encode())
        if known is None or known.expires_at != end or known.body != kept:
            known = session.put(self.kind, kept, row, digest, end)
        return {**self.shown(engine, session, known), **({} if key is None else {"key": key})}

    def shown(self, engine: Engine, reader: StoreReader, row: Row) -> JsonDict:
        body = {k: v for k, v in row.body.items() if k not in _HIDDEN}
        body["key"] = _key_of(engine, row) or reference(row.id)
        # Rounded down, as in Kong. A client may send this number back, and 0 would mean for ever.
        return {**body, "ttl": max(1, row.expires_at - engine.soon - 1)} if row.expires_at else body

    def _with_key(self, engine: Engine, reader: StoreReader, key: str) -> Row | None:
        return reader.get(self.kind.name, "hash", engine.publisher.hash_key(key.encode()), engine.now)


def _key_of(engine: Engine, row: Row) -> str | None:
    """The key of a credential, if it is sealed in the store and answers may show it."""
    sealed = row.body.get(SEALED) if engine.shows_keys else None
    if sealed is None:
        return None
    try:
        owner, _, key = engine.publisher.unseal(sealed).decode().partition(" ")
    except ValueError:  # damaged, or of another data folder
        return None
    return key if owner == str(row.n) else None
