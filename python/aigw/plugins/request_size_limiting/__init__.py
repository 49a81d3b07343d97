"""request-size-limiting: bounds the size of request bodies."""
