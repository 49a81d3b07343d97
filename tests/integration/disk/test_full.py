"""A full disk: a start reports it, a serving gateway survives it, and changes work again as soon as there is space.

The disk is a tmpfs of the test. The full disk must not change the proxy's answers and the limits.
"""

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.disk import SmallDisk, small_disk
from tests.support.processes import AIGW, PATIENCE_S, Gateway, start_gateway, wait_until

KEY = "a-key-that-is-only-used-in-tests"
LIMIT = 40
REPAIR = "free some space on that disk"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 40) as made:
        yield made


@pytest.fixture
def gateway(disk: SmallDisk, echo: str) -> Iterator[Gateway]:
    running = start_gateway(disk.folder / "data", "--drain-timeout", "2", workers=2)
    running.route(echo, "/ai")
    running.make("/services/s1/plugins", name="key-auth")
    running.make("/services/s1/plugins", name="rate-limiting", config={"year": LIMIT, "policy": "local"})
    running.make("/consumers", username="x")
    running.make("/consumers/x/key-auth", key=KEY)
    yield running
    running.process.end()


def call(gateway: Gateway, path: str = "/ai/get") -> int:
    return httpx.get(gateway.proxy + path, headers={"apikey": KEY}, trust_env=False, timeout=PATIENCE_S).status_code


