"""The first schema: entities, their tags, row numbers and counter columns."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table of the first release."""
    _facts()
    _services_and_routes()
    _consumers()
    _plugins()


def _facts() -> None:
    op.create_table("meta", sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    op.create_table(
        "row_numbers",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("kind", "n"),
        sa.UniqueConstraint("kind", "id"),
    )
    op.create_table(
        "columns",
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.UniqueConstraint("kind", "key"),
    )
    op.create_table(
        "tags",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tag", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", "tag"),
    )
    op.create_index("tags_by_tag", "tags", ["tag"])


def _services_and_routes() -> None:
    op.create_table(
        "services",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("n", sa.Integer, nullable=False, unique=True),
        sa.Column("name", sa.Text, unique=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "routes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("n", sa.Integer, nullable=False, unique=True),
        sa.Column("name", sa.Text, unique=True),
        sa.Column("service", sa.Text, sa.ForeignKey("services.id", ondelete="RESTRICT")),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ix_routes_service", "routes", ["service"])


def _consumers() -> None:
    op.create_table(
        "consumers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("n", sa.Integer, nullable=False, unique=True),
        sa.Column("username", sa.Text, unique=True),
        sa.Column("custom_id", sa.Text, unique=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "keyauth_credentials",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("n", sa.Integer, nullable=False, unique=True),
        sa.Column("consumer", sa.Text, sa.ForeignKey("consumers.id", ondelete="RESTRICT"), nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ix_keyauth_credentials_consumer", "keyauth_credentials", ["consumer"])
    op.create_index("ix_keyauth_credentials_expires_at", "keyauth_credentials", ["expires_at"])


def _plugins() -> None:
    op.create_table(
        "plugins",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("instance_name", sa.Text, unique=True),
        sa.Column("route", sa.Text, sa.ForeignKey("routes.id", ondelete="RESTRICT")),
        sa.Column("service", sa.Text, sa.ForeignKey("services.id", ondelete="RESTRICT")),
        sa.Column("consumer", sa.Text, sa.ForeignKey("consumers.id", ondelete="RESTRICT")),
        sa.Column("scope", sa.Text, nullable=False, unique=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    for field in ("route", "service", "consumer"):
        op.create_index(f"ix_plugins_{field}", "plugins", [field])
