"""The configuration file: bytes -> a checked `File`, or all findings at once.

`read` is the entry point. This package knows files, YAML, variables and the entities' checks. It knows no store, no process and no
command line.

    source       bytes -> a document with the position of each part
    interpolate  ${VAR}, ${VAR:-default}, ${file:PATH} -> text
    shape        the file as pydantic models: for the JSON Schema, and for checks outside the entities
    schema       these models -> schema.json, which `make reference` writes and `aigw schema` prints
    check        a document -> findings and parts; consumers: findings on the ones that native code refused
    section      the consumers of a file, where they are the same as before: the rest is read around them
    warnings     parts of a usable file that probably lack the effect their author wanted
    prices       the prices of a file alone, without the rest's references
    mark         tells whose secret made an HMAC
    report       findings of the entities' checks -> findings about the file, with hints
    fingerprint  hashes that detect a change
    writers      whether a process has a file open for writing
    file         File; entity: FileEntity, with ids that outlive a reorder
    finding      one error with its position; secret: hides secrets in messages and source lines
"""

from aigw.config.file import File, FileEntity
from aigw.config.finding import ConfigErrors, Finding, rendered
from aigw.config.fingerprint import Fingerprint, fingerprint
from aigw.config.mark import PROOF, mark_in, mark_of
from aigw.config.prices import Prices, read_prices
from aigw.config.reader import MAX_BYTES, read, read_bytes, read_text
from aigw.config.section import Known, Section
from aigw.config.writers import InTheMaking, being_written

__all__ = [
    "MAX_BYTES",
    "PROOF",
    "ConfigErrors",
    "File",
    "FileEntity",
    "Finding",
    "Fingerprint",
    "InTheMaking",
    "Known",
    "Prices",
    "Section",
    "being_written",
    "fingerprint",
    "mark_in",
    "mark_of",
    "read",
    "read_bytes",
    "read_prices",
    "read_text",
    "rendered",
]
