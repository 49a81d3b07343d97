"""The ledger in SQLite: entries of the workers' segments as events, their sums, and the answers made of them.

source      protocol of the segments, and the fields of an entry
tables      tables of `ledger.db`, as SQLAlchemy sees them; `migrations` makes them step by step
database    `LedgerStore`: opens the file, begins reads and the one write transaction
compactor   thread that moves entries from segments into events and sums
batch       entries of several segments on their way into one transaction
sums        rollups: SQL that adds a batch of events to minutes, hours and days
names       numbers of entries -> names that people read
unpriced    calls of models without a cost, counted for the metrics
prices      versions of prices: written before they come in force, read in pages
retention   deletes old events and rollups in small steps
query       filters, groupings and sizes of a request, checked
offset      offsets of pages, checked against the row that they follow
notes       remarks about an answer: deleted parts of its range, unknown names
events      pages of events, and one request's events
own         one consumer's usage, as it may see it itself
usage       sums by group, from rollups, and refusals
"""
