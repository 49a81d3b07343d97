"""Consumers and credentials get their number as row id, and names for their indexes; `row_numbers` keeps deleted ones only."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Copy both tables in the order of their numbers. Needs foreign keys off: SQLite treats a dropped table as deleted rows."""
    op.create_table(
        "new_consumers",
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("username", sa.Text),
        sa.Column("custom_id", sa.Text),
        sa.Column("tier", sa.Text, sa.ForeignKey("tiers.id", ondelete="SET NULL")),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
    )
    op.create_table(
        "new_keyauth_credentials",
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("consumer", sa.Text, sa.ForeignKey("consumers.id", ondelete="RESTRICT"), nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
    )
    for name, columns in (
        ("consumers", "n, id, username, custom_id, tier, body, origin"),
        ("keyauth_credentials", "n, id, consumer, hash, expires_at, body, origin"),
    ):
        op.execute(f"INSERT INTO new_{name} ({columns}) SELECT {columns} FROM {name} ORDER BY n")  # noqa: S608
        op.drop_table(name)
        op.rename_table(f"new_{name}", name)
    for name, column in (
        ("consumers", "id"),
        ("consumers", "username"),
        ("consumers", "custom_id"),
        ("keyauth_credentials", "id"),
        ("keyauth_credentials", "hash"),
    ):
        op.create_index(f"ix_{name}_{column}", name, [column], unique=True)
    op.create_index("ix_consumers_tier", "consumers", ["tier"])
    for column in ("consumer", "expires_at"):
        op.create_index(f"ix_keyauth_credentials_{column}", "keyauth_credentials", [column])
    for name in ("services", "routes", "tiers", "models", "consumers", "keyauth_credentials"):
        op.execute(f"DELETE FROM row_numbers WHERE kind = '{name}' AND id IN (SELECT id FROM {name})")  # noqa: S608
