"""`aigw audit`: whether entries, rollups and counters tell the same story.

Read in this order: report (the answer), rollups (the ledger against itself), recount (sums of entries, by window), turns (times that the
clock told twice), compare (entries against the counters of limits), run (all of it).
"""
