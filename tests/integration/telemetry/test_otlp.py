"""OTLP of a running gateway, against a collector that is a process of its own and decodes what it gets."""

import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.load import request
from tests.support.processes import Gateway, Process, start_collector
from tests.support.wire import Connection

New = Callable[..., Gateway]

KEY = "a-key-that-nobody-may-read-0000"
CUMULATIVE = 2


@pytest.fixture
def collect() -> Iterator[Callable[..., tuple[Process, dict[str, str]]]]:
    """Start a collector: its process, and the environment that makes a gateway export to it."""
    started: list[Process] = []

    def start(*arguments: str) -> tuple[Process, dict[str, str]]:
        process, url = start_collector(*arguments)
        started.append(process)
        interval = {"OTEL_METRIC_EXPORT_INTERVAL": "100", "NO_PROXY": "127.0.0.1"}
        return process, {"AIGW_OTLP_ENDPOINT": url, **interval}

    yield start
    for process in started:
        process.end()


def export(process: Process, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The next export that is `wanted`."""
    found: dict[str, Any] = json.loads(process.wait_line(lambda line: wanted(json.loads(line))))
    return found


def answers(told: dict[str, Any]) -> Counter[tuple[str, str]]:
    """Requests by status and who answered, as the export says."""
    found: Counter[tuple[str, str]] = Counter()
    for point in told["metrics"].get("kong_http_requests", {"points": []})["points"]:
        found[point["attributes"]["code"], point["attributes"]["source"]] += int(point["value"])
    return found


def send(gateway: Gateway) -> Counter[tuple[str, str]]:
    """A route with keys and a limit of three per year; some calls of each sort, and their answers."""
    counted: Counter[tuple[str, str]] = Counter()
    with Connection(gateway.proxy) as connection:
        for message, status, source in (
            *[(request("/keyed/get", KEY), "200", "service")] * 3,
            *[(request("/keyed/get", KEY), "429", "exit")] * 2,
            *[(request("/keyed/get"), "401", "exit")] * 4,
            (request("/nowhere"), "404", "exit"),
        ):
            assert str(connection.ask(message).status) == status
            counted[status, source] += 1
    return counted


def make(gateway: Gateway, url: str) -> None:
    gateway.route(url, "/keyed", "keyed")
    gateway.make("/services/keyed/plugins", name="key-auth")
    gateway.make("/services/keyed/plugins", name="rate-limiting", config={"year": 3, "policy": "local"})
    gateway.make("/consumers", username="one")
    gateway.make("/consumers/one/key-auth", key=KEY)


def test_a_collector_gets_what_the_page_shows(new_gateway: New, echo: str, collect: Callable[..., Any]) -> None:
    began = time.time_ns()
    collector, environment = collect()
    gateway = new_gateway(workers=2, env=environment)
    make(gateway, echo)
    counted = send(gateway)
    told = export(collector, lambda told: answers(told) == counted)
    assert told["resource"]["service.name"] == "aigw"
    assert told["resource"]["service.version"]
    metrics = told["metrics"]

    page = httpx.get(gateway.admin + "/metrics", trust_env=False).text
    kinds = dict(line[7:].split(" ") for line in page.splitlines() if line.startswith("# TYPE "))
    # A family without a sample (no tier, no model) is only announced on the page.
    sampled = {line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if not line.startswith("#")}
    kinds = {name: kind for name, kind in kinds.items() if sampled & {name, f"{name}_count"}}
    assert set(metrics) == {name.removesuffix("_total") if kind == "counter" else name for name, kind in kinds.items()}
    for name, kind in kinds.items():
        metric = metrics[name.removesuffix("_total") if kind == "counter" else name]
        assert metric["kind"] == {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}[kind]
        assert metric["description"] and metric["unit"]
        if kind == "counter":
            assert metric["monotonic"]
        if kind != "gauge":
            assert metric["temporality"] == CUMULATIVE
        for point in metric["points"]:
            assert began <= point["time"] <= time.time_ns()
            if kind != "gauge":
                # File systems tell the time of a file in steps of some milliseconds.
                assert began - 20_000_000 <= point["start"] <= point["time"]
    denials = {p["attributes"]["reason"]: p["value"] for p in metrics["aigw_denials"]["points"] if p["value"]}
    assert denials == {"rate_limited": 2, "no_api_key": 4, "no_route": 1}
    latency = metrics["kong_request_latency_ms"]["points"]
    assert sum(point["count"] for point in latency) == counted.total()
    assert all(sum(point["buckets"]) == point["count"] for point in latency)
    assert sorted(p["value"] for p in metrics["aigw_worker_ready"]["points"]) == [1, 1]
    assert KEY not in "".join(collector.lines)


def test_totals_only_grow_and_outlive_a_killed_control_process(
    new_gateway: New, echo: str, collect: Callable[..., Any]
) -> None:
    collector, environment = collect()
    gateway = new_gateway(workers=1, env=environment)
    make(gateway, echo)
    counted = send(gateway)
    export(collector, lambda told: answers(told) == counted)
    httpx.get(gateway.proxy + "/nowhere", trust_env=False)
    counted["404", "exit"] += 1
    told = export(collector, lambda told: answers(told) == counted)
    os.kill(gateway.children()["control"], signal.SIGKILL)
    gateway.wait_event("ready", child="control")
    again = export(collector, lambda other: starts(other, "aigw_config_reloads") != starts(told, "aigw_config_reloads"))
    assert answers(again) == counted  # counters are in files, whoever reads them
    for name in ("kong_http_requests", "kong_request_latency_ms", "aigw_denials"):
        assert starts(again, name) == starts(told, name), "counters that live on keep the start of their counting"
    assert again["resource"] == told["resource"], "one instance, whichever process exports"
    assert all("min" not in point for point in again["metrics"]["kong_request_latency_ms"]["points"])


def starts(told: dict[str, Any], name: str) -> set[int]:
    return {point["start"] for point in told["metrics"][name]["points"]}


def test_lost_counters_look_like_a_reset(new_gateway: New, echo: str, collect: Callable[..., Any]) -> None:
    collector, environment = collect()
    gateway = new_gateway(workers=1, env=environment)
    make(gateway, echo)
    counted = send(gateway)
    told = export(collector, lambda told: answers(told) == counted)
    gateway.process.end()
    (gateway.data / "cells").rename(gateway.data / "cells-of-before")
    gateway = new_gateway(workers=1, env=environment, data=gateway.data)
    again = export(collector, lambda other: starts(other, "aigw_denials") != starts(told, "aigw_denials"))
    assert not answers(again)
    assert min(starts(again, "aigw_denials")) > max(starts(told, "aigw_denials"))


def test_names_of_the_resource_come_from_opentelemetrys_variables(
    new_gateway: New, collect: Callable[..., Any]
) -> None:
    collector, environment = collect()
    names = {"OTEL_SERVICE_NAME": "edge", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod"}
    gateway = new_gateway(workers=1, env=environment | names)
    resource = export(collector, lambda _: True)["resource"]
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("edge", "prod")
    node = httpx.get(gateway.admin, trust_env=False).json()["node_id"]
    assert resource["service.instance.id"] == node


def test_an_absent_collector_is_in_the_log_as_one_line(new_gateway: New) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        fast = {"OTEL_METRIC_EXPORT_INTERVAL": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "2", "NO_PROXY": "127.0.0.1"}
        gateway = new_gateway(workers=1, env={"AIGW_OTLP_ENDPOINT": url, "AIGW_LOG_FORMAT": "json", **fast})
        line = gateway.process.wait_line(lambda line: "otlp" in line)
    told = json.loads(line)
    assert (told["event"], told["endpoint"], told["error"]) == ("otlp_failed", url, "Connection refused")
    assert gateway.process.end() == 0
    lines = [line for line in gateway.process.lines if "otlp" in line or "Traceback" in line or "opentelemetry" in line]
    assert lines == [line]


def test_a_collector_that_fails_for_a_while_misses_nothing(
    new_gateway: New, echo: str, collect: Callable[..., Any]
) -> None:
    collector, environment = collect("--refuse", "2")
    gateway = new_gateway(workers=1, env=environment)
    make(gateway, echo)
    counted = send(gateway)
    export(collector, lambda told: answers(told) == counted)


def test_the_last_numbers_are_sent_at_the_end(new_gateway: New, echo: str, collect: Callable[..., Any]) -> None:
    collector, environment = collect()
    gateway = new_gateway(workers=1, env=environment | {"OTEL_METRIC_EXPORT_INTERVAL": "3600000"})
    make(gateway, echo)
    counted = send(gateway)
    assert gateway.process.end() == 0
    told = export(collector, lambda _: True)  # the first there is
    assert answers(told) == counted
