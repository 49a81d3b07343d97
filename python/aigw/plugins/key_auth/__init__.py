"""key-auth: who calls, by an API key in a header or a query argument."""
