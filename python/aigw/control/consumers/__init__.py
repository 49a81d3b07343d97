"""Consumers of a large file: with one key each and nothing else, stored in bulk without a value for each.

lean     consumers with their keys as one native array
sift     that array against the store: new, changed, moved
first    a first large file into empty tables
rewrite  many changed consumers, written again in the order of their rows
"""
