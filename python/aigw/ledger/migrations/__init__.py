"""The ledger's schema, one file per step. Imported only for an older store: alembic takes half a second to import."""
