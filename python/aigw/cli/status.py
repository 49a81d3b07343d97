"""`aigw status`: what a running gateway says of itself."""

import os
import sys
from typing import Annotated

from cyclopts import Parameter

from aigw.errors import UpstreamRefused
from aigw.settings import load


def status(*, admin: Annotated[str | None, Parameter(help="HOST:PORT of its Admin API")] = None) -> int:
    """Print GET /status of the Admin API. Exit code 1 when nothing answers or it is refused."""
    from urllib.error import HTTPError, URLError  # noqa: PLC0415  (start-up of the other verbs)
    from urllib.request import ProxyHandler, Request, build_opener  # noqa: PLC0415

    settings = load({"admin": admin})
    request = Request(f"http://{settings.admin}/status")
    if settings.admin_token:
        request.add_header("Kong-Admin-Token", settings.admin_token)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=5) as answer:
            text = answer.read().decode()
    except HTTPError as error:
        hint = "; set AIGW_ADMIN_TOKEN" if error.code == 401 else ""
        raise UpstreamRefused(f"the Admin API at {settings.admin} answered {error.code}{hint}") from None
    except (URLError, TimeoutError) as error:
        raise UpstreamRefused(
            f"no Admin API answers at {settings.admin} ({error}): is the gateway running? See: aigw serve"
        ) from None
    sys.stdout.write(text.rstrip("\n") + os.linesep)
    return 0
