"""Alembic's entry: runs the steps on the connection of the ledger, without an alembic.ini."""

from alembic import context

from aigw.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
