"""Access to the Admin API, decided from the headers before the path.

In: request headers. Out: None, or the status and message of a refusal. Not exactly one Host, or an empty one, gets 400, a foreign one
(DNS rebinding) or a foreign Origin (another site's page) 403. In token mode every request without the token (Kong-Admin-Token, or a
bearer) gets 401, and so does one with two: another reader of the request could take the other. A sender with the token may
use any Host: a rebound page does not have the token, and host names that other systems assign must work. The Admin API never sends
CORS headers.
"""

import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

from aigw.types import HostPort

TOKEN_HEADER: Final = "kong-admin-token"  # noqa: S105  (a header's name)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@/?#\[\]\s]+)(?::[0-9]{1,5})?\Z")


class Guard:
    """The rule for one address and an optional token."""

    def __init__(self, address: HostPort, token: str | None) -> None:
        self._bound = address.host.lower()
        self._token = token.encode() if token else None

    @property
    def access(self) -> str:
        """The reason why requests that are not refused have access: `token`, or `loopback`."""
        return "loopback" if self._token is None else "token"

    def refuse(self, headers: Iterable[tuple[str, str]]) -> tuple[int, str] | None:
        """The status and message of a refusal, or None. `headers`: each field line, names in lower case."""
        lines: dict[str, list[str]] = {}
        for name, value in headers:
            lines.setdefault(name, []).append(value)
        if len(hosts := lines.get("host", [])) != 1:
            return 400, f"the request has {len(hosts)} Host headers: send exactly one"
        if not hosts[0].strip():
            return 400, "the Host header is empty: send the address of the Admin API"
        host, known = hosts[0], self._has_token(lines)
        if not known and not self._is_ours(host):
            return 403, f"the Host '{host[:128]}' is not this Admin API's: use its address{self._or_token()}"
        ours = (f"http://{host.lower()}", f"https://{host.lower()}")
        if any(origin.lower() not in ours for origin in lines.get("origin", ())):
            return 403, "requests from other origins are not allowed"
        if {"cross-site", "same-site"} & set(lines.get("sec-fetch-site", ())):
            return 403, "requests from other sites are not allowed"
        if self._token is not None and not known:
            return 401, "Unauthorized"
        return None

    def _has_token(self, lines: Mapping[str, list[str]]) -> bool:
        """Whether a token is required, and the request carries it and no other one."""
        if self._token is None:
            return False
        schemes = [line.partition(" ") for line in lines.get("authorization", ())]
        sent = [
            *lines.get(TOKEN_HEADER, ()),
            *(rest.strip() for scheme, _, rest in schemes if scheme.lower() == "bearer"),
        ]
        right = [hmac.compare_digest(one.encode("latin-1", "replace"), self._token) for one in sent if one]
        return bool(right) and all(right)

    def _or_token(self) -> str:
        return "" if self._token is None else ", or send the token (Kong-Admin-Token, or Authorization: Bearer)"

    def _is_ours(self, authority: str) -> bool:
        found = _AUTHORITY.match(authority)
        if found is None:
            return False
        name = found.group(1).removeprefix("[").removesuffix("]").lower()
        if name in ("localhost", self._bound):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # A literal address cannot be rebound. On a wildcard bind any address of the machine may be the one in use.
        return address.is_loopback or self._bound in ("0.0.0.0", "::")  # noqa: S104  (compared with, never bound)
