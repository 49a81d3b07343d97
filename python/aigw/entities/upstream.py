"""One server that runs a model: its address, its own name of the model, and everything that a call to it needs.

A call goes to `url` with the endpoint's path appended; `headers`, `query` and the key come on top. Values that can be secret
(`api_key`, values of `headers` and `query`) are null in the stored form: `sealed` keeps them outside the spec. Paths of certificates
are relative to the configuration file; `config.upstreams` reads them, so workers never need the files.
"""

import re
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field

from aigw._native import check_string
from aigw.entities.host import wrong_host
from aigw.entities.tier import NotYet
from aigw.schema.fields import Between, Model, shown, violation
from aigw.types import JsonDict

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNENCODED: Final = frozenset('"#<>\\^`{|}')
"""Characters that no URL has unencoded (RFC 3986 s.2, appendix C); clients of HTTP refuse some of them."""
_ENDPOINTS: Final = ("/chat/completions", "/completions", "/embeddings")
_FRAMING: Final = frozenset(
    (
        *(
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
        ),
        *("upgrade", "expect", "proxy-authorization", "proxy-authenticate", "http2-settings", "content-type"),
        *("content-encoding", "accept-encoding", "x-request-id", "via"),
    )
)
"""Headers that the gateway makes itself: they frame the request, belong to one connection, or say how bytes are read."""


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    wrong = parts.scheme not in ("http", "https") or not parts.hostname or port == 0
    if wrong or parts.username is not None or any(not "!" <= c <= "~" or c in _UNENCODED for c in value):
        raise violation("expected http(s)://host[:port][/path][?query], percent-encoded")
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.removesuffix(":")
    if (reason := wrong_host(host)) is not None:
        raise violation(reason)
    path = parts.path.rstrip("/")
    if "//" in path or re.search(r"%(?![0-9A-Fa-f]{2})", path + parts.query):
        raise violation("the path must not have empty segments, and '%' stands before two hex digits")
    if path and (reason := check_string("address path", path)) is not None:
        raise violation(reason)
    if (endpoint := next((e for e in _ENDPOINTS if path.endswith(e)), None)) is not None:
        raise violation(f"leave '{endpoint}' out: the gateway appends the path of the endpoint that is called")
    return value


def _sendable(value: str) -> str:
    if not all("!" <= c <= "~" for c in value):
        raise violation("must be printable ascii without spaces")
    return value


def _header_value(value: str) -> str:
    if value != value.strip() or not all(" " <= c <= "~" for c in value):
        raise violation("must be printable ascii without spaces at its ends")
    return value


def _header_name(value: str) -> str:
    if not _TOKEN.match(value):
        raise violation("expected a header's name: letters, digits and -_.")
    if value.lower() in _FRAMING:
        raise violation("the gateway makes this header itself: leave it out")
    return value


def _scheme(value: str) -> str:
    if value and not _TOKEN.match(value):
        raise violation("expected one word, as in Bearer, or empty for the bare key")
    return value


def _plain(value: str) -> str:
    if _CONTROL.search(value):
        raise violation("must not contain control characters")
    return value


def _path(value: str) -> str:
    if "-----BEGIN" in value:
        raise violation("expected the path of a PEM file, not its content")
    return _plain(value)


def _server_name(value: str) -> str:
    if (reason := wrong_host(value)) is not None:
        raise violation(reason)
    return value


_NO_CONTROL: Final = shown(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")
Url = Annotated[
    str,
    Field(max_length=2048),
    AfterValidator(_url),
    shown(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s?#@/]+(/[^\s?#\"<>\\^`{|}]*)?(\?[^\s#\"<>\\^`{|}]*)?$"),
]
UpstreamModel = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain), _NO_CONTROL]
ApiKey = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_sendable), shown(pattern="^[!-~]*$")]
HeaderName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    AfterValidator(_header_name),
    shown(pattern=r"^[A-Za-z0-9!#\x24%&'*+.^_`|~-]+$"),
]
HeaderValue = Annotated[
    str, Field(max_length=4096), AfterValidator(_header_value), shown(pattern="^([!-~]([ -~]*[!-~])?)?$")
]
QueryName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_plain), _NO_CONTROL]
QueryValue = Annotated[str, Field(max_length=4096), AfterValidator(_plain), _NO_CONTROL]
Scheme = Annotated[
    str, Field(max_length=64), AfterValidator(_scheme), shown(pattern=r"^[A-Za-z0-9!#\x24%&'*+.^_`|~-]*$")
]
PemPath = Annotated[
    str,
    Field(min_length=1, max_length=4096),
    AfterValidator(_path),
    shown(pattern=r"^(?!.*-----BEGIN)[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"),
]
ServerName = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_server_name)]

