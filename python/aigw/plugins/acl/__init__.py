"""acl: which groups of consumers may pass."""
