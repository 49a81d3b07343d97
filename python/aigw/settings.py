"""The process settings: one table, the dataclass below.

In: variables `AIGW_<NAME>` and options, as text; an option wins. Out: one frozen `Settings`. Child processes get it as text
and read it with the same parsers. Entities and tiers are not settings: they belong
to the Admin API and the configuration file. This module imports only `types` and `errors`.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from aigw.errors import ConfigError
from aigw.types import HostPort

PREFIX: Final = "AIGW_"
STANDARD: Final = {
    "SSL_CERT_FILE": "PEM file of the certificates that https upstreams are checked against, in place of the system's",
    "SSL_CERT_DIR": "folders of such files, separated by ':'",
    "HTTPS_PROXY": "proxy to https upstreams, `http://[user:password@]host[:port]`; asked for a tunnel (CONNECT)",
    "HTTP_PROXY": "proxy to http upstreams, in the same form; gets the whole URL in the request line",
    "ALL_PROXY": "proxy to upstreams of both kinds, where the variable of the kind is not set",
    "NO_PROXY": "upstreams without a proxy: names with their subdomains, addresses, networks (`10.0.0.0/8`), separated by commas; `*` "
    "for all. Loopback is not exempt by itself",
}
"""Variables of other programs that the gateway honours for its upstreams, with docs. The proxies' names work in lower case, too; of two
spellings the upper one counts."""
_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


def _number(low: float, high: float, unit: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ConfigError(f"'{text}' is not a number of {unit} from {low:g} to {high:g}")
        return value

    return parse


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?\Z")


def _seconds(low: float, high: float) -> Callable[[str], float]:
    """A duration, in seconds: a number of them (`75`), or one with a unit (`75s`, `2m`, `500ms`)."""

    def parse(text: str) -> float:
        found = _DURATION.match(text)
        value = float(found[1]) * _UNITS[found[2] or "s"] if found else float("nan")
        if not low <= value <= high:
            raise ConfigError(f"'{text}' is not a duration from {low:g} s to {high:g} s: write it as in 75, 75s, 2m")
        return value

    return parse


def _probes(text: str) -> tuple[str, ...]:
    """Paths of the probes on the proxy address; `none`: none."""
    paths = () if text == "none" else tuple(path.strip() for path in text.split(","))
    for path in paths:
        if not _PROBE.match(path) or "//" in path or {".", ".."} & set(path.split("/")):
            raise ConfigError(f"'{text}' is not a list of paths: write it as in /livez,/readyz, or none")
    return paths


def _networks(text: str) -> str:
    """Networks, with commas, each in the form that the native part reads."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(str(ipaddress.ip_network(part)))
        except ValueError:
            raise ConfigError(
                f"'{part}' is not a network or an address: write it as in 169.254.7.0/24,fe80::/64"
            ) from None
    return ",".join(found)


_PROBE: Final = re.compile(r"/[A-Za-z0-9._~/-]{1,255}\Z")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ConfigError(f"'{text}' is not a whole number from {low} to {high}")
        return int(text)

    return parse