PEM_FIELDS: Final = ("tls_ca", "tls_cert", "tls_key")
"""Fields that are paths of PEM files."""


class Auth(Model):
    """The header that carries an upstream's key."""

    header: HeaderName = Field(default="Authorization", description="Name of the header.")
    scheme: Scheme = Field(default="Bearer", description="The word before the key; empty: the bare key.")


class Upstream(Model):
    """One server that runs a model."""

    url: Url = Field(
        description="Base URL in OpenAI's format; the endpoint's path, as in /chat/completions, is appended to its path,"
        " its query is kept."
    )
    model: UpstreamModel | None = Field(
        default=None, description="The upstream's name of the model, any text; left out, the public one."
    )
    weight: Annotated[int, AfterValidator(Between(0, 1000))] = Field(
        default=1, description="Share of calls; 0: only when the others fail."
    )
    capacity: NotYet = Field(default=None, description="Calls at once: not supported in this version.")
    api_key: ApiKey | None = Field(
        default=None, description="Sent as Authorization: Bearer, or as `auth` says; write ${VAR} or ${file:...}."
    )
    auth: Auth = Field(default_factory=Auth, description="The header that carries api_key.")
    headers: Annotated[dict[HeaderName, HeaderValue | None], Field(max_length=32)] = Field(
        default={}, description="Headers of every call; they replace the caller's. A value from ${VAR} is a secret."
    )
    query: Annotated[dict[QueryName, QueryValue | None], Field(max_length=32)] = Field(
        default={}, description="Query of every call; it replaces the caller's. A value from ${VAR} is a secret."
    )
    tls_verify: bool = Field(default=True, description="Check the upstream's certificate.")
    tls_ca: PemPath | None = Field(
        default=None,
        description="PEM file of the authorities that its certificate is checked by, instead of the system's; relative to"
        " the configuration file.",
    )
    tls_server_name: ServerName | None = Field(
        default=None, description="Name in its certificate, and in the greeting (SNI); left out, the host of url."
    )
    tls_cert: PemPath | None = Field(
        default=None, description="PEM file of the gateway's own certificate and its chain."
    )
    tls_key: PemPath | None = Field(default=None, description="PEM file of the key of tls_cert, without a password.")

    def wrong(self) -> JsonDict:
        """Findings about fields together, by field."""
        return {**self._tls(), **self._headers(), **self._query()}

    def _tls(self) -> JsonDict:
        given = [field for field in (*PEM_FIELDS, "tls_server_name") if getattr(self, field) is not None]
        if urlsplit(self.url).scheme != "https":
            return dict.fromkeys(given, "needs an https url")
        if not self.tls_verify and self.tls_ca is not None:
            return {"tls_ca": "tls_verify: false checks no certificate: keep one of the two"}
        if (self.tls_cert is None) != (self.tls_key is None):
            return {
                "tls_key" if self.tls_cert else "tls_cert": "required field missing: tls_cert and tls_key go together"
            }
        return {}

    def _headers(self) -> JsonDict:
        found: dict[str, str] = {}
        seen: set[str] = set()
        for name in self.headers:
            if name.lower() in seen:
                found[name] = "stands twice: letters' case makes no difference"
            elif self.api_key is not None and name.lower() == self.auth.header.lower():
                found[name] = "carries api_key: keep one of the two"
            seen.add(name.lower())
        return {"headers": found} if found else {}

    def _query(self) -> JsonDict:
        own = {name for name, _ in parse_qsl(urlsplit(self.url).query, keep_blank_values=True)}
        found = {name: "the query of url says it: keep one of the two" for name in self.query if name in own}
        return {"query": found} if found else {}


class SealedKey(Model):
    """A secret of an upstream, or a certificate's private key. A changed one has another `digest`."""

    reference: str | None = Field(default=None, description="The variable or file that it came from.")
    sealed: str = Field(description="The secret, sealed.")
    digest: str = Field(description="Its HMAC.")


Place = tuple[int, str, str]
"""Index of the upstream, field (`api_key`, `headers`, `query`, `tls_ca`...), name of the header or argument or ""."""


def place_text(place: Place) -> str:
    """`upstreams[0].headers.x-team`: the key of a secret in the stored entity, and its name for people."""
    index, field, name = place
    return f"upstreams[{index}].{field}{'.' + name if name else ''}"


__all__ = ["PEM_FIELDS", "Auth", "Place", "SealedKey", "Upstream", "place_text"]
