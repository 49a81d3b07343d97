"""Speaking to the Admin API of a running gateway: shared by all verbs that ask one.

In: an address and a token, from options, variables or defaults as `aigw serve` reads them. Out: decoded JSON; a fault with
its repair when nothing answers, `NotThere` for a 404, `ConfigError` where the API says that what was given is wrong.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Final
from urllib.parse import quote

from cyclopts import Parameter

from aigw.errors import ConfigError, UpstreamBroken, UpstreamError, UpstreamRefused, UpstreamTimeout
from aigw.settings import load
from aigw.types import JsonDict

AdminOption = Annotated[
    str | None, Parameter(name="--admin", help="HOST:PORT of the Admin API [env: AIGW_ADMIN, default: 127.0.0.1:8001]")
]
PATIENCE_S: Final = 10.0
PAGE: Final = 1000


class NotThere(UpstreamError):
    """404: no such entity."""

    status = 404
    code = "not_found"
    retryable = False


class AdminApi:
    """One gateway's Admin API. Paths are made of `segment`s."""

    def __init__(self, admin: str | None, patience_s: float = PATIENCE_S) -> None:
        settings = load({"admin": admin})
        self.address = settings.admin
        self._patience_s = patience_s
        self._headers = {"Kong-Admin-Token": settings.admin_token} if settings.admin_token else {}

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return self.json_of(self._whole("GET", path))

    def text(self, path: str) -> str:
        """The text of a GET."""
        return self._whole("GET", path).decode()

    def post(self, path: str, body: JsonDict) -> Any:
        """The JSON of what was made."""
        return self.json_of(self._whole("POST", path, json.dumps(body).encode()))

    def post_yaml(self, path: str, text: bytes) -> tuple[bool, Any]:
        """Whether the text was taken, and the JSON of the answer: what is wrong with it, when not."""
        status, answer = self._call("POST", path, text, "application/yaml")
        return status < 300, self.json_of(answer)

    def delete(self, path: str) -> None:
        """Delete one entity."""
        self._whole("DELETE", path)

    def pages(self, path: str) -> Iterator[JsonDict]:
        """Every entity of a list, page by page."""
        offset = ""
        while True:
            page = self.get(f"{path}?size={PAGE}{offset}")
            yield from page["data"]
            if not page.get("next"):
                return
            offset = f"&offset={quote(page['offset'], safe='')}"

    def json_of(self, text: bytes) -> Any:
        """Decode an answer."""
        try:
            return json.loads(text)
        except ValueError:
            raise UpstreamBroken(
                f"what answers at {self.address} is no Admin API: see --admin and AIGW_ADMIN"
            ) from None

    def _whole(self, method: str, path: str, body: bytes | None = None) -> bytes:
        status, text = self._call(method, path, body)
        if status == 400:
            raise ConfigError(_message(text))
        return text

    def _call(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Status and text where that is 2xx or 400. Everything else is raised."""
        from http.client import HTTPConnection, HTTPException  # noqa: PLC0415

        connection = HTTPConnection(self.address.host, self.address.port, timeout=self._patience_s)
        headers = self._headers if body is None else {**self._headers, "Content-Type": kind}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except TimeoutError:
            raise UpstreamTimeout(
                f"the Admin API at {self.address} did not answer within {self._patience_s:g} s: is the machine overloaded?"
            ) from None
        except HTTPException as error:
            raise UpstreamBroken(f"what listens at {self.address} does not speak HTTP ({error!r})") from None
        except OSError as error:
            raise UpstreamRefused(
                f"no Admin API answers at {self.address} ({error.strerror or error}): is the gateway running?"
                " Start it with aigw serve, or name another with --admin or AIGW_ADMIN"
            ) from None
        finally:
            connection.close()
        if answer.status < 300 or answer.status == 400:
            return answer.status, text
        if answer.status == 404:
            raise NotThere(_message(text))
        hint = "; set AIGW_ADMIN_TOKEN" if answer.status == 401 else ""
        raise UpstreamRefused(f"the Admin API at {self.address} answered {answer.status}: {_message(text)}{hint}")


def segment(name: str) -> str:
    """A name or id as one segment of a path."""
    return quote(name, safe="")


def _message(text: bytes) -> str:
    try:
        body = json.loads(text)
        return str(body["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode("utf-8", "replace").strip()[:200] or "no reason given"
