"""`aigw echo`: the echo service: it answers each request with the request, in httpbin's format. An upstream of the demo."""

import signal
import sys

import click

from aigw.cli.arguments import Verb
from aigw.cli.verbs.mock_llm import announce, in_use, not_built


@click.command(cls=Verb)
@click.option("--port", type=int, default=5000, help="port on 127.0.0.1; 0 takes a free one")
def echo(port: int) -> int:
    """Run an echo service: it answers each request with the request, in httpbin's format.

    It answers /get, /post, /headers, /status/N, /bytes/N and /delay/S.

    Needs: a free port on 127.0.0.1.

    For example:

        aigw echo --port 5000

    Exit codes: 0 after SIGTERM, 2 for a port in use.
    """
    try:
        from aigw._mock import serve_echo  # noqa: PLC0415  (start-up of the other verbs)
    except ModuleNotFoundError:
        raise not_built() from None

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        serve_echo(f"127.0.0.1:{port}", announce("echo service"))
    except OSError as error:
        raise in_use(port, error) from None
    return 0
