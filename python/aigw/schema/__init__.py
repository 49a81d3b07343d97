"""What a field may hold, and in whose words we say that it does not: shared by the entities and the plugins' configs.

`fields` has the types (bounds beside the type), `violations` turns pydantic's findings into Kong's, `describe` turns a
model into Kong's description of it. Nothing here knows an entity or a plugin.
"""
