"""The mark of a data folder's secret: 8 hex digits that tell two secrets apart and say nothing about either.

In: a hasher, or a data folder. Out: the mark. A dump writes it before each HMAC (`key_hash: hmac:MARK:DIGITS`), so a file's HMACs can be
compared with the secret of the gateway that reads them.
"""

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aigw.config.interpolate import read_regular

PROOF: Final = b"aigw: is this the secret of the stored keys?"
_LENGTH: Final = 32
"""Bytes of a secret."""
_DIGITS: Final = 8


def mark_of(hash_key: Callable[[bytes], bytes]) -> str:
    """The mark of the secret that this function hashes with."""
    return hash_key(PROOF).hex()[:_DIGITS]


def mark_in(data: Path) -> str | None:
    """The mark of a data folder's secret; None for a folder without one that can be read."""
    try:
        secret = read_regular(data / "secret", _LENGTH)
    except (OSError, ValueError):
        return None
    return mark_of(lambda key: hmac.digest(secret, key, hashlib.sha256)) if len(secret) == _LENGTH else None
