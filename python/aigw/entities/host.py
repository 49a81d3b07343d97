"""Hosts of services and upstreams. In: the text of `host`. Out: its canonical form, or the reason to refuse it. No DNS.

Link-local addresses are refused, because they answer with a machine's cloud credentials. Unusual spellings of an address
(decimal, octal, hex, short, mapped) are refused, because attackers use them to evade such a check. Workers judge the addresses of a
name by the same rule (`src/balance/reach.rs`) before they connect.
"""

import ipaddress
import os
import re
import socket
from typing import Final

from aigw._native import forbidden_address

_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_METADATA_NAMES: Final = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
_PLURALS: Final = {
    "link-local": "link-local addresses",
    "metadata service": "metadata services",
    "multicast": "multicast addresses",
}
_allowed = [os.environ.get("AIGW_UPSTREAM_ALLOW", "")]


def allow(networks: str) -> None:
    """Accept addresses in these networks from now on (`Settings.upstream_allow`). Before the first call the variable holds."""
    _allowed[0] = networks


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
    return _wrong_address(address)


def _wrong_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    why = forbidden_address(str(address), _allowed[0])
    return None if why is None else f"{_PLURALS[why]} are not allowed: AIGW_UPSTREAM_ALLOW lists networks that are"
