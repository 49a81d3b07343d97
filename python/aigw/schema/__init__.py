"""The types of fields, and the words for a value that does not fit: shared by the entities and the plugins' configurations.

fields      field types, with their bounds
violations  pydantic's findings -> Kong's
describe    a model -> Kong's description of it
"""
