"""The sections `certificates`, `snis` and `ca_certificates` of a file, and the references of services to them.

In: the open file. Out: entities without keys, the keys by the certificate's id, findings. A certificate is known by its id, which the
file may give; without one it is made of the certificate. A key is PEM text, or the reference that stands for the key of a stored
certificate: the control process puts that key in its place.
"""

from collections.abc import Callable
from typing import Any, Final

from aigw import pem
from aigw.config import shape
from aigw.config.entity import entity_id
from aigw.config.finding import Path
from aigw.config.source import Source
from aigw.config.suggest import nearest
from aigw.entities import Entity
from aigw.entities.certificate import KEYS
from aigw.schema.fields import is_uuid
from aigw.types import JsonDict

SECTIONS: Final = ("certificates", "snis", "ca_certificates")
Item = tuple[Path, JsonDict]
Keep = Callable[[str, Path, JsonDict, Any, Any, JsonDict, str], None]
"""Checks and keeps one entity: kind, path, fields, shape, name, links, id."""


class CertificatesCheck:
    """The sections of one file. `private_keys`: id of a certificate -> field -> key, or a reference to a stored one."""

    def __init__(self, source: Source, keep: Keep) -> None:
        self.private_keys: dict[str, dict[str, str]] = {}
        self._source = source
        self._keep = keep
        self._ids: dict[str, dict[str, Path]] = {"certificates": {}, "ca_certificates": {}}
        self._names: dict[str, Path] = {}

    def collect(self, items: dict[str, list[Item]]) -> None:
        """Note the ids, so that a reference to a certificate with errors does not count as dangling."""
        for kind, known in self._ids.items():
            for path, item in items[kind]:
                earlier = known.setdefault(_id(kind, item), path)
                if earlier is not path:
                    line = self._source.line(earlier)
                    self._source.add(path, f"the certificate stands twice: first in line {line}", at_key=True)

    def run(self, items: dict[str, list[Item]], nested: Callable[[Path], list[Item]]) -> None:
        """Check everything. `nested`: the records of a list at a path."""
        for path, item in items["ca_certificates"]:
            self._certificate("ca_certificates", path, item, shape.CaCertificateInFile)
        for path, item in items["certificates"]:
            key = self._certificate("certificates", path, item, shape.CertificateInFile)
            for below, sni in nested((*path, "snis")):
                self._sni(below, dict(sni), key, shape.SniInFile)
        for path, item in items["snis"]:
            own = dict(item)
            given = own.pop("certificate", None)
            if given is None:
                self._source.add((*path, "certificate"), "required field missing")
            link = self.refer((*path, "certificate"), "certificates", given) if given is not None else None
            self._sni(path, own, link or "", shape.SniAlone)

    def of_service(self, path: Path, own: JsonDict) -> JsonDict:
        """The reference of a service to its certificate, which leaves `own`; its list of authorities is checked there."""
        trusted = own.get("ca_certificates")
        for index, key in enumerate(trusted if isinstance(trusted, list) else ()):
            self.refer((*path, "ca_certificates", index), "ca_certificates", key)
        given = own.pop("client_certificate", None)
        key = self.refer((*path, "client_certificate"), "certificates", given) if given is not None else None
        return {} if key is None else {"client_certificate": {"id": key}}

    def strip(self, key: str, entity: Entity) -> JsonDict:
        """The body of a checked certificate without its keys, which `private_keys` gets."""
        body = entity.model_dump(mode="json")
        keys = {field: body.pop(field) for field in KEYS}
        self.private_keys[key] = {field: text for field, text in keys.items() if text is not None}
        del body["snis"]
        return body

    def refer(self, path: Path, kind: str, given: Any) -> str | None:
        """The id in a reference, when a certificate of the file has it: `x`, or `{id: x}`."""
        if isinstance(given, dict) and list(given) == ["id"]:
            path, given = (*path, "id"), given["id"]
        if not isinstance(given, str):
            self._source.add(path, "expected the id of a certificate in this file")
            return None
        known = self._ids[kind]
        if given.lower() in known:
            return given.lower()
        word = "CA certificate" if kind == "ca_certificates" else "certificate"
        self._source.add(
            path, f"there is no {word} with the id '{given}' in this file", suggestion=nearest(given, known)
        )
        return None

    def _certificate(self, kind: str, path: Path, item: JsonDict, written: Any) -> str:
        own = {name: value for name, value in item.items() if name not in ("id", "snis", "cert_digest")}
        given = item.get("id")
        if given is not None and not (isinstance(given, str) and is_uuid(given)):
            self._source.add((*path, "id"), "expected a valid UUID")
        key = _id(kind, item)
        self._keep(kind, path, own, written, key, {}, key)
        return key

    def _sni(self, path: Path, own: JsonDict, certificate: str, written: Any) -> None:
        name = own.get("name")
        if isinstance(name, str):
            earlier = self._names.setdefault(name.lower(), path)
            if earlier is not path:
                line = self._source.line(earlier)
                self._source.add((*path, "name"), f"the name '{name}' stands twice: first in line {line}")
        links = {"certificate": {"id": certificate or entity_id("certificates", "")}}
        self._keep("snis", path, own, written, name, links, entity_id("snis", str(name)))


def _id(kind: str, item: JsonDict) -> str:
    given, cert = item.get("id"), item.get("cert")
    if isinstance(given, str) and is_uuid(given):
        return given.lower()
    try:
        return entity_id(kind, pem.fingerprint(cert.encode()) if isinstance(cert, str) else "")
    except ValueError:
        return entity_id(kind, str(cert))