def admin(gateway: Gateway, method: str, path: str, **body: Any) -> httpx.Response:
    return httpx.request(method, gateway.admin + path, json=body or None, trust_env=False, timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("mebibytes", "culprit"),
    [(0.0625, "store.db"), (1, "cells/open"), (9.5, "ledger.db"), (13, "cells/slot-00")],
    ids=lambda value: f"{value}",
)
def test_a_gateway_that_cannot_start_ends_and_says_what_it_lacks(
    tmp_path: Path, mebibytes: float, culprit: str
) -> None:
    with small_disk(tmp_path / "disk", mebibytes) as disk:
        command = [*AIGW, "serve", "--data", str(disk.folder / "data"), "--workers", "1"]
        command += ["--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        end = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert end.returncode == 1  # not 2: with room, the same command works
    last = end.stderr.splitlines()[-1]
    assert last.startswith("aigw: the gateway cannot start: ")
    assert culprit in last and REPAIR in last
    assert "Traceback" not in end.stderr and "panicked" not in end.stderr


def test_a_gateway_starts_where_one_could_not_once_there_is_room(disk: SmallDisk, echo: str) -> None:
    disk.fill()
    with pytest.raises(AssertionError, match="cannot start"):
        start_gateway(disk.folder / "data", workers=1)
    disk.empty()
    gateway = start_gateway(disk.folder / "data", workers=1)
    try:
        gateway.route(echo, "/ai")
        assert call(gateway) == 200
    finally:
        gateway.process.end()


def test_a_gateway_that_ended_in_order_says_on_a_full_disk_what_it_lacks(disk: SmallDisk) -> None:
    assert start_gateway(disk.folder / "data", workers=1).process.end() == 0
    disk.fill()
    with pytest.raises(AssertionError, match=REPAIR):
        start_gateway(disk.folder / "data", workers=1)
    disk.empty()
    assert start_gateway(disk.folder / "data", workers=1).process.end() == 0


def test_while_the_disk_is_full_writes_are_refused_and_the_proxy_goes_on(gateway: Gateway, disk: SmallDisk) -> None:
    passed = Counter(call(gateway) for _ in range(5))
    disk.fill()
    for method, path, body in (
        ("POST", "/consumers", {"username": "y"}),
        ("POST", "/routes", {"paths": ["/new"], "service": {"name": "s1"}}),
        ("PATCH", "/services/s1", {"retries": 1}),
        ("POST", "/consumers/x/plugins", {"name": "rate-limiting", "config": {"minute": 1, "policy": "local"}}),
        ("DELETE", "/routes/s1-route", {}),
    ):
        answer = admin(gateway, method, path, **body)
        assert answer.status_code == 503, (method, path, answer.text)
        assert "nothing of this was changed" in answer.json()["message"] and REPAIR in answer.json()["message"]
    for path in ("/consumers", "/routes/s1-route", "/status", "/metrics", "/consumers/x/limits", "/readyz"):
        assert admin(gateway, "GET", path).status_code == 200
    # No file is needed for a request or a limit: each was given its room when it was made.
    passed.update(call(gateway) for _ in range(10))
    assert passed == {200: 15}
    # A worker that starts now has no room for entries, and refuses: the other one goes on.
    os.kill(gateway.children()["worker-1"], signal.SIGKILL)
    gateway.wait_event("ready", child="worker-1")
    passed.update(call(gateway) for _ in range(10))
    assert passed.keys() <= {200, 503}

    disk.empty()

    def is_spent() -> bool:
        passed[call(gateway)] += 1
        return passed[200] == LIMIT

    wait_until(is_spent, "every worker has room again, and refused calls have taken nothing")
    assert call(gateway) == 429
    assert admin(gateway, "POST", "/consumers", username="y").status_code == 201
    assert admin(gateway, "PATCH", "/plugins/" + the_limit(gateway), config={"year": LIMIT + 2}).status_code == 200
    assert [call(gateway) for _ in range(3)] == [200, 200, 429]  # in force, and the counts were kept


def the_limit(gateway: Gateway) -> str:
    (plugin,) = [one for one in admin(gateway, "GET", "/plugins").json()["data"] if one["name"] == "rate-limiting"]
    found: str = plugin["id"]
    return found


def test_a_control_process_killed_on_a_full_disk_comes_back_with_room(gateway: Gateway, disk: SmallDisk) -> None:
    def came_of_it(line: str) -> bool:
        event = json.loads(line) if line.startswith("{") else {}
        return event.get("event") == "control_failed" or (event.get("event"), event.get("child")) == (
            "ready",
            "control",
        )

    for _ in range(5):  # the first may find space in older files: the log, an older base
        disk.fill()
        os.kill(gateway.children()["control"], signal.SIGKILL)
        came = json.loads(gateway.process.wait_line(came_of_it))
        # A start that fails may have freed a log: the next one finds that room.
        if came["event"] == "control_failed" and "ready" not in gateway.process.wait_line(came_of_it):
            break
    assert REPAIR in came["error"]
    for _ in range(4):  # more often than a start would be tried: once it has served, a gateway does not give up
        gateway.wait_event("died", child="control")
    assert Counter(call(gateway) for _ in range(LIMIT + 1)) == {200: LIMIT, 429: 1}
    disk.empty()
    gateway.wait_event("ready", child="control")
    assert admin(gateway, "POST", "/consumers", username="y").status_code == 201
    assert call(gateway) == 429


def test_at_whatever_byte_the_disk_fills_a_change_is_made_whole_or_not_at_all(
    gateway: Gateway, disk: SmallDisk
) -> None:
    """A stored change has its space in the snapshot already: it does not wait for space, and no revocation waits for it."""
    told: Counter[str] = Counter()
    for pages in range(40):
        disk.fill(but=pages * 4096)
        name = f"r{pages:02}"  # none is the beginning of another
        answer = admin(gateway, "PUT", f"/services/s1/routes/{name}", paths=[f"/{name}"])
        now = call(gateway, f"/{name}/get") != 404
        if answer.status_code == 200:
            told["made"] += 1
            assert now, "it was said to be in force"
        else:
            assert answer.status_code == 503, answer.text
            message = answer.json()["message"]
            assert REPAIR in message and "nothing of this was changed" in message
            told["refused"] += 1
            assert not now
        disk.empty()
    assert told["made"] and told["refused"], told
    routes = {route["name"] for route in admin(gateway, "GET", "/routes?size=1000").json()["data"]}
    assert len(routes) == 1 + told["made"]
    assert admin(gateway, "GET", "/status").json()["configuration"]["error"] is None


def test_at_whatever_byte_the_disk_fills_a_key_opens_or_was_never_made(gateway: Gateway, disk: SmallDisk) -> None:
    told: Counter[int] = Counter()
    for pages in range(24):
        disk.fill(but=pages * 4096)
        key = f"another-key-of-the-tests-{pages:02}" + "x" * 400
        answer = admin(gateway, "POST", "/consumers", username=f"u{pages:02}" + "x" * 1000)
        if answer.status_code == 201:
            answer = admin(gateway, "POST", f"/consumers/{answer.json()['id']}/key-auth", key=key)
        told[answer.status_code] += 1
        assert answer.status_code == 201 or (answer.status_code == 503 and "nothing of this was changed" in answer.text)
        opened = httpx.get(gateway.proxy + "/ai/get", headers={"apikey": key}, trust_env=False).status_code
        assert (opened != 401) == (answer.status_code == 201)
        disk.empty()
    assert told[201] and told[503], told


def test_a_change_whose_counters_have_no_room_is_not_stored_and_a_revocation_goes_through(
    gateway: Gateway, disk: SmallDisk
) -> None:
    disk.fill(but=6 << 20)  # enough for the store and the snapshot, not for the metrics of so many routes
    routes = "".join(f"      - {{name: r{n}, paths: [/r{n}]}}\n" for n in range(3000))
    text = f"services:\n  - name: many\n    url: http://127.0.0.1:9\n    routes:\n{routes}"
    headers = {"content-type": "application/yaml"}
    answer = httpx.post(gateway.admin + "/config", content=text, headers=headers, trust_env=False, timeout=PATIENCE_S)
    assert answer.status_code == 503, answer.text
    assert (
        "the change could not be written, and nothing of this was changed" in answer.json()["message"]
        and REPAIR in answer.json()["message"]
    )
    assert call(gateway) == 200
    (key,) = admin(gateway, "GET", "/consumers/x/key-auth").json()["data"]
    assert admin(gateway, "DELETE", f"/consumers/x/key-auth/{key['id']}").status_code == 204
    assert call(gateway) == 401
    assert "[+]snapshot ok" in httpx.get(gateway.admin + "/readyz?verbose", trust_env=False).text
