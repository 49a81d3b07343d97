"""Alembic's entry: runs the steps on the connection that the store hands over. No configuration file."""

from alembic import context

from aigw.control.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
