"""key-auth: identifies the caller by an API key in a header or a query argument."""
