"""Makes the data folders of an older version for `tests/durability/test_data_folder_of_the_version_before.py`.

Run it with the interpreter and the `tests` package of a checkout of that version, `tests/golden/data-folders/README.md` has the
command. In: a folder to write to. Out: `data-folders.tar.xz` and `expected.json`.

Two folders. `stopped`: a gateway with a configuration file and with entities of the Admin API served calls on every kind of
counter, and ended by SIGTERM. `killed`: a gateway and all its children ended by SIGKILL while permits were open, some of calls
that an upstream had received and some of calls that none had. The wall clock of both stands at `MADE`, so that no window
ends between the making and the test.
"""

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tests.support.processes import Gateway, gone, start_gateway, wait_until

MADE = 1_795_176_600
"""Unix seconds: 2026-11-20 12:10:00 UTC, far from the end of an hour, a day, a month and a year."""
UPSTREAM = ("127.77.0.1", 8377)
"""An address of the loopback network that nothing else uses: it is stored in the folders, so it cannot be a free port."""
SILENT = ("127.77.0.1", 8378)
"""An upstream that never accepts a connection."""
HOME, AWAY = "127.0.0.2", "127.0.0.3"
KEYS = {name: f"a-key-that-is-only-used-in-tests-{name}" for name in ("ann-1", "ann-2", "ben", "eve", "kim")}
COLLECTIONS = ("services", "routes", "consumers", "key-auths", "acls", "plugins", "consumer_groups", "tiers", "models")
FILE = """\
_format_version: "3.0"
models:
  small-chat:
    upstreams: [{url: "http://127.77.0.1:8377/v1"}]
tiers:
  free:
    limits:
      - {requests: 100, per: day}
      - {requests: 1000, per: month}
      - {requests: 1, per: day, burst: 50}
      - {requests: 500, per: 5h, scope: credential}
      - {requests: 400, per: hour, scope: model}
      - {requests: 300, per: year, scope: ip}
      - {requests: 2, per: hour, mode: shadow}
  gold: {}
services:
  - name: file
    url: http://127.77.0.1:8377
    routes: [{name: file, paths: [/file]}]
    plugins: [{name: key-auth}]
consumers:
  - username: ann
    tier: free
    keyauth_credentials: [{key: "${ANN_1}"}, {key: "${ANN_2}"}]
  - username: ben
    custom_id: CRM-7
    tags: [contract]
    tier: gold
    keyauth_credentials: [{key: "${BEN}"}]
    plugins: [{name: rate-limiting, config: {month: 1000, policy: local}}]
"""


