"""Calls the Admin API of a running gateway for the verbs. In: where it is, what to ask. Out: its answer, or the repair of why not.

The address and the token are settings like all others: `--admin` or AIGW_ADMIN, and AIGW_ADMIN_TOKEN.
"""

from dataclasses import dataclass

from aigw.errors import UpstreamRefused
from aigw.settings import load


@dataclass(frozen=True, slots=True)
class Answered:
    """What the Admin API said: statuses other than 2xx and 400 are raised."""

    status: int
    body: bytes
    address: str


def call(admin: str | None, path: str, data: bytes | None = None, *, patience_s: float = 5.0) -> Answered:
    """GET `path`, or POST this YAML to it. Raises UpstreamRefused, ConfigError."""
    from urllib.error import HTTPError, URLError  # noqa: PLC0415  (start-up of the other verbs)
    from urllib.request import ProxyHandler, Request, build_opener  # noqa: PLC0415

    settings = load({"admin": admin})
    request = Request(f"http://{settings.admin}{path}", data)
    if data is not None:
        request.add_header("Content-Type", "application/yaml")
    if settings.admin_token:
        request.add_header("Kong-Admin-Token", settings.admin_token)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=patience_s) as answer:
            return Answered(answer.status, answer.read(), str(settings.admin))
    except HTTPError as error:
        if error.code == 400:
            return Answered(400, error.read(), str(settings.admin))
        hint = "; set AIGW_ADMIN_TOKEN" if error.code == 401 else ""
        raise UpstreamRefused(f"the Admin API at {settings.admin} answered {error.code}{hint}") from None
    except (URLError, TimeoutError, ConnectionError) as error:
        raise UpstreamRefused(
            f"no Admin API answers at {settings.admin} ({error}): is the gateway running? See: aigw serve"
        ) from None
