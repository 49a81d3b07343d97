"""Which names belong to entities that are gone: of two consumers of one name, the one that lives has it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; 0 until the compactor has looked at the entities of now."""
    op.add_column("names", sa.Column("gone", sa.Integer, nullable=False, server_default=sa.text("0")))
