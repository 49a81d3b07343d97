"""Tiers, models and groups; the origin of an entity; the tier of a consumer."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add tables and columns. Existing entities belong to the Admin API, and its consumers have no tier."""
    for name in ("tiers", "models"):
        op.create_table(
            name,
            sa.Column("id", sa.Text, primary_key=True),
            sa.Column("n", sa.Integer, nullable=False, unique=True),
            sa.Column("name", sa.Text, nullable=False, unique=True),
            sa.Column("body", sa.Text, nullable=False),
            sa.Column("origin", sa.Text),
        )
    op.create_table(
        "acls",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("consumer", sa.Text, sa.ForeignKey("consumers.id", ondelete="RESTRICT"), nullable=False),
        sa.Column("group", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
        sa.UniqueConstraint("consumer", "group"),
    )
    op.create_index("ix_acls_consumer", "acls", ["consumer"])
    for name in ("services", "routes", "consumers", "keyauth_credentials", "plugins"):
        op.add_column(name, sa.Column("origin", sa.Text))
    tier = sa.Column("tier", sa.Text, sa.ForeignKey("tiers.id", ondelete="SET NULL"))
    op.add_column("consumers", tier, inline_references=True)
    op.create_index("ix_consumers_tier", "consumers", ["tier"])
