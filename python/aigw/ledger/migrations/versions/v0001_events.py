"""The first schema: events, where each segment stands, names, rollups and refusals."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table of the first release."""
    op.create_table("meta", sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    op.create_table(
        "names",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "n"),
        sqlite_with_rowid=False,
    )
    op.create_index("names_by_name", "names", ["kind", "name"])
    op.create_table(
        "cursors",
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("life", sa.BigInteger, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("segment", sa.Integer, nullable=False),
        sa.Column("next", sa.Integer, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column("damage", sa.Text),
        sa.UniqueConstraint("life", "slot", "segment"),
    )
    _events()
    _sums()


def _events() -> None:
    numbers = (
        "consumer credential tier route model upstream service agent status attempt depth outcome source flags input cached_input"
        " cache_write output reasoning price cost price_version cost_version latency_us first_byte_us queued_us limit_set"
    )
    op.create_table(
        "events",
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("cursor", sa.Integer, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("admitted_at", sa.BigInteger, nullable=False),
        sa.Column("duration", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.LargeBinary, nullable=False),
        sa.Column("parent", sa.LargeBinary),
        sa.Column("run", sa.LargeBinary),
        *(sa.Column(name, sa.Integer, nullable=False) for name in numbers.split()),
    )
    op.create_index("events_by_request", "events", [sa.text("(n >> 16)"), sa.text("(substr(request_id, 11))")])
    op.create_table(
        "blocks",
        sa.Column("block", sa.Integer, primary_key=True),
        sa.Column("low", sa.BigInteger, nullable=False),
        sa.Column("high", sa.BigInteger, nullable=False),
    )


def _sums() -> None:
    keys = ("start", "consumer", "credential", "tier", "route", "model", "agent")
    sums = "requests counted errors input cached_input cache_write output reasoning cost price unpriced overruns"
    for name in ("rollups_minute", "rollups_hour", "rollups_day"):
        op.create_table(
            name,
            *(sa.Column(key, sa.Integer, nullable=False) for key in keys),
            *(sa.Column(one, sa.BigInteger, nullable=False) for one in sums.split()),
            sa.PrimaryKeyConstraint(*keys),
            sqlite_with_rowid=False,
        )
    few = ("start", "tier", "route", "model", "agent")
    op.create_table(
        "totals_minute",
        *(sa.Column(key, sa.Integer, nullable=False) for key in few),
        *(sa.Column(one, sa.BigInteger, nullable=False) for one in sums.split()),
        sa.PrimaryKeyConstraint(*few),
        sqlite_with_rowid=False,
    )
    of_denials = ("minute", "consumer", "tier", "model", "reason")
    op.create_table(
        "denials",
        *(sa.Column(key, sa.Integer, nullable=False) for key in of_denials),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(*of_denials),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "doubts",
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("column_n", "row_n")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("window_end", "amount")),
    )
