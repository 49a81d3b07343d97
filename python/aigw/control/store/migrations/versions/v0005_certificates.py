"""Certificates, SNIs and CA certificates, and the certificate that a service shows."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables and the column. Services of before show no certificate."""
    op.create_table(
        "certificates",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
    )
    op.create_table(
        "snis",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("certificate", sa.Text, sa.ForeignKey("certificates.id", ondelete="RESTRICT"), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
    )
    op.create_index("ix_snis_certificate", "snis", ["certificate"])
    op.create_table(
        "ca_certificates",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cert_digest", sa.Text, nullable=False, unique=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
    )
    op.execute(
        "ALTER TABLE services ADD COLUMN client_certificate TEXT REFERENCES certificates (id) ON DELETE RESTRICT"
    )
    op.create_index("ix_services_client_certificate", "services", ["client_certificate"])
