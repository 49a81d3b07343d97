"""The configuration file in the control plane: in force as a whole, or not at all.

in_force   `Configuration`: load, apply, reject, and the state that `GET /status` shows
read       the text of the file, and its check at start, before the store is opened
copies     the copies of tokenizer files in the data folder
declare    a checked file -> the entities to store, keys as HMACs
consumers  consumers, credentials and acls of the file as rows, made natively
apply      declared entities -> the store, in one transaction, changed rows only
conflicts  clashes of the file with entities of the Admin API, each with its repair
changes    the changes of one write, as counts and lines for people
diff       a file against the store, entity by entity: `aigw diff`
dump       the store as a configuration file: `aigw dump`
stamp      the content in force and the history of loads, kept in the store
"""
