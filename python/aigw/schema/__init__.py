"""Field types and their error messages, shared by the entities and the plugins' configurations.

fields      field types, with their bounds
violations  pydantic's findings -> Kong's
describe    a model -> its schema in Kong's form
"""
