"""acl: admits or refuses consumers by their groups."""
