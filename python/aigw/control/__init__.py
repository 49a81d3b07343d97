"""The control plane: a configuration file and the Admin API -> the store -> the files of the snapshot, which workers read.

    file          the configuration file: read, declared, applied, compared, dumped
    group_commit  the one thread that writes: many changes, one transaction, one publication
    publish       entities -> the policy and the records of the snapshot, and their publication
    store         SQLite: tables, rows, queries, the write session, migrations

Each package imports only those below it. `serve/control_plane.py` builds the objects; the request path imports no module of this package.
"""
