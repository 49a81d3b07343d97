"""request-size-limiting: how large a request body may be."""
