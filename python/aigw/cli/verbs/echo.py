"""`aigw echo`: a service that tells what it was sent, in httpbin's form; the upstream of the demo."""

import signal
import sys
from typing import Annotated

from aigw.cli.arguments import Parameter
from aigw.cli.verbs.mock_llm import announce, in_use


def echo(*, port: Annotated[int, Parameter("on 127.0.0.1; 0 takes a free one")] = 5000) -> int:
    """Serve what tells what it was sent, in httpbin's form.

    It answers /get, /post, /headers, /status/N, /bytes/N, /delay/S.

    For example:

        aigw echo --port 5000
    """
    from aigw._native import serve_echo  # noqa: PLC0415  (start-up of the other verbs)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        serve_echo(f"127.0.0.1:{port}", announce("echo service"))
    except OSError as error:
        raise in_use(port, error) from None
    return 0
