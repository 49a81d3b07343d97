"""Access to the Admin API, decided from the headers before the path.

In: request headers. Out: None, or the status and message of a refusal. A foreign Host (DNS rebinding) or Origin (another site's
page) gets 403. In token mode every request without the token (Kong-Admin-Token, or a bearer) gets 401. A sender with the token
may use any Host: a rebound page does not have the token, and host names that other systems assign must work. The Admin API never
sends CORS headers.
"""

import hmac
import ipaddress
import re
from collections.abc import Mapping
from typing import Final

from aigw.types import HostPort

TOKEN_HEADER: Final = "kong-admin-token"  # noqa: S105  (a header's name)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@/?#\[\]\s]+)(?::[0-9]{1,5})?\Z")


class Guard:
    """The rule for one address and an optional token."""

    def __init__(self, address: HostPort, token: str | None) -> None:
        self._bound = address.host.lower()
        self._token = token.encode() if token else None

    def refuse(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """The status and message of a refusal, or None."""
        host = headers.get("host", "")
        known = self._has_token(headers)
        if not known and not self._is_ours(host):
            return 403, f"the Host '{host[:128]}' is not this Admin API's: use its address{self._or_token()}"
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return 403, "requests from other origins are not allowed"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return 403, "requests from other sites are not allowed"
        if self._token is not None and not known:
            return 401, "Unauthorized"
        return None

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        """Whether a token is required and the request carries it."""
        if self._token is None:
            return False
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        sent = (headers.get(TOKEN_HEADER, ""), bearer.strip() if scheme.lower() == "bearer" else "")
        return any(hmac.compare_digest(one.encode("latin-1", "replace"), self._token) for one in sent)

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
