"""Kong's upstreams and their targets, and plugins on consumer groups."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables and the column."""
    op.create_table(
        "upstreams",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
    )
    op.create_table(
        "targets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("upstream", sa.Text, sa.ForeignKey("upstreams.id", ondelete="RESTRICT"), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
        sa.UniqueConstraint("upstream", "target"),
    )
    op.create_index("ix_targets_upstream", "targets", ["upstream"])
    op.execute("ALTER TABLE plugins ADD COLUMN consumer_group TEXT REFERENCES tiers (id) ON DELETE RESTRICT")
    op.create_index("ix_plugins_consumer_group", "plugins", ["consumer_group"])
    op.execute("UPDATE plugins SET body = json_set(body, '$.consumer_group', NULL)")
