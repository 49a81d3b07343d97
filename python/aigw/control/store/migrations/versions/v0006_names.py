"""The names of deleted entities: entries that come after the deletion name their consumer, tier and model."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; null for entities that were deleted before."""
    op.add_column("row_numbers", sa.Column("name", sa.Text))
