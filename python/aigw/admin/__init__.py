"""The Admin API on :8001: Kong's subset, generic over the entities, and our own paths.

app       the ASGI application: a request in, an answer of Kong's shape out
guard     admits or refuses a caller by its headers
paths     path -> methods, each a function of a `Call`
call      one request, read, and its answer
change_log the lines of the process log about changes
body      JSON, form or multipart -> one JSON object
envelope  errors, and pages of a list
crud      create, read, list, upsert, patch, delete: one engine for all entities
hooks     the steps in which entity kinds differ, as most do them
kinds     kind -> its hooks; credentials and certificates have modules of their own
tiers     /tiers and /models
groups    /consumer_groups: tiers, as Kong's clients see them
limits    /consumers/{c}/limits: a consumer's standing
usage     /usage, /usage/events, /denials: the ledger
config    /config: the configuration in force, a new one, a comparison, the history
page      / for browsers: links to the others
info      /, /status, /readyz, /endpoints, /schemas
context   the objects that every handler uses
"""
