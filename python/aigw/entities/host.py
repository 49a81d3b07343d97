"""Hosts of services and upstreams. In: the text of `host`. Out: its canonical form, or the reason to refuse it. No DNS.

Link-local addresses are refused, because they answer with a machine's cloud credentials. Unusual spellings of an address
(decimal, octal, hex, short, mapped) are refused, because attackers use them to evade such a check.
"""

import ipaddress
import re
import socket
from typing import Final

_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_METADATA_NAMES: Final = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
_METADATA_ADDRESSES: Final = frozenset(
    ipaddress.ip_address(a) for a in ("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254")
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def wrong_host(host: str) -> str | None:
    """The reason to refuse this host, or None."""
    if host.startswith("[") or ":" in host:
        return _wrong_v6(host)
    if _numeric(host):
        try:
            return _wrong_address(ipaddress.IPv4Address(host))
        except ValueError:
            return f"invalid value: {host}: write an IPv4 address as four decimal numbers"
    name = host.removesuffix(".").lower()
    if len(name) > 253 or not all(_LABEL.match(label) for label in name.split(".")):
        return f"invalid value: {host}"
    return "metadata services are not allowed" if name in _METADATA_NAMES else None


def canonical_host(host: str) -> str:
    """Names in lower case; IPv6 compressed and in brackets, as it stands in a URL."""
    bare = host.removeprefix("[").removesuffix("]")
    return f"[{ipaddress.IPv6Address(bare)}]" if ":" in bare else host.lower()


def _numeric(host: str) -> bool:
    try:
        socket.inet_aton(host.removesuffix("."))
    except OSError:
        # Resolvers read a last label of digits as a number, with any labels before it.
        return host.removesuffix(".").rpartition(".")[2].isdigit()
    return True


def _wrong_v6(host: str) -> str | None:
    if host.startswith("[") != host.endswith("]"):
        return f"invalid value: {host}"
    try:
        address = ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return f"invalid value: {host}"
    if address.scope_id is not None:
        return "link-local addresses are not allowed"
    inside = address.ipv4_mapped or address.sixtofour
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return _wrong_address(address) or (_wrong_address(inside) if inside is not None else None)


def _wrong_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    if address.is_link_local:
        return "link-local addresses are not allowed"
    if address in _METADATA_ADDRESSES:
        return "metadata services are not allowed"
    if address.is_multicast:
        return "multicast addresses are not allowed"
    return None