_SIZE: Final = re.compile(r"([0-9]{1,15})(KiB|MiB|GiB)?\Z", re.ASCII)
_BYTES: Final = {None: 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _bytes(low: int, high: int) -> Callable[[str], int]:
    """A size, in bytes: a number of them, or one with a unit (`256MiB`, `1GiB`)."""

    def parse(text: str) -> int:
        found = _SIZE.match(text)
        value = int(found[1]) * _BYTES[found[2]] if found else -1
        if not low <= value <= high:
            raise ConfigError(
                f"'{text}' is not a size from {low} to {high} bytes: write it as in 268435456, 256MiB, 1GiB"
            )
        return value

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ConfigError(f"'{text}' is not one of: {', '.join(choices)}")
        return text

    return parse


def _optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: parse(text) if text else None


def _collector(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        _ = parts.port  # raises ValueError if the port is not a number
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"'{text}' is not the address of a collector: write it as http://127.0.0.1:4318")
    if parts.path.rstrip("/").endswith("/v1/metrics"):
        raise ConfigError(
            "the gateway appends /v1/metrics itself: write the address without it, as http://127.0.0.1:4318"
        )
    return text


def _path(text: str) -> Path:
    return Path(text).absolute()


def _file_or_none(text: str) -> Path | Literal["none"] | None:
    return "none" if text == "none" else _path(text) if text else None


def _setting(parse: Callable[[str], Any], default: str, doc: str, *, secret: bool = False) -> Any:
    return field(metadata={"parse": parse, "default": default, "doc": doc, "secret": secret}, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One gateway's settings. `field.metadata` holds each one's parser, default (as text), doc and whether it is secret."""

    config: Path | Literal["none"] | None = _setting(
        _file_or_none,
        "",
        "configuration file, put in force at start and whenever it changes; empty: the entities of an earlier file stay; "
        "'none': they are deleted, and the Admin API rules (./none is a file of that name)",
    )
    data: Path = _setting(_path, "./aigw-data", "data folder: store, counters, snapshot, secret")
    proxy: HostPort = _setting(HostPort.parse, "127.0.0.1:8000", "address that clients call; port 0 takes a free one")
    proxy_tls: HostPort | None = _setting(
        _optional(HostPort.parse),
        "",
        "address that clients call by TLS, beside the one of proxy; empty: with tls_cert the address of proxy takes TLS, and nothing else",
    )
    admin: HostPort = _setting(HostPort.parse, "127.0.0.1:8001", "address of the Admin API; port 0 takes a free one")
    admin_token: str | None = _setting(
        _optional(str),
        "",
        "token of the Admin API (header Kong-Admin-Token); demanded off loopback; with it any Host may be called",
        secret=True,
    )
    admin_shows_keys: int = _setting(
        _whole(0, 1),
        "0",
        "1: the Admin API shows API keys that it is sent from now on, which stay sealed in the store, so that decK finds them by their text,"
        " and private keys of certificates; 0: it shows references, and sealed API keys are deleted",
    )
    workers: int = _setting(_whole(1, 64), str(len(os.sched_getaffinity(0))), "proxy workers")
    drain_timeout: float = _setting(
        _number(0, 3600, "seconds"), "30", "seconds that requests in flight get on SIGTERM before they are cut"
    )
    access_log: str = _setting(
        str, "off", "access log, JSON lines: '-' for standard output, 'off', or a file to append to"
    )
    log_format: str = _setting(_one_of("json", "console"), "console", "form of the process log on standard error")
    tls_cert: Path | None = _setting(
        _optional(_path),
        "",
        "PEM certificate chain for TLS clients whose server name no certificate of the configuration serves; with tls_key; read again when"
        " it changes",
    )
    tls_key: Path | None = _setting(_optional(_path), "", "PEM private key of tls_cert")
    max_in_flight: int = _setting(
        _whole(1, 1_000_000), "8192", "requests in flight in one worker; more are answered 503"
    )
    max_body_bytes: int = _setting(
        _bytes(1, 2**40), str(10 * 1024 * 1024), "larger request bodies are answered 413 before they are read"
    )
    max_body_members: int = _setting(
        _whole(1000, 2**32),
        "1048576",
        "JSON bodies on /v1 with more members and elements are answered 400: each costs more time than its bytes",
    )
    body_memory: int = _setting(
        _bytes(2**20, 2**40),
        str(256 * 1024 * 1024),
        "bytes (or as in 1GiB) of request bodies and of answers that wait for slow clients, held at once in one worker; a body beyond is"
        " answered 503",
    )
    body_memory_part: int = _setting(
        _whole(1, 100),
        "25",
        "percent of body_memory that the bodies of one consumer (without one: of one address) may take; a body beyond is answered 429;"
        " one body of any allowed size always fits",
    )
    max_config_bytes: int = _setting(
        _bytes(2**20, 2**31),
        str(64 * 1024 * 1024),
        "bytes (or as in 64MiB) of the largest configuration, as a file or sent to the Admin API, with 62,500 keys and values for each MiB: by"
        " default about 400,000 consumers with a key each; `aigw check` and the other verbs read it, too",
    )
    keep_alive: float = _setting(
        _seconds(1, 3600),
        "75",
        "time that an idle connection of a client is kept, as a number of seconds or as in 2m; answers tell it in Keep-Alive",
    )
    body_timeout: float = _setting(
        _seconds(0.001, 3600),
        "30",
        "longest silence within a request body, else 408; seconds, or as in 500ms; the Admin API's bodies, too",
    )
    body_total: float = _setting(
        _seconds(0.001, 86400),
        "300",
        "time for a whole request body, else 408; seconds, or as in 5m; the Admin API's bodies, too",
    )
    probe_path: tuple[str, ...] | None = _setting(
        _optional(_probes),
        "",
        "paths of the probes on the proxy address, with commas, which precede all routes; one that ends in /livez tells that the"
        " worker runs, any other that it takes requests; empty: /livez and /readyz where no route has them; none: off",
    )
    hang_timeout: float = _setting(
        _seconds(1, 3600),
        "5",
        "time after which a worker that stands still is killed and replaced; one that computes gets four times that",
    )
    upstream_allow: str | None = _setting(
        _optional(_networks),
        "",
        "networks, with commas, that upstreams may be in although they are link-local, multicast or a metadata service's, as in"
        " 169.254.7.0/24; empty: none",
    )
    loop: str = _setting(
        _one_of("inline", "stock"), "inline", "how requests are stepped: on the server's thread, or by the event loop"
    )
    metrics_consumers: int = _setting(
        _whole(0, 1),
        "0",
        "1: kong_http_requests_total has the consumer's name, for the first 1,000 consumers that call; later ones are 'other'",
    )
    otlp_endpoint: str | None = _setting(
        _optional(_collector), "", "base URL of an OpenTelemetry collector (OTLP over HTTP) for metrics; empty: off"
    )

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError(
                "tls_cert and tls_key belong together: give both (--tls-cert, --tls-key), or leave both out"
            )
        if not self.admin.is_loopback and not self.admin_token:
            raise ConfigError(
                f"the Admin API at {self.admin} is reachable from elsewhere and has no token: "
                f"set {PREFIX}ADMIN_TOKEN, or bind it to loopback (--admin 127.0.0.1:8001)"
            )

    @property
    def plain_address(self) -> HostPort | None:
        """The address that clients call without TLS; None in a gateway that serves TLS alone."""
        return self.proxy if self.tls_cert is None or self.proxy_tls is not None else None

    @property
    def tls_address(self) -> HostPort | None:
        """The address that clients call by TLS; None in a gateway without TLS."""
        return self.proxy_tls or (None if self.tls_cert is None else self.proxy)

    @property
    def schemes(self) -> frozenset[str]:
        """The protocols of requests."""
        addresses = {"http": self.plain_address, "https": self.tls_address}
        return frozenset(scheme for scheme, address in addresses.items() if address is not None)

    def as_text(self) -> dict[str, str]:
        """The settings that have a value, as `load` reads them. A child reads the secret ones from its environment."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata["secret"]}
        return {name: _text(value) for name, value in shown.items() if value is not None}


def _text(value: Any) -> str:
    return (",".join(value) or "none") if isinstance(value, tuple) else str(value)


def check_proxies(environ: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError for a proxy of the environment that upstreams cannot be reached through. The text never repeats the value, which
    may hold a password."""
    for name in _PROXIES:
        spelled = name if name in environ else name.lower()
        text = environ.get(spelled, "")
        if text and (why := _wrong_proxy(text)):
            raise ConfigError(
                f"{spelled}: {why}: write it as http://host:port, or unset it and set NO_PROXY='*' if upstreams need no proxy"
            )


def _wrong_proxy(text: str) -> str | None:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        _ = parts.port  # raises ValueError if the port is not a number
    except ValueError:
        return "this is not the address of a proxy"
    if parts.scheme != "http":
        return f"the gateway cannot use proxies of the kind '{parts.scheme}'"
    whole = bool(parts.hostname) and parts.path in ("", "/") and not (parts.query or parts.fragment)
    return None if whole else "this is not the address of a proxy"


def default(name: str) -> Any:
    """The value of a setting that nobody sets."""
    metadata = next(setting.metadata for setting in fields(Settings) if setting.name == name)
    return metadata["parse"](metadata["default"])


def variable(name: str) -> str:
    """The environment variable of the setting `name`."""
    return PREFIX + name.upper()


def of_environment(name: str, environ: Mapping[str, str] = os.environ) -> Any:
    """The value of one setting, for verbs that need no other. Raises ConfigError as `load`."""
    metadata = next(setting.metadata for setting in fields(Settings) if setting.name == name)
    try:
        return metadata["parse"](environ.get(variable(name)) or metadata["default"])
    except ConfigError as error:
        raise ConfigError(f"{variable(name)}: {error}") from None


def load(given: Mapping[str, str | None], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from `given` (by name, None for not given), else from the environment, else from the defaults.

    An empty variable counts as not set. An empty option raises: it is mostly a shell variable that is not set. Raises ConfigError
    with the source of the wrong text.
    """
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        text, source = given.get(setting.name), "--" + setting.name.replace("_", "-")
        if text == "":
            raise ConfigError(f"{source} is empty: give it a value, or leave it out")
        if text is None:
            text, source = environ.get(variable(setting.name)) or None, variable(setting.name)
        if text is None:
            text = setting.metadata["default"]
        try:
            values[setting.name] = setting.metadata["parse"](text)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
    return Settings(**values)
