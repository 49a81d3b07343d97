"""A client that does not read its answer is cut after its time, and the record says that it was the client.

Guarantee under test: outcome `client_cut` with `client_stalled` in the access log, the ledger and the metrics; no error of the
upstream anywhere; the tokens of a stream are those that were counted on the way.
"""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx2 as httpx
import pytest

from tests.support.certificates import certificate
from tests.support.ends import Upstream, Wire, message, read_to_end
from tests.support.hostile import MIB, Flood, kept_for_clients, slow_readers
from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, metric, start_configured

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (b"word " * 1000)
EVENTS = 3000
"""15 MB: more than the kernel takes for a client that does not read."""


def endless(wire: Wire) -> None:
    """A stream that is longer than a client reads."""
    if wire.request() is not None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + EVENT * EVENTS)


@dataclass(frozen=True)
class Stalling:
    """A gateway whose answers are larger than the buffers of the kernel, with short bounds."""

    gateway: Gateway

    def stalled(self, who: Caller, request: bytes, readers: int = 2) -> list[Json]:
        """The lines of clients that asked so and did not read."""
        crowd = slow_readers(self.gateway.proxy, request, readers)
        found: list[Json] = []

        def there() -> bool:
            lines = (json.loads(line) for line in (self.gateway.data.parent / "log").read_text().splitlines())
            found[:] = [line for line in lines if line["consumer_name"] == who.name]
            return len(found) == readers

        wait_until(there, "the calls are over")
        for one in crowd:
            one.close()
        return found

    def events(self, who: Caller) -> list[Json]:
        """The caller's entries."""

        def read() -> list[Json]:
            query = {"consumer": who.name}
            rows: list[Json] = httpx.get(f"{self.gateway.admin}/usage/events", params=query, trust_env=False).json()[
                "data"
            ]
            return rows

        wait_until(lambda: len(read()) == 2, "the calls are in the ledger")
        return read()

    def errors(self, who: Caller) -> int:
        """The caller's errors in the sums of the ledger."""
        query = {"consumer": who.name}
        (row,) = httpx.get(f"{self.gateway.admin}/usage", params=query, trust_env=False).json()["data"]
        return int(row["errors"])

    def counted(self, name: str) -> float:
        return metric(self.gateway, name)


@pytest.fixture(scope="module")
def stalling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stalling]:
    with ExitStack() as stack:
        flood = stack.enter_context(Flood(20 * MIB))
        llm = stack.enter_context(Upstream(endless))
        folder = tmp_path_factory.mktemp("stalling")
        year = {"requests": 1_000_000, "per": "year"}
        configuration: Json = {
            "models": {"long": {"upstreams": [{"url": llm.url + "/v1", "model": "long"}], "tokenizer": "bytes"}},
            "tiers": {
                "counted": {"limits": [year]},
                "brief": {"limits": [year, {"tokens": 10**12, "per": "year"}], "timeouts": {"total": "2s"}},
            },
            "services": [
                {
                    "name": "flood",
                    "url": flood.url,
                    "read_timeout": 1000,
                    "routes": [{"name": "flood", "paths": ["/flood"]}],
                    "plugins": [{"name": "key-auth"}],
                }
            ],
        }
        made = certificate(folder / "certificate")
        options = ["--access-log", str(folder / "log"), "--proxy-tls", "127.0.0.1:0"]
        options += ["--tls-cert", str(made.chain), "--tls-key", str(made.key)]
        gateway = start_configured(folder / "data", configuration, *options)
        stack.callback(gateway.process.end)
        yield Stalling(gateway)


def of_route(who: Caller) -> bytes:
    return message("GET", "/flood/x", f"apikey: {who.key}")


def of_model(who: Caller) -> bytes:
    return message("POST", "/v1/chat/completions", who.bearer, body=json.dumps(chat("long", stream=True)).encode())


@pytest.mark.parametrize(("request_of", "tier"), [(of_route, "counted"), (of_model, "brief")])
def test_client_that_does_not_read_is_cut_as_the_client(
    stalling: Stalling, request_of: Callable[[Caller], bytes], tier: str
) -> None:
    who, before = caller(stalling.gateway, tier), stalling.counted("aigw_client_stalled_total")
    lines = stalling.stalled(who, request_of(who))
    assert {(line["status"], line["outcome"], line["error_type"]) for line in lines} == {
        (200, "client_cut", "client_stalled")
    }
    assert {(event["status"], event["outcome"]) for event in stalling.events(who)} == {(200, "client_cut")}
    assert (stalling.errors(who), who.used()[0]) == (0, 2)
    wait_until(lambda: stalling.counted("aigw_client_stalled_total") == before + 2, "the clients are counted")


@pytest.mark.parametrize("tls", [False, True])
def test_kernel_drops_the_bytes_of_a_stalled_client(stalling: Stalling, tls: bool) -> None:
    """It held some hundred KB for each, for minutes. The client sees a reset, not an end."""
    url = stalling.gateway.secure if tls else stalling.gateway.proxy
    who, before = caller(stalling.gateway, "counted"), stalling.counted("aigw_client_stalled_total")
    crowd = slow_readers(url, of_route(who), 4)
    wait_until(lambda: kept_for_clients(url) > 4 * 64 * 1024, "the kernel holds bytes of each answer")
    wait_until(lambda: kept_for_clients(url) == 0, "the kernel has dropped them")
    assert stalling.counted("aigw_client_stalled_total") == before + 4, "once each"
    for one in crowd:
        with one, pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            while one.recv(65536):
                pass


def test_slow_client_whose_time_is_over_gets_the_bytes_that_were_sent(stalling: Stalling) -> None:
    """It is behind when its call's time is over, but it reads: the kernel goes on sending."""
    who = caller(stalling.gateway, "brief")
    (slow,) = slow_readers(stalling.gateway.proxy, of_model(who), 1)
    before = stalling.counted("aigw_client_stalled_total")
    with slow:
        got = 0
        while stalling.counted("aigw_client_stalled_total") == before:
            got += len(slow.recv(4096))
        held = kept_for_clients(stalling.gateway.proxy) - 1  # the end counts as a byte
        assert held > 0, "the kernel holds bytes of the answer"
        assert len(read_to_end(slow)) >= held


def test_stalled_stream_is_no_error_of_its_model_and_costs_what_was_counted(stalling: Stalling) -> None:
    who = caller(stalling.gateway, "brief")
    stalling.stalled(who, of_model(who))
    for event in stalling.events(who):
        assert event["usage_source"] == "counted"
        assert 0 < event["output_tokens"] < EVENTS * 5000
    assert metric(stalling.gateway, "aigw_upstream_errors_total", model="long") == 0
    calls = {"tier": "brief", "model": "long"}
    failed = metric(
        stalling.gateway, "aigw_model_requests_total", **calls, outcome="client_cut", error_type="client_stalled"
    )
    assert failed == metric(stalling.gateway, "aigw_model_requests_total", **calls) >= 2
    durations = "gen_ai_server_request_duration_seconds_count"
    assert metric(stalling.gateway, durations, aigw_tier="brief", error_type="client_stalled") == failed
