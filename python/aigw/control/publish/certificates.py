"""Certificates -> their entries of the policy: those that the listener serves, and those of a service's calls. Pure.

A certificate without names serves nobody. Letter case does not count in names, so they are written in lower case.
"""

from collections.abc import Iterable, Mapping

from aigw.entities import Service, Sni, StoredCaCertificate, StoredCertificate
from aigw.types import JsonDict


def served(certificates: Mapping[str, StoredCertificate], snis: Iterable[Sni]) -> list[JsonDict]:
    """The policy's `certificates`, in the order of ids. Of names that differ in letter case only, the first one by id counts."""
    owners: dict[str, str] = {}
    for sni in sorted(snis, key=lambda sni: sni.id):
        owners.setdefault(sni.name.lower(), sni.certificate.id)
    names: dict[str, list[str]] = {}
    for name, owner in sorted(owners.items()):
        names.setdefault(owner, []).append(name)
    return [
        {"names": names[key], "pairs": [{"chain": chain, "key": sealed} for chain, sealed in certificates[key].pairs()]}
        for key in sorted(names)
    ]


def of_service(
    service: Service, certificates: Mapping[str, StoredCertificate], authorities: Mapping[str, StoredCaCertificate]
) -> JsonDict:
    """The member `tls` of a service with a certificate or authorities of its own; nothing for others."""
    trusted = [authorities[key].cert.strip() for key in service.ca_certificates or () if key in authorities]
    own = certificates.get(service.client_certificate.id) if service.client_certificate is not None else None
    if not trusted and own is None:
        return {}
    chain, key = own.pairs()[0] if own is not None else (None, None)
    return {"tls": {"ca": "\n".join([*trusted, ""]) if trusted else None, "cert": chain, "key": key}}
