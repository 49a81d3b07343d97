"""The ledger in SQLite, measured without a gateway: `python -m benches.ledger` prints the figures, and writes them with --write."""
