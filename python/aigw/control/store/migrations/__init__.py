"""The store's schema, one file per step. Imported only when a store is behind: alembic costs half a second."""
