"""`aigw demo`: an empty gateway with two upstreams to try it on; what `make run` starts.

In: nothing. Out: the gateway on :8000 and :8001, the echo service on :5000, the mock LLM on :9100, until Ctrl-C.
Its data is kept in `.aigw-demo/`. Each server is the verb that a user would start; this one only starts and ends them.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from typing import Final

from aigw.errors import AddressInUse, AigwError

PORTS: Final = {8000: "the proxy", 8001: "the Admin API", 5000: "the echo service", 9100: "the mock LLM"}
START_S: Final = 30.0

WELCOME: Final = """
The gateway is up and empty: it routes nothing until you tell it to.

  proxy         http://127.0.0.1:8000
  Admin API     http://127.0.0.1:8001
  echo service  http://127.0.0.1:5000/get
  mock LLM      http://127.0.0.1:9100/v1/chat/completions

Make a service and a route, then call it:

  curl -s http://127.0.0.1:8001/services -d name=echo -d url=http://127.0.0.1:5000
  curl -s http://127.0.0.1:8001/services/echo/routes -d 'paths[]=/echo'
  curl -s http://127.0.0.1:8000/echo/get

Ctrl-C ends everything.
"""


def demo() -> int:
    """Serve an empty gateway with an echo service and a mock LLM, on fixed ports, until Ctrl-C."""
    for port, name in PORTS.items():
        _probe(port, name)
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.append(number))
    verbs = (
        ["serve", "--data", ".aigw-demo/data", "--proxy", "127.0.0.1:8000", "--admin", "127.0.0.1:8001"],
        ["echo", "--port", "5000"],
        ["mock-llm", "--port", "9100"],
    )
    children = [subprocess.Popen([sys.executable, "-P", "-m", "aigw", *verb]) for verb in verbs]
    try:
        end = time.monotonic() + START_S
        while not all(map(_answers, PORTS)):
            if stop:
                return 0
            _check(children)
            if time.monotonic() > end:
                raise AigwError(f"the demo did not start within {START_S:g} s; its log is above")
            time.sleep(0.05)
        sys.stdout.write(WELCOME)
        sys.stdout.flush()
        while not stop:
            _check(children)
            time.sleep(0.2)
        return 0
    finally:
        _end(children)


def _probe(port: int, name: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise AddressInUse(f"port {port}, for {name} of the demo, is in use: stop what listens there") from None


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _check(children: "list[subprocess.Popen[bytes]]") -> None:
    for child in children:
        if child.poll() is not None:
            raise AigwError(f"a part of the demo ended ({child.args!r}, status {child.returncode}); its log is above")


def _end(children: "list[subprocess.Popen[bytes]]") -> None:
    for child in children:
        child.terminate()  # a second one, after Ctrl-C's own, means: at once
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(35)
        if child.poll() is None:
            child.kill()
            child.wait()
