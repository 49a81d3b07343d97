"""The Admin API under bad clients and beside another process in its store: each answer is JSON in time, and names the repair."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.support.processes import PATIENCE_S, Gateway, wait_until
from tests.support.surface import metric

New = Callable[..., Gateway]
LOCK = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
store.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def exchange(gateway: Gateway, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send these bytes and read until the server closes: status, headers, body."""
    address = urlsplit(gateway.admin)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE_S) as client:
        client.sendall(request)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def answers(gateway: Gateway, requests: bytes) -> list[int]:
    """The statuses of all answers to pipelined requests."""
    address = urlsplit(gateway.admin)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE_S) as client:
        client.sendall(requests)
        answered = b"".join(iter(lambda: client.recv(65536), b""))
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", answered)]


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_store_that_another_process_locks_is_503_with_the_repair(new_gateway: New) -> None:
    gateway = new_gateway(workers=2)
    gateway.make("/services", name="before", url="http://127.0.0.1:9")
    store = str(gateway.data / "store.db")
    with subprocess.Popen([sys.executable, "-c", LOCK, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None and other.stdout.readline() == b"locked\n"
        service = {"name": "late", "url": "http://127.0.0.1:9"}
        refused = httpx.post(gateway.admin + "/services", json=service, trust_env=False, timeout=PATIENCE_S)
        assert refused.status_code == 503, refused.text
        assert "another process has locked it: end that one" in refused.json()["message"]
        assert httpx.get(gateway.admin + "/services/before", trust_env=False).status_code == 200
        told = httpx.get(gateway.admin + "/readyz?verbose", trust_env=False)
        assert told.status_code == 200, "calls need no store"
        assert "[!]store is locked by another process: end that one" in told.text and "store ok" not in told.text
        assert not httpx.get(gateway.admin + "/status", trust_env=False).json()["database"]["reachable"]
        assert httpx.get(gateway.proxy + "/nothing", trust_env=False).status_code == 404
        other.stdin.close()
    gateway.make("/services", name="late", url="http://127.0.0.1:9")
    assert metric(gateway, "aigw_admin_faults_total") == 0
    assert "[+]store ok" in httpx.get(gateway.admin + "/readyz?verbose", trust_env=False).text
    assert httpx.get(gateway.admin + "/status", trust_env=False).json()["database"]["reachable"]


def test_body_that_does_not_arrive_is_408(new_gateway: New) -> None:
    gateway = new_gateway(env={"AIGW_BODY_TIMEOUT": "500ms", "AIGW_BODY_TOTAL": "5s"})
    host = urlsplit(gateway.admin).netloc
    head = f"POST /services HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    status, headers, body = exchange(gateway, head.encode() + b'{"name":')
    assert (status, headers["connection"]) == (408, "close")
    assert "did not arrive in time" in json.loads(body)["message"]


def test_two_hosts_are_400(new_gateway: New) -> None:
    gateway = new_gateway()
    host = f"Host: {urlsplit(gateway.admin).netloc}\r\n"
    status, _, body = exchange(gateway, f"GET /services HTTP/1.1\r\n{host}{host}Connection: close\r\n\r\n".encode())
    assert status == 400 and "exactly one" in json.loads(body)["message"]


@pytest.mark.parametrize("line", ["", "Host:\r\n", "Host: \r\n"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_no_host_and_an_empty_one_are_400(new_gateway: New, line: str, version: str) -> None:
    gateway = new_gateway()
    status, _, body = exchange(gateway, f"GET /services HTTP/{version}\r\n{line}Connection: close\r\n\r\n".encode())
    assert status == 400 and "Host" in json.loads(body)["message"], body


def test_requests_behind_a_body_that_nobody_reads_are_answered(new_gateway: New) -> None:
    """Answers that are decided by the head: the body is read away, or the connection ends."""
    gateway = new_gateway()
    host = urlsplit(gateway.admin).netloc
    bodies = [b"x" * size for size in (1, 10_000, 300_000)]
    for method, path, expected in (("POST", "/nope", 404), ("POST", "/status", 405), ("DELETE", "/services/x", 204),
                                   ("GET", "/services", 200), ("POST", "/services", 415)):  # fmt: skip
        sent = b""
        for data in bodies:
            head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: {len(data)}\r\n\r\n"
            sent += head.encode() + data
        statuses = answers(gateway, sent + f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert statuses == [expected] * len(bodies) + [200], (method, path)
    head = f"POST /nope HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4000000\r\n\r\n"
    status, headers, _ = exchange(gateway, head.encode() + b"x" * 2_000)  # the rest does not come
    assert (status, headers["connection"]) == (404, "close")


def test_bodies_together_have_a_budget_and_memory_goes_back(new_gateway: New) -> None:
    gateway = new_gateway()
    address = urlsplit(gateway.admin)
    control = gateway.children()["control"]
    before = resident(control)
    head = f"POST /services HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\nContent-Length: 8300000\r\n\r\n"
    held: list[socket.socket] = []
    refused = 0
    try:
        for _ in range(24):
            client = socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE_S)
            held.append(client)
            with contextlib.suppress(ConnectionError):
                client.sendall(head.encode() + b'{"name":"' + b"x" * 8_000_000)
        for client in held:
            client.settimeout(2)
            with contextlib.suppress(TimeoutError, ConnectionError):
                refused += client.recv(65536).startswith(b"HTTP/1.1 503")
        assert refused >= 12, refused
        assert resident(control) - before < 128 << 20
    finally:
        for client in held:
            client.close()
    wait_until(lambda: resident(control) - before < 24 << 20, "the memory goes back")
    whole = json.dumps({"name": "late", "url": "http://127.0.0.1:9", "tags": ["x" * 8_000_000]})
    answer = httpx.post(
        gateway.admin + "/services", content=whole, headers={"content-type": "application/json"}, trust_env=False
    )
    assert answer.status_code == 400, "one body of the largest size is read and judged"


@pytest.mark.parametrize("gone", ["data", "store.db"])
def test_write_to_a_store_that_is_gone_is_503(new_gateway: New, tmp_path: Path, gone: str) -> None:
    gateway = new_gateway(workers=2, data=tmp_path / "data")
    gateway.make("/services", name="before", url="http://127.0.0.1:9")
    path = tmp_path / "data" if gone == "data" else tmp_path / "data" / gone
    aside = path.with_name("aside")
    path.rename(aside)
    service = {"name": "late", "url": "http://127.0.0.1:9"}
    refused = httpx.post(gateway.admin + "/services", json=service, trust_env=False, timeout=PATIENCE_S)
    assert refused.status_code == 503 and "was removed or replaced" in refused.json()["message"], refused.text
    assert httpx.get(gateway.admin + "/readyz", trust_env=False).status_code == 503
    assert httpx.get(gateway.proxy + "/nothing", trust_env=False).status_code == 404
    aside.rename(path)
    gateway.make("/services", name="late", url="http://127.0.0.1:9")
    assert httpx.get(gateway.admin + "/readyz", trust_env=False).status_code == 200


def test_odd_form_of_a_client_is_no_line_of_the_log(new_gateway: New) -> None:
    gateway = new_gateway()
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\nmore behind the end of it'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    httpx.post(gateway.admin + "/services", content=body, headers=headers, trust_env=False)
    lines = [json.loads(line) for line in gateway.process.lines]
    assert [line for line in lines if line["event"] == "message"] == []
