"""Secrets of a model's upstreams, sealed for the store: only workers open them.

In: a checked spec, the file's texts of its secrets, the contents of its certificate files. Out: a spec without secrets, and the
sealed values by place. A changed secret has another digest, so that a reload sees it. Answers, dumps, diffs and logs show the
reference at most.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aigw.entities.model import ModelSpec
from aigw.entities.upstream import Place, place_text
from aigw.types import JsonDict

_REFERENCE: Final = re.compile(
    r"(?P<scheme>[A-Za-z]+ )?\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*|file:[^}]*?)(?::-(?P<default>[^}]*))?\}\Z", re.ASCII
)
PLACEHOLDERS: Final = frozenset({"", "none", "null", "unset", "empty", "dummy", "no-key", "not-needed", "changeme"})
"""Defaults of references that may be shown, because they are not secrets."""


def reference_of(text: str | None) -> str | None:
    """The reference in the file's text of a secret (`${VAR}`, `Bearer ${VAR}`), or None for other text. A default is included only
    if it is a placeholder: another one may be the secret."""
    found = _REFERENCE.match(text or "")
    if found is None:
        return None
    scheme, name, default = found["scheme"] or "", found["name"], found["default"]
    shown = f"{name}:-{default}" if default is not None and default.lower() in PLACEHOLDERS else name
    return f"{scheme}${{{shown}}}"


def without_secrets(spec: ModelSpec, places: Iterable[Place]) -> JsonDict:
    """The spec as it is stored: keys and the values at these places are null."""
    body = spec.model_dump(mode="json")
    for upstream in body["upstreams"]:
        upstream["api_key"] = None
    for index, field, name in places:
        if name:
            body["upstreams"][index][field][name] = None
    return body


def with_sealed_keys(
    spec: ModelSpec,
    texts: Mapping[Place, str | None],
    files: Mapping[Place, bytes],
    seal: Callable[[bytes], str],
    digest: Callable[[bytes], bytes],
) -> JsonDict:
    """`spec`, `keys` and `secrets` of a model's body. `texts`: the file's text (`${VAR}`) of each key, and of each value of `headers` and
    `query` that is a secret. `files`: contents of certificate files."""

    def sealed(value: bytes, reference: str | None) -> JsonDict:
        return {"reference": reference, "sealed": seal(value), "digest": digest(b"upstream:" + value).hex()}

    keys: list[JsonDict | None] = []
    for index, upstream in enumerate(spec.upstreams):
        key, text = upstream.api_key, texts.get((index, "api_key", ""))
        keys.append(None if key is None else sealed(key.encode(), reference_of(text)))
    secrets: JsonDict = {}
    for place, text in texts.items():
        index, field, name = place
        if name and (value := getattr(spec.upstreams[index], field).get(name)) is not None:
            secrets[place_text(place)] = sealed(value.encode(), reference_of(text))
    for place, content in files.items():
        secrets[place_text(place)] = sealed(content, None)
    return {"spec": without_secrets(spec, texts), "keys": keys, "secrets": secrets}


__all__ = ["PLACEHOLDERS", "reference_of", "with_sealed_keys", "without_secrets"]
