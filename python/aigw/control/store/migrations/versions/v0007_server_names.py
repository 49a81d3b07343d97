"""Server names are found and unique without letter case."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Fold the column; bodies keep the names as given. Of names that differ in letter case only, the file's or the oldest stays: a client
    that sends the name could get one certificate only."""
    op.execute(
        "DELETE FROM snis WHERE id NOT IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY lower(name)"
        " ORDER BY origin IS NULL, json_extract(body, '$.created_at'), id) AS place FROM snis) WHERE place = 1)"
    )
    op.execute("DELETE FROM tags WHERE kind = 'snis' AND id NOT IN (SELECT id FROM snis)")
    op.execute("UPDATE snis SET name = lower(name)")
