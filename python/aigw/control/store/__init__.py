"""The store: entities as rows of SQLite, read and written by SQLAlchemy Core. It knows no HTTP and no snapshot.

database    `Store`: opens the file, migrates it, begins reads and the one write transaction
read        queries on one connection, each a consistent view
write       the write session: insert, update, delete, tags, numbers, inside one transaction
rows        an entity as a value (`Row`), its record and back, and the changes of a write
origin      file and line of an entity of the configuration file, and the hash of its content
tables      the tables as SQLAlchemy sees them
migrations  the steps from each older schema
"""
