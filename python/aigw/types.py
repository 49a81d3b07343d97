"""Value types for all Python packages. A leaf: imports only the errors."""

import ipaddress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from aigw.errors import ConfigError

JsonDict: TypeAlias = dict[str, Any]
"""A decoded JSON object."""


class MetricLabels(NamedTuple):
    """Names by number, as metrics show them."""

    routes: dict[int, tuple[str, str]]
    """Route n -> (route, service)."""
    tiers: dict[int, str]
    """Tier n -> name."""
    models: dict[int, str]
    """Model n -> name."""
    calls: dict[int, tuple[str, str, str]]
    """Upstream's number -> (model, provider, the upstream's name of the model)."""
    consumers: dict[int, str]
    """Consumer n -> name, of those whose answers are counted by consumer."""
    upstreams: set[str]
    """Addresses of models' upstreams, and of services that a worker finds down: `host:port`."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """An address to listen on. `host` is a name or a bare IP literal (no brackets), `port` 0..65535 (0: any free one)."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "HostPort":
        """`HOST:PORT`, IPv6 as `[::1]:8001`. Raises ConfigError with the expected form."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        bare = host[1:-1] if bracketed else host
        if not colon or not bare or (":" in bare and not bracketed) or not (port.isascii() and port.isdigit()):
            raise ConfigError(f"'{text}' is not an address: write HOST:PORT, for example 127.0.0.1:8001 or [::1]:8001")
        if int(port) > 65535:
            raise ConfigError(f"'{text}' is not an address: a port is at most 65535")
        return cls(bare, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address: 127.0.0.0/8, ::1, localhost."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
