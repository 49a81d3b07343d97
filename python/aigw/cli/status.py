"""`aigw status`: what a running gateway says of itself."""

import os
import sys
from typing import Annotated

from cyclopts import Parameter


def status(*, admin: Annotated[str | None, Parameter(help="HOST:PORT of its Admin API")] = None) -> int:
    """Print GET /status of the Admin API. Exit code 1 when nothing answers or it is refused."""
    from aigw.cli.client import call  # noqa: PLC0415  (start-up of the other verbs)

    sys.stdout.write(call(admin, "/status").body.decode().rstrip("\n") + os.linesep)
    return 0
