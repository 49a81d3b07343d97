"""The gateway's cost beside nginx doing the same: `python -m benches.load --rounds 7 --seconds 5`.

The gateway (all its processes) or nginx has one core, the client and the mock upstream the other. Pairs are interleaved
in one run, so that a noisy neighbour meets both. Beside it, each by itself: `changes` (until a change is in force), `reloads` (what
they cost callers), `bad_input` (how fast it is answered).
"""
