"""Hides keys, passwords and tokens in messages and shown source lines. In: names, texts. Out: texts without secrets.

The name of a key decides, including misspelt names, and so does its position: all of a credential is a secret, except tags and ttl;
a number in a limit of a tier is none, whatever its name.
A reference alone (`${VAR}`) is shown, because it does not contain the secret.
"""

import difflib
import re
from typing import Final

from aigw.config.finding import Path

MASK: Final = "***"
_NAMES: Final = ("key", "key_alt", "key_hash", "api_key", "apikey", "password", "secret", "token", "authorization")
_SECRET: Final = re.compile(
    r"key\Z|key_alt|key_hash|keyhash|passw|passphrase|secret|credential|token\Z|authorization", re.IGNORECASE
)
_OPEN: Final = frozenset({"tags", "ttl", "id"})
_REFERENCE: Final = re.compile(r"""["']?\$\{(?:[A-Za-z_][A-Za-z0-9_]*|file:[^}]*)\}["']?\Z""")
_AMOUNT: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?\Z")
"""2^48 tokens have 15 digits, an amount of money nine decimals."""
_USER: Final = re.compile(r"(://[^/\s:@'\"]*):[^/\s@'\"]+@")
_OPENS: Final = re.compile(r":\s*(?:[|>][-+0-9]*|['\"])?\s*\Z")
NEAR: Final = 200
"""Lines above in which a secret may have begun: an RSA key of 8192 bits has 100."""
_WORD: Final = re.compile(r"""["']?([A-Za-z_][\w-]*)["']?\s*:(?=\s|\Z|["'\[{|>&*])""")


def secret_name(name: str) -> bool:
    """Whether the value of this key is a secret."""
    if name in ("key_names", "keyauth_credentials", "hide_credentials") or name.endswith(("tokens", "tokenizer")):
        return False
    return bool(_SECRET.search(name)) or bool(difflib.get_close_matches(name.lower()[:32], _NAMES, 1, 0.75))


def secret_path(path: Path) -> bool:
    """Whether the value at this path is a secret, or may be."""
    names = [step for step in path if isinstance(step, str)]
    if "keyauth_credentials" in names:
        return not _OPEN & set(names)
    return any(secret_name(name) for name in names[1:] or names)


def limit_amount(path: Path, text: str) -> bool:
    """Whether this is an amount of a tier's limit, such as `token: 5`: a misspelt meter is no token of somebody."""
    return path[:1] == ("tiers",) and path[2:3] == ("limits",) and len(path) == 5 and bool(_AMOUNT.match(text))


def masked(text: str) -> str:
    """A form of a secret's text that is safe to show."""
    return text if _REFERENCE.match(text) else MASK


def without_users(text: str) -> str:
    """URLs without their passwords."""
    return _USER.sub(rf"\1:{MASK}@", text)


def masked_line(line: str, before: list[str]) -> str:
    """A line of an unparsable file, masked from the first name of a secret on.

    `before` are the lines above, nearest last: the name may be in one of them."""
    nearest = next((above for above in reversed(before[-NEAR:]) if above.strip()), "")
    if _OPENS.search(nearest) and _belongs_to_secret([nearest]):
        return line[: len(line) - len(line.lstrip())] + MASK
    found = list(_WORD.finditer(line))
    for match in found:
        if secret_name(match.group(1)):
            rest = line[match.end() :]
            value = rest.strip()
            return line[: match.end()] + (f" {masked(value)}" if value else "")
    head = found[0].start() if found else len(line)
    if line[:head].strip(" \t-[{,") and _belongs_to_secret(before[-NEAR:]):
        return line[: len(line) - len(line.lstrip())] + MASK
    return without_users(line)


def _belongs_to_secret(before: list[str]) -> bool:
    for line in reversed(before):
        names = [m.group(1) for m in _WORD.finditer(line)]
        if names:
            return secret_name(names[-1])
    return False
