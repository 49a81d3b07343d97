"""Calls of a running gateway's Admin API, for every verb that needs one.

In: an address and a token, from options, variables or defaults, read as `aigw serve` reads them. Out: decoded JSON.
Raises `NotThere` for a 404, `Rejected` for a 400, another `UpstreamError` with its repair when the API does not answer.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aigw.errors import ConfigError, UpstreamBroken, UpstreamError, UpstreamRefused, UpstreamTimeout
from aigw.settings import load
from aigw.types import JsonDict

if TYPE_CHECKING:
    from http.client import HTTPConnection

PATIENCE_S: Final = 10.0
SAID_S: Final = 5.0
"""Seconds without an answer after which a verb that has more patience than `PATIENCE_S` says that it waits."""
PAGE: Final = 1000


class NotThere(UpstreamError):
    """404: no such entity."""

    status = 404


class Rejected(ConfigError):
    """400: the input is wrong; `body` is the whole answer."""

    def __init__(self, message: str, body: JsonDict) -> None:
        self.body = body
        super().__init__(message)


class AdminApi:
    """One gateway's Admin API. A path with names or ids is built with `segment`."""

    def __init__(self, admin: str | None, patience_s: float = PATIENCE_S) -> None:
        settings = load({"admin": admin})
        self._patience_s = patience_s
        self._has_said = patience_s <= PATIENCE_S
        self.address = settings.admin
        self._headers = {"Kong-Admin-Token": settings.admin_token} if settings.admin_token else {}

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return self._json("GET", path)

    def text(self, path: str) -> str:
        """The text of a GET."""
        return self._call("GET", path).decode()

    def post(self, path: str, body: JsonDict | bytes) -> Any:
        """The JSON of the created entity. `body`: JSON, or a configuration file's bytes. Raises Rejected."""
        return self._json("POST", path, body)

    def patch(self, path: str, body: JsonDict) -> Any:
        """The JSON of the changed entity."""
        return self._json("PATCH", path, body)

    def delete(self, path: str) -> None:
        """Delete one entity."""
        self._call("DELETE", path)

    def pages(self, path: str) -> Iterator[JsonDict]:
        """Every entity of a list, page by page."""
        offset = ""
        while True:
            page = self.get(f"{path}?size={PAGE}{offset}")
            yield from page["data"]
            if not page.get("next"):
                return
            offset = f"&offset={quote(page['offset'], safe='')}"

    def _json(self, method: str, path: str, body: JsonDict | bytes | None = None) -> Any:
        text = self._call(method, path, body)
        try:
            return json.loads(text)
        except ValueError:
            raise UpstreamBroken(
                f"the server at {self.address} is not an Admin API: give its address with --admin or AIGW_ADMIN"
            ) from None

    def _call(self, method: str, path: str, body: JsonDict | bytes | None = None) -> bytes:
        from http.client import HTTPConnection, HTTPException  # noqa: PLC0415

        connection = HTTPConnection(self.address.host, self.address.port, timeout=self._patience_s)
        try:
            with self._saying():
                return self._answer(connection, method, path, body)
        except TimeoutError:
            raise UpstreamTimeout(
                f"the Admin API at {self.address} did not answer within {self._patience_s:g} s: try again, or see its log"
            ) from None
        except HTTPException as error:
            raise UpstreamBroken(
                f"the server at {self.address} does not speak HTTP ({error!r}): give the Admin API's address"
                " with --admin or AIGW_ADMIN"
            ) from None
        except OSError as error:
            raise UpstreamRefused(
                f"no Admin API answers at {self.address} ({error.strerror or error}): is the gateway running?"
                " Start it with aigw serve, or give another address with --admin or AIGW_ADMIN"
            ) from None
        finally:
            connection.close()

    @contextmanager
    def _saying(self) -> Iterator[None]:
        """Say once on standard error that the block takes long, and how long it may take."""
        if self._has_said:
            yield
            return
        import threading  # noqa: PLC0415  (start-up)

        def say() -> None:
            self._has_said = True
            line = "\r\x1b[K" if sys.stderr.isatty() else ""
            sys.stderr.write(
                f"{line}aigw: the Admin API at {self.address} has not answered for {SAID_S:g} s: waiting up to {self._patience_s:g} s\n"
            )
            sys.stderr.flush()

        timer = threading.Timer(SAID_S, say)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _answer(self, connection: "HTTPConnection", method: str, path: str, body: JsonDict | bytes | None) -> bytes:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/yaml" if isinstance(body, bytes) else "application/json"
        connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status < 300:
            return text
        message = _message(text)
        if answer.status == 404:
            raise NotThere(message)
        if answer.status == 400:
            raise Rejected(message, json.loads(text) if text[:1] == b"{" else {})
        hint = "; set AIGW_ADMIN_TOKEN" if answer.status == 401 else ""
        raise UpstreamRefused(f"the Admin API at {self.address} answered {answer.status}: {message}{hint}")


def segment(name: str) -> str:
    """A name or id as one segment of a path."""
    return quote(name, safe="")


def _message(text: bytes) -> str:
    try:
        body = json.loads(text)
        return str(body["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode("utf-8", "replace").strip()[:200] or "no reason given"
