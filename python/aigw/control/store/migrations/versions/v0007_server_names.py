"""Server names are found and unique without letter case."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Fold the column; bodies keep the names as given. Of two names that differ in letter case only, the second stays as it is."""
    op.execute("UPDATE OR IGNORE snis SET name = lower(name)")
