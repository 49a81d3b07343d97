"""The number of a segment's first event: retention may have deleted events of exactly those segments that begin before the oldest one."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; 0 in older rows, whose first event is not known."""
    op.add_column("cursors", sa.Column("first", sa.Integer, nullable=False, server_default=sa.text("0")))
