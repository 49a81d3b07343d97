"""The Admin API on :8001: Kong's subset, generic over the entities, and what is our own beside it."""
