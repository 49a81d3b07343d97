"""Plugin prometheus: stored for Kong's clients, without an effect."""
