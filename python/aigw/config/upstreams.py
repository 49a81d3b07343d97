"""The checks of a model's upstreams that need the file: the files it names, and which of its values are secrets.

In: a checked spec and its source. Out: the contents of certificate files, by place; findings about files that are missing or wrong.
The control process reads them here, once for all workers: a bad file changes nothing, and each worker has the same bytes.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from aigw import pem
from aigw.config.finding import Path
from aigw.config.interpolate import MAX_PEM, read_regular
from aigw.config.secret import secret_name
from aigw.config.source import Source
from aigw.entities.model import ModelSpec
from aigw.entities.upstream import PEM_FIELDS, Place, Upstream

_REFERENCE: Final = re.compile(r"(?<!\$)\$\{")


def source_path(place: Place) -> Path:
    """The path of a place below its model."""
    index, field, name = place
    return ("upstreams", index, field, name) if name else ("upstreams", index, field)


def secret_places(spec: ModelSpec, text: Callable[[Path], str | None]) -> list[Place]:
    """Keys, and values of `headers` and `query` that come from a reference or whose name says that they are secret."""
    found: list[Place] = []
    for index, upstream in enumerate(spec.upstreams):
        if upstream.api_key is not None:
            found.append((index, "api_key", ""))
        for field, values in (("headers", upstream.headers), ("query", upstream.query)):
            for name in values:
                place = (index, field, name)
                if secret_name(name) or _REFERENCE.search(text(source_path(place)) or ""):
                    found.append(place)
    return found


def check_upstreams(source: Source, model: str, spec: ModelSpec) -> dict[Place, bytes]:
    """The contents of the model's certificate files. Adds findings."""
    found: dict[Place, bytes] = {}
    for index, upstream in enumerate(spec.upstreams):
        path: Path = ("models", model, "upstreams", index)
        if "auth" in upstream.model_fields_set and upstream.api_key is None:
            source.add((*path, "auth"), "says how api_key is sent: set api_key, or leave this out", at_key=True)
        _check_url(source, path, upstream)
        contents = {field: _content(source, (*path, field), getattr(upstream, field)) for field in PEM_FIELDS}
        found |= {(index, field, ""): content for field, content in contents.items() if content is not None}
        if (chain := contents["tls_cert"]) is not None and (key := contents["tls_key"]) is not None:
            _check_pair(source, path, chain, key)
    return found


def _check_url(source: Source, path: Path, upstream: Upstream) -> None:
    """A secret has no place in the query of `url`, which is shown."""
    _, _, query = (source.text_at((*path, "url")) or "").partition("?")
    names = [name for name, _ in parse_qsl(urlsplit(upstream.url).query, keep_blank_values=True)]
    if _REFERENCE.search(query) or any(secret_name(name) for name in names):
        source.add((*path, "url"), "write secrets of the query under 'query': url is shown, values there are sealed")


def _content(source: Source, path: Path, name: str | None) -> bytes | None:
    """The content of a PEM file; None without a name or with a finding."""
    if name is None:
        return None
    file = source.resolver.folder / name
    source.resolver.files.append(file)
    try:
        data = read_regular(file, MAX_PEM)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        source.add(path, f"the file '{name}' cannot be read: {reason}")
        return None
    if (wrong := _WRONG[str(path[-1])](data)) is not None:
        source.add(path, f"the file '{name}' cannot be used: {wrong}")
        return None
    return data


def _wrong_key(data: bytes) -> str | None:
    if b"ENCRYPTED" in data:
        return "it is encrypted: the gateway needs the key without a password"
    found = re.search(rb"-----BEGIN (RSA |EC )?PRIVATE KEY-----", data)
    return None if found else "there is no private key in PEM form"


_WRONG: Final[Mapping[str, Callable[[bytes], str | None]]] = {
    "tls_ca": pem.wrong_authorities,
    "tls_cert": pem.wrong_chain,
    "tls_key": _wrong_key,
}
"""Field of a PEM file -> the check of its content."""


def _check_pair(source: Source, path: Path, chain: bytes, key: bytes) -> None:
    """The very bytes are checked that workers get."""
    if pem.wrong_pair(chain, key) is not None:
        source.add((*path, "tls_key"), "is not the key of tls_cert, or is of a kind that is not known")


__all__ = ["check_upstreams", "secret_places", "source_path"]