class _Answers(BaseHTTPRequestHandler):
    """Answers every call with a completion; a call on a path with `hold` waits until the server ends."""

    protocol_version = "HTTP/1.1"
    held: ClassVar[list[str]] = []
    over = threading.Event()

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if "hold" in self.path:
            self.held.append(self.path)
            self.over.wait()
            self.close_connection = True
            return
        body = b'{"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def upstream() -> Iterator[list[str]]:
    """The upstream that the folders name; the paths of the calls it holds."""
    server = ThreadingHTTPServer(UPSTREAM, _Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    _Answers.held, _Answers.over = [], threading.Event()
    thread.start()
    try:
        yield _Answers.held
    finally:
        _Answers.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def call(
    gateway: Gateway, path: str, key: str, source: str = HOME, body: bytes | None = None, **headers: str
) -> dict[str, str]:
    """The headers of an answer of 200 to a call from `source`, names in lower case."""
    status, found = answer(gateway, path, key, source, body, **headers)
    assert status == 200, (status, found)
    return found


def answer(
    gateway: Gateway, path: str, key: str, source: str = HOME, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer to a call from `source`, names in lower case."""
    target = urlsplit(gateway.proxy)
    connection = http.client.HTTPConnection(str(target.hostname), target.port, 30, source_address=(source, 0))
    with contextlib.closing(connection):
        bearer = {"content-type": "application/json", "authorization": f"Bearer {KEYS[key]}"}
        who = bearer if body else {"apikey": KEYS[key]}
        connection.request("POST" if body else "GET", path, body, {**who, **headers})
        got = connection.getresponse()
        got.read()
        return got.status, {name.lower(): value for name, value in got.getheaders()}


def admin(gateway: Gateway, method: str, path: str, body: object = None) -> Any:
    """The JSON of an answer of the Admin API."""
    target = urlsplit(gateway.admin)
    with contextlib.closing(http.client.HTTPConnection(str(target.hostname), target.port, 30)) as connection:
        connection.request(
            method, path, None if body is None else json.dumps(body), {"content-type": "application/json"}
        )
        got = connection.getresponse()
        text = got.read()
        assert got.status in (200, 201, 204), (got.status, text)
        return json.loads(text or b"null")


def model(key: str) -> tuple[str, str, str, bytes]:
    """The arguments of a call of the model."""
    return (
        "/v1/chat/completions",
        key,
        HOME,
        b'{"model": "small-chat", "messages": [{"role": "user", "content": "hi"}]}',
    )


def state(gateway: Gateway) -> dict[str, Any]:
    """Every entity by collection and id, and where each consumer stands."""
    entities = {
        name: {str(one.get("id", one.get("name"))): one for one in admin(gateway, "GET", f"/{name}?size=1000")["data"]}
        for name in COLLECTIONS
    }
    names = sorted(one["username"] for one in entities["consumers"].values())
    limits = {name: admin(gateway, "GET", f"/consumers/{name}/limits")["data"] for name in names}
    return {"entities": entities, "limits": limits}


def make_entities(gateway: Gateway) -> None:
    """Entities of the Admin API beside those of the file: one service, a route for each open scope, consumers and plugins."""
    url = f"http://{UPSTREAM[0]}:{UPSTREAM[1]}"
    gateway.make("/services", name="web", url=url, retries=0, tags=["by-admin"])
    gateway.make("/services/web/plugins", name="key-auth")
    scopes = {"ip": {}, "header": {"header_name": "x-tenant"}, "path": {"path": "/path/get"}, "service": {}}
    for scope, more in scopes.items():
        gateway.make("/services/web/routes", name=scope, paths=[f"/{scope}"])
        config = {"year": 1000, "policy": "local", "limit_by": scope, **more}
        gateway.make(f"/routes/{scope}/plugins", name="rate-limiting", config=config)
    admin(gateway, "PUT", "/tiers/small", {"limits": [{"requests": 70, "per": "366d"}], "price": {"input": 0.3}})
    gateway.make("/consumers", username="eve", custom_id="CRM-8", tags=["by-admin"])
    gateway.make("/consumers/eve/key-auth", key=KEYS["eve"], tags=["laptop"])
    gateway.make("/consumers/eve/acls", group="staff")
    gateway.make("/consumers/eve/consumer_groups", group="small")
    gateway.make("/consumers/eve/key-auth", key=KEYS["kim"], ttl=100_000)
    gateway.make("/services/web/plugins", name="acl", config={"allow": ["staff"]})


def make_counts(gateway: Gateway) -> None:
    """Calls on every kind of counter; the test knows how many."""
    for key, count in (("ann-1", 7), ("ann-2", 3)):
        for _ in range(count):
            call(gateway, "/file/get", key)
    for _ in range(2):
        call(gateway, *model("ann-1"))
    for _ in range(5):
        call(gateway, "/file/get", "ben")
    for source, count in ((HOME, 6), (AWAY, 1)):
        for _ in range(count):
            call(gateway, "/ip/get", "eve", source)
    for tenant, count in (("red", 4), ("blue", 2)):
        for _ in range(count):
            call(gateway, "/header/get", "eve", **{"x-tenant": tenant})
    for _ in range(3):
        call(gateway, "/path/get", "eve")
    for _ in range(8):
        call(gateway, "/service/get", "kim")


def settled(gateway: Gateway) -> dict[str, Any]:
    """The state once no permit is open."""
    found: list[dict[str, Any]] = []

    def quiet() -> bool:
        found[:] = [state(gateway)]
        return all(row["reserved"] == 0 for rows in found[0]["limits"].values() for row in rows)

    wait_until(quiet, "no permit is open")
    return found[0]


def stopped(folder: Path, clock: dict[str, str]) -> dict[str, Any]:
    """Makes the folder of a gateway that ended by SIGTERM; its state just before."""
    file = folder / "gateway.yaml"
    file.write_text(FILE)
    with upstream():
        keys = {name.replace("-", "_").upper(): key for name, key in KEYS.items()}
        gateway = start_gateway(folder / "data", "--config", "gateway.yaml", workers=2, env={**clock, **keys})
        try:
            make_entities(gateway)
            make_counts(gateway)
            return settled(gateway)
        finally:
            assert gateway.process.end() == 0


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """An address where a connection is neither accepted nor refused: the queue of the listener is full."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.create_server(SILENT, backlog=0))
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield


def killed(folder: Path, clock: dict[str, str]) -> dict[str, Any]:
    """Makes the folder of a gateway that was killed with 6 open permits, 4 of them of calls that the upstream has."""
    with upstream() as held, silent():
        gateway = start_gateway(folder / "data", workers=1, env=clock)
        pids = gateway.children().values()
        for name, (host, port) in (("web", UPSTREAM), ("silent", SILENT)):
            gateway.make("/services", name=name, url=f"http://{host}:{port}", retries=0)
            gateway.make(f"/services/{name}/routes", name=name, paths=[f"/{name}"])
            gateway.make(f"/services/{name}/plugins", name="key-auth")
        gateway.make("/consumers", username="eve")
        gateway.make("/consumers/eve/key-auth", key=KEYS["eve"])
        gateway.make("/consumers/eve/plugins", name="rate-limiting", config={"year": 1000, "policy": "local"})
        for _ in range(3):
            call(gateway, "/web/get", "eve")
        for path in ("/web/hold",) * 4 + ("/silent/get",) * 2:
            threading.Thread(target=_lost, args=(gateway, path), daemon=True).start()

        def open_permits() -> bool:
            (row,) = admin(gateway, "GET", "/consumers/eve/limits")["data"]
            return bool(row["reserved"] == 6) and len(held) == 4

        wait_until(open_permits, "six permits are open")
        found = state(gateway)
        for pid in (gateway.pid, *pids):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(map(gone, pids)), "every process of the gateway is gone")
        gateway.process.end()
        return found


def _lost(gateway: Gateway, path: str) -> None:
    """A call whose answer never comes."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        call(gateway, path, "eve")


def pack(root: Path, archive: Path) -> None:
    """The same bytes for the same files: sorted, without owners and times."""
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(root.rglob("*")):
            entry = tarfile.TarInfo(str(path.relative_to(root)))
            entry.mode = path.stat().st_mode & 0o777
            if path.is_dir():
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            elif path.is_file():
                data = path.read_bytes()
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def main(out: Path) -> None:
    """Makes both folders and writes them to `out`."""
    sys.path.append(str(Path(__file__).parent))
    from clock import clock_at  # type: ignore[import-not-found]  # of this file's version: the older one may have none

    expected: dict[str, Any] = {"made": MADE}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "root"
        for name, make in (("stopped", stopped), ("killed", killed)):
            (root / name).mkdir(parents=True)
            os.chdir(root / name)
            expected[name] = make(root / name, clock_at(MADE, Path(temporary)))
        pack(root, out / "data-folders.tar.xz")
    (out / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
