"""The configuration file: what is written -> what it means, or everything that is wrong with it at once.

`read` is the way in. It knows files, YAML, variables and the entities' own checks; it knows no store, no process and no
command: what becomes of a `File` is for others.

    source       bytes -> a document that knows where each part was written
    interpolate  ${VAR}, ${VAR:-default}, ${file:PATH} -> text
    shape        the file as pydantic models: for the JSON Schema, and for what no entity checks
    schema       these models -> schema.json, which `make reference` writes and `aigw schema` prints
    check        a document -> findings and parts; consumers in bulk, plain ones by a short way
    fingerprint  what decides whether anything changed since
    writers      whether somebody is writing a file at this moment
    file         File; entity: FileEntity, with ids that outlive a reorder
    finding      one error with its place; secret: what no message and no source line may show
"""

from aigw.config.file import File, FileEntity, Secret
from aigw.config.finding import ConfigErrors, Finding
from aigw.config.fingerprint import Fingerprint, fingerprint
from aigw.config.reader import MAX_BYTES, read, read_bytes, read_text
from aigw.config.writers import InTheMaking, being_written

__all__ = [
    "MAX_BYTES",
    "ConfigErrors",
    "File",
    "FileEntity",
    "Finding",
    "Fingerprint",
    "InTheMaking",
    "Secret",
    "being_written",
    "fingerprint",
    "read",
    "read_bytes",
    "read_text",
]
