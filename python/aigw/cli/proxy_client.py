"""One request through the proxy, and its outcome; `aigw try` shows it.

In: address, request and key. Out: an `Outcome`. The answer shows who decided: an upstream's answer carries the gateway's
`Via`; the gateway's own answers give the reason in `error.aigw` (/v1), or in `X-AIGW-Limit` and `message` (Kong routes).
"""

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aigw.errors import ConfigError, UpstreamBroken, UpstreamRefused, UpstreamTimeout
from aigw.settings import load
from aigw.types import HostPort, JsonDict

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

PATIENCE_S: Final = 600.0
LIMIT_HEADERS: Final = ("x-ratelimit-", "ratelimit-", "retry-after", "x-should-retry", "x-aigw-")
BODIES: Final[dict[str, Any]] = {
    "/v1/chat/completions": lambda prompt: {"messages": [{"role": "user", "content": prompt}]},
    "/v1/completions": lambda prompt: {"prompt": prompt},
    "/v1/embeddings": lambda prompt: {"input": prompt},
}
"""The body for each endpoint of /v1, without the model."""


@dataclass
class Outcome:
    """The outcome of one request. Times are milliseconds since it was sent."""

    decision: str
    """allowed (an upstream answered), refused (by the gateway), failed (every upstream failed), cut (the stream broke off)."""
    status: int
    reason: str | None = None
    message: str | None = None
    tier: str | None = None
    model: str | None = None
    limits: dict[str, str] = field(default_factory=dict)
    latency_ms: float = 0.0
    first_byte_ms: float = 0.0
    events: int | None = None
    usage: JsonDict | None = None
    text: str = ""
    request_id: str | None = None

    @property
    def good(self) -> bool:
        """The answer is 2xx and complete."""
        return 200 <= self.status < 300 and self.decision != "cut"


@dataclass(frozen=True)
class Proxy:
    """The proxy."""

    address: HostPort
    tls: bool

    @classmethod
    def of(cls, proxy: str | None) -> "Proxy":
        """From --proxy (HOST:PORT or a URL), AIGW_PROXY, or the default. A wildcard address becomes the loopback address."""
        tls = False
        if proxy is not None and "://" in proxy:
            parts = urlsplit(proxy)
            if parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.username:
                raise ConfigError(f"--proxy: '{proxy}' is not an address: write HOST:PORT or http(s)://HOST:PORT")
            tls = parts.scheme == "https"
            proxy = parts.netloc if parts.port else f"{parts.netloc}:{443 if tls else 80}"
        address = load({"proxy": proxy}).proxy
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared with, never bound)
        return cls(HostPort(local.get(address.host, address.host), address.port), tls)

    def call(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Outcome:
        """Send the request and read the whole answer. Raises UpstreamError if no server answers."""
        from http.client import HTTPException  # noqa: PLC0415

        connection = self._connection()
        began = time.perf_counter()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return _read(answer, began)
        except TimeoutError:
            raise UpstreamTimeout(
                f"no answer from {self.address} within {PATIENCE_S:g} s: see the upstream's log"
            ) from None
        except HTTPException as error:
            raise UpstreamBroken(
                f"the server at {self.address} does not speak HTTP ({error!r}): give the proxy's address"
                " with --proxy or AIGW_PROXY"
            ) from None
        except OSError as error:
            raise UpstreamRefused(
                f"no proxy answers at {self.address} ({error.strerror or error}): is the gateway running?"
                " Start it with aigw serve, or give another address with --proxy or AIGW_PROXY"
            ) from None
        finally:
            connection.close()

    def _connection(self) -> "HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415

        kind = HTTPSConnection if self.tls else HTTPConnection
        return kind(self.address.host, self.address.port, timeout=PATIENCE_S)


def _read(answer: "HTTPResponse", began: float) -> Outcome:
    headers = {name.lower(): value for name, value in answer.getheaders()}
    outcome = Outcome("allowed", answer.status, request_id=headers.get("x-request-id"), tier=headers.get("x-aigw-tier"))
    outcome.limits = {name: value for name, value in headers.items() if name.startswith(LIMIT_HEADERS)}
    if headers.get("content-type", "").startswith("text/event-stream"):
        _read_events(answer, began, outcome)
    else:
        first = answer.read(1)
        outcome.first_byte_ms = _since(began)
        _read_whole(first + answer.read(), outcome, own="aigw/" not in headers.get("via", ""))
    outcome.latency_ms = _since(began)
    return outcome


def _read_whole(body: bytes, outcome: Outcome, *, own: bool) -> None:
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    answer = _mapping(parsed)
    error = _mapping(answer.get("error"))
    facts = error.get("aigw")
    if isinstance(facts, dict):
        outcome.reason, outcome.tier = facts.get("reason"), facts.get("tier") or outcome.tier
    if outcome.status >= 400:
        outcome.message = error.get("message") or (answer.get("message") if own else None)
    if own and outcome.status >= 400:
        outcome.decision = "failed" if outcome.status >= 500 else "refused"
    outcome.usage = _mapping(answer.get("usage")) or None
    outcome.model = answer.get("model") if isinstance(answer.get("model"), str) else None
    outcome.text = _text_of(answer, "message") if "choices" in answer else body.decode("utf-8", "replace")


def _read_events(answer: "HTTPResponse", began: float, outcome: Outcome) -> None:
    from http.client import HTTPException  # noqa: PLC0415

    outcome.events, done, parts = 0, False, list[str]()
    try:
        for line in answer:
            if not line.startswith(b"data:"):
                continue
            outcome.first_byte_ms = outcome.first_byte_ms or _since(began)
            data = line[5:].strip()
            if data == b"[DONE]":
                done = True
                continue
            outcome.events += 1
            event = json.loads(data)
            if isinstance(event.get("error"), dict):
                outcome.message = event["error"].get("message")
                outcome.reason = (event["error"].get("aigw") or {}).get("reason")
            outcome.usage = event.get("usage") or outcome.usage
            outcome.model = outcome.model or event.get("model")
            parts.append(_text_of(event, "delta"))
    except (HTTPException, OSError, ValueError) as error:
        outcome.message = outcome.message or f"the stream broke off ({error!r})"
    outcome.text = "".join(parts)
    if not done:
        outcome.decision = "cut"
        outcome.message = outcome.message or "the stream ended without [DONE]"


def _text_of(answer: JsonDict, member: str) -> str:
    """The text of the first choice: its `member` is `message` in an answer and `delta` in an event; else a completion's `text`."""
    choices = answer.get("choices")
    first = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    message = first.get(member)
    text = message.get("content") if isinstance(message, dict) else first.get("text")
    return text if isinstance(text, str) else ""


def _mapping(value: Any) -> JsonDict:
    return value if isinstance(value, dict) else {}


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)
