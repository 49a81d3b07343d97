"""Measures the gateway next to nginx doing the same work: `python -m benches.load --rounds 7 --seconds 5`.

The gateway (all its processes) or nginx has one core, the client and the mock upstream share the other. Pairs are interleaved in one
run, so a noisy neighbour affects both. Separate benches: `changes` (time until a change is in force), `keys` (time until a new key
opens), `reloads` (cost of reloads to callers), `bad_input` (time to refuse bad input), `against` (two checkouts in turns).
"""
