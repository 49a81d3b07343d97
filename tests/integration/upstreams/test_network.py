"""Hosts that vanish, names whose addresses change, upstreams that are down: told in time, in the log, in `/status` and as a metric."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx

from tests.support.ends import Upstream, Wire
from tests.support.network import Hosts, in_own_network, ip
from tests.support.processes import PATIENCE_S, Gateway, wait_until
from tests.support.surface import Json, caller, chat, is_error, metric, start_configured

ANSWER = json.dumps({"id": "c", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1}}).encode()
SLOW_S = 32.0
"""Seconds that a living host may be silent: more than a vanished one."""


def answer(wire: Wire) -> None:
    """Answer every request of the connection."""
    while wire.request() is not None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER))
        wire.send(ANSWER)


def configuration(**models: str | list[str]) -> Json:
    """A configuration with these models, each at one URL or several."""
    urls = {name: [url] if isinstance(url, str) else url for name, url in models.items()}
    return {
        "models": {name: {"upstreams": [{"url": url + "/v1"} for url in own]} for name, own in urls.items()},
        "tiers": {"t": {}},
    }


@contextlib.contextmanager
def gateway(data: Path, models: Json, workers: int = 1, prefix: tuple[str, ...] = ()) -> Iterator[Gateway]:
    running = start_configured(data, models, workers=workers, prefix=prefix)
    try:
        yield running
    finally:
        running.process.end()


def down(gateway: Gateway) -> list[Json]:
    rows: list[Json] = httpx.get(gateway.admin + "/status", trust_env=False).json()["upstreams"]["down"]
    return rows


def events(gateway: Gateway, name: str) -> list[Json]:
    lines = [json.loads(line) for line in gateway.process.lines if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def silent(wire: Wire) -> None:
    if wire.request() is not None:
        wire.wait_closed()


def test_vanished_host_is_told_within_30_seconds(tmp_path: Path) -> None:
    """One call waits for its answer when the host goes, the other is sent over a kept connection after that."""

    def test() -> None:
        ip("addr", "add", "10.9.9.9/32", "dev", "lo")
        with (
            Upstream(answer, "10.9.9.9") as kept,
            Upstream(silent, "10.9.9.9") as waited,
            gateway(tmp_path / "data", configuration(kept=kept.url, waited=waited.url)) as running,
        ):
            who = caller(running, "t")
            assert who.post(chat("kept")).status_code == 200
            answers: list[httpx.Response] = []
            begin = time.monotonic()
            first = threading.Thread(target=lambda: answers.append(who.post(chat("waited"))))
            first.start()
            wait_until(lambda: bool(waited.requests), "the first call is sent")
            ip("addr", "del", "10.9.9.9/32", "dev", "lo")
            ip("route", "add", "blackhole", "10.9.9.9/32")
            answers.append(who.post(chat("kept")))
            first.join()
            took = time.monotonic() - begin
        assert [is_error(one, 504)["aigw"]["reason"] for one in answers] == ["upstream_vanished"] * 2
        assert took < 30

    in_own_network(test)


def test_living_host_that_is_slow_is_not_cut(tmp_path: Path) -> None:
    """One upstream thinks, the other takes nothing of a large body, both for longer than a vanished host is waited for."""

    def think(wire: Wire) -> None:
        if wire.request() is not None:
            time.sleep(SLOW_S)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))

    def read_late(wire: Wire) -> None:
        time.sleep(SLOW_S)
        answer(wire)

    with (
        Upstream(think) as thinks,
        Upstream(read_late) as reads,
        gateway(tmp_path / "data", configuration(thinks=thinks.url, reads=reads.url)) as running,
    ):
        who = caller(running, "t")
        large = {**chat("reads"), "messages": [{"role": "user", "content": "x" * (9 << 20)}]}
        answers: dict[str, int] = {}
        calls = [
            threading.Thread(target=lambda body=body: answers.update({body["model"]: who.post(body).status_code}))
            for body in (chat("thinks"), large)
        ]
        for one in calls:
            one.start()
        for one in calls:
            one.join()
    assert answers == {"thinks": 200, "reads": 200}


def test_dead_upstream_is_told_once_by_all_workers_and_again_when_it_is_back(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    upstream = f"127.0.0.1:{port}"
    with gateway(tmp_path / "data", configuration(m=f"http://{upstream}"), workers=2) as running:
        who = caller(running, "t")
        assert down(running) == [] and metric(running, "aigw_upstream_up", upstream=upstream) == 1
        for _ in range(40):  # both workers get some
            assert is_error(who.post(chat("m")))["type"] == "server_error"
        (row,) = down(running)
        assert (row["upstream"], row["models"], row["services"], row["reason"]) == (upstream, ["m"], [], "refused")
        assert abs(time.time() - row["since"]) < PATIENCE_S
        assert metric(running, "aigw_upstream_up", upstream=upstream) == 0
        with Upstream(answer, port=port):
            wait_until(lambda: down(running) == [], "the upstream is found without a call")
            running.wait_event("upstream_up", upstream=upstream)
            assert who.post(chat("m")).status_code == 200
        assert metric(running, "aigw_upstream_up", upstream=upstream) == 1
        (told,) = events(running, "upstream_down")
        assert (told["upstream"], told["reason"]) == (upstream, "refused")
        assert len(events(running, "upstream_up")) == 1


def test_upstream_that_leaves_the_configuration_is_not_down_any_more(tmp_path: Path) -> None:
    with Upstream(answer) as alive:
        gone = Upstream(answer)
        gone.__exit__(None, None, None)
        models = configuration(m=gone.url, other=alive.url)
        with gateway(tmp_path / "data", models) as running:
            who = caller(running, "t")
            for _ in range(3):
                is_error(who.post(chat("m")), 502)
            assert len(down(running)) == 1
            (tmp_path / "data.yaml").write_text(json.dumps(configuration(m=alive.url, other=alive.url)))
            wait_until(lambda: who.post(chat("m")).status_code == 200, "the new file is in force")
            assert down(running) == []


def test_name_is_followed_and_its_addresses_are_taken_in_turn(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    first = Upstream(answer, "127.0.0.2")
    with first, Upstream(answer, "127.0.0.3", first.port) as second, Upstream(answer, "127.0.0.4", first.port) as third:
        hosts.write({"fleet.test": ("127.0.0.2", "127.0.0.3")})
        models = configuration(m=f"http://fleet.test:{first.port}")
        with gateway(tmp_path / "data", models, prefix=hosts.prefix) as running:
            who = caller(running, "t")
            for _ in range(10):
                assert who.post(chat("m")).status_code == 200
            assert (len(first.requests), len(second.requests)) == (5, 5)
            hosts.write({"fleet.test": ("127.0.0.4",)})
            wait_until(lambda: who.post(chat("m")).is_success and bool(third.requests), "the new address is called")
            before = len(first.requests) + len(second.requests)
            hosts.write({})  # a resolver without an answer leaves the last one in force
            running.wait_event("upstream_name_lost", upstream=f"fleet.test:{first.port}")
            assert who.post(chat("m")).status_code == 200
            assert len(first.requests) + len(second.requests) == before
