"""A long run under mixed load: nothing of the gateway may grow."""
