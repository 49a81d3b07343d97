"""Publication: entities -> the files of the snapshot, in as little work as a change needs.

publication    remembers the published state; a change -> calls of the native publisher, after the commit
compile        entities -> the policy, consumer records, counter columns; pure
compile_tiers  tiers and models -> their entries of the policy; pure
records        consumers and keys as records of the snapshot, with names
files          the native publisher as a protocol, for publication and tests
repair         a file that a worker could not load is published again
"""
