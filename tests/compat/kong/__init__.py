"""decK and the tests of Kong's Go client against a gateway: `python -m tests.compat kong`, a part of `make compat`.

tools    builds both from their modules, with the versions of `go.mod`
groups   the client's own tests, by group, and the tests that must fail, each with its reason
cycle    an operator's work with decK: ping, validate, sync, diff, dump, apply, reset, with and without shown keys
record   the requests of such a cycle with their answers, which tests/integration/kong replays without a network
"""
