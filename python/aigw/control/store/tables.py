"""The store's tables, as SQLAlchemy Core sees them. `migrations/` makes the same tables step by step; a test compares both.

Values that are searched, unique or references have columns; the rest of an entity is JSON in `body`. A number belongs to one
id for ever: the number of a deleted entity moves to `row_numbers`. There may be a million consumers and credentials: their
number is SQLite's row id, and their indexes have names, so a first large file fills the tables before it makes the indexes. `origin` is
JSON (file, line, content hash) for entities of the configuration file, and null for entities of the Admin API.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

HEAD: Final = "0007"
"""The newest migration. Opening a store of another revision migrates it."""

metadata: Final = MetaData()

meta: Final = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

row_numbers: Final = Table(
    "row_numbers",
    metadata,
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("n", Integer, nullable=False),
    Column("name", Text),  # for people, as it was known last; null for other numbers, and in rows of earlier versions
    PrimaryKeyConstraint("kind", "n"),
    UniqueConstraint("kind", "id"),
)

columns: Final = Table(
    "columns",
    metadata,
    Column("n", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    UniqueConstraint("kind", "key"),
)

tags: Final = Table(
    "tags",
    metadata,
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("tag", Text, nullable=False),
    PrimaryKeyConstraint("kind", "id", "tag"),
    Index("tags_by_tag", "tag"),
)

certificates: Final = Table(
    "certificates",
    metadata,
    Column("id", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
)

snis: Final = Table(
    "snis",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("certificate", Text, ForeignKey("certificates.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
)

ca_certificates: Final = Table(
    "ca_certificates",
    metadata,
    Column("id", Text, primary_key=True),
    Column("cert_digest", Text, nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
)

services: Final = Table(
    "services",
    metadata,
    Column("id", Text, primary_key=True),
    Column("n", Integer, nullable=False, unique=True),
    Column("name", Text, unique=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
    Column("client_certificate", Text, ForeignKey("certificates.id", ondelete="RESTRICT"), index=True),
)

routes: Final = Table(
    "routes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("n", Integer, nullable=False, unique=True),
    Column("name", Text, unique=True),
    Column("service", Text, ForeignKey("services.id", ondelete="RESTRICT"), index=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
)

tiers: Final = Table(
    "tiers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("n", Integer, nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
)

models: Final = Table(
    "models",
    metadata,
    Column("id", Text, primary_key=True),
    Column("n", Integer, nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
)

consumers: Final = Table(
    "consumers",
    metadata,
    Column("n", Integer, primary_key=True),
    Column("id", Text, nullable=False),
    Column("username", Text),
    Column("custom_id", Text),
    Column("tier", Text, ForeignKey("tiers.id", ondelete="SET NULL"), index=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
    Index("ix_consumers_id", "id", unique=True),
    Index("ix_consumers_username", "username", unique=True),
    Index("ix_consumers_custom_id", "custom_id", unique=True),
)

keyauth_credentials: Final = Table(
    "keyauth_credentials",
    metadata,
    Column("n", Integer, primary_key=True),
    Column("id", Text, nullable=False),
    Column("consumer", Text, ForeignKey("consumers.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("hash", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
    Index("ix_keyauth_credentials_id", "id", unique=True),
    Index("ix_keyauth_credentials_hash", "hash", unique=True),
)

acls: Final = Table(
    "acls",
    metadata,
    Column("id", Text, primary_key=True),
    Column("consumer", Text, ForeignKey("consumers.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("group", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("origin", Text),
    UniqueConstraint("consumer", "group"),
)

upstreams: Final = Table(
    "upstreams",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
)

targets: Final = Table(
    "targets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("upstream", Text, ForeignKey("upstreams.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("target", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("origin", Text),
    UniqueConstraint("upstream", "target"),
)

plugins: Final = Table(
    "plugins",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("instance_name", Text, unique=True),
    Column("route", Text, ForeignKey("routes.id", ondelete="RESTRICT"), index=True),
    Column("service", Text, ForeignKey("services.id", ondelete="RESTRICT"), index=True),
    Column("consumer", Text, ForeignKey("consumers.id", ondelete="RESTRICT"), index=True),
    Column("scope", Text, nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("origin", Text),
    Column("consumer_group", Text, ForeignKey("tiers.id", ondelete="RESTRICT"), index=True),
)

ENTITIES: Final[Mapping[str, Table]] = {
    t.name: t
    for t in (
        certificates,
        snis,
        ca_certificates,
        upstreams,
        targets,
        services,
        routes,
        tiers,
        models,
        consumers,
        keyauth_credentials,
        acls,
        plugins,
    )
}
