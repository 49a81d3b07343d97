"""The export, from metric families to a request that a collector decodes."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import cast

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from aigw._native import metrics_table
from aigw.telemetry import start_exporter
from aigw.telemetry.convert import ATTRIBUTES, CONVENTIONAL
from aigw.telemetry.export import Exporter
from aigw.telemetry.families import Family, Sample, text
from aigw.telemetry.faults import Faults
from tests.support.processes import wait_until

FAMILIES = [
    Family(
        "aigw_requests_total",
        "counter",
        "Requests answered.",
        [
            Sample("aigw_requests_total", (("route", 'a"b\\c'), ("status", "200")), 3.0),
            Sample("aigw_requests_total", (("route", "x"), ("status", "429")), 1.0),
        ],
    ),
    Family("aigw_workers", "gauge", "Workers.", [Sample("aigw_workers", (), 2.0)]),
    Family(
        "aigw_latency_seconds",
        "histogram",
        "Latency.",
        [
            Sample("aigw_latency_seconds_bucket", (("le", "0.1"),), 4.0),
            Sample("aigw_latency_seconds_bucket", (("le", "1"),), 6.0),
            Sample("aigw_latency_seconds_bucket", (("le", "+Inf"),), 7.0),
            Sample("aigw_latency_seconds_sum", (), 9.5),
            Sample("aigw_latency_seconds_count", (), 7.0),
        ],
    ),
]


class Collector(HTTPServer):
    """A real HTTP collector on a free port."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.paths: list[str] = []
        self.answers: Iterator[int] = iter([])
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.paths.append(self.path)
        self.server.requests.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(next(self.server.answers, 200))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


STORE = "5f1d7a3e-0000-4000-8000-000000000001"
SINCE = 1_700_000_000_000_000_000


class Lines(list[tuple[str, dict[str, object]]]):
    """A process log that is read by the test."""

    def __call__(self, event: str, /, **facts: object) -> None:
        self.append((event, facts))


def begin(
    endpoint: str,
    families: Callable[[], list[Family]] = lambda: FAMILIES,
    faults: Faults | None = None,
    log: Lines | None = None,
) -> Exporter:
    exporter = start_exporter(
        endpoint,
        STORE,
        lambda: [(family, SINCE) for family in families()],
        faults or Faults(),
        Lines() if log is None else log,
    )
    assert exporter is not None
    return exporter


def test_a_collector_gets_every_sample(collector: Collector) -> None:
    exporter = begin(f"http://127.0.0.1:{collector.server_port}")
    exporter.shutdown()
    assert collector.paths == ["/v1/metrics"]
    (resource,) = collector.requests[0].resource_metrics
    assert ("service.name", "aigw") in [(a.key, a.value.string_value) for a in resource.resource.attributes]
    metrics = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    assert set(metrics) == {"aigw_requests", "aigw_workers", "aigw_latency_seconds"}
    requests = metrics["aigw_requests"].sum
    assert requests.is_monotonic
    sent = {tuple((a.key, a.value.string_value) for a in p.attributes): p.as_double for p in requests.data_points}
    assert sent == {(("route", 'a"b\\c'), ("status", "200")): 3, (("route", "x"), ("status", "429")): 1}
    assert metrics["aigw_workers"].gauge.data_points[0].as_double == 2
    (latency,) = metrics["aigw_latency_seconds"].histogram.data_points
    assert (latency.count, latency.sum, list(latency.bucket_counts)) == (7, 9.5, [4, 2, 1])
    assert list(latency.explicit_bounds) == [0.1, 1.0]
    assert not latency.HasField("min") and not latency.HasField("max")
    assert latency.start_time_unix_nano == requests.data_points[0].start_time_unix_nano == SINCE


def resource_of(collector: Collector) -> dict[str, str]:
    begin(f"http://127.0.0.1:{collector.server_port}").shutdown()
    (resource,) = collector.requests[-1].resource_metrics
    return {a.key: a.value.string_value for a in resource.resource.attributes}


def test_the_instance_is_the_stores_and_variables_win(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    told = [resource_of(collector) for _ in range(2)]
    assert {one["service.instance.id"] for one in told} == {STORE}
    assert told[0]["service.name"] == "aigw" and told[0]["service.version"]
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.instance.id=pod-7,a=b%20c")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "our-gateway")
    named = resource_of(collector)
    assert (named["service.name"], named["service.instance.id"]) == ("our-gateway", "pod-7")
    assert (named["deployment.environment.name"], named["a"]) == ("prod", "b c")


def test_a_failing_collector_is_in_the_log_once_and_when_it_is_back(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1")
    log, refused, taken = Lines(), threading.Event(), threading.Event()
    collector.answers = iter([400, 400, 400])
    count = iter(range(1_000_000))

    def families() -> list[Family]:
        n = next(count)
        (refused if n == 3 else taken).set() if n in (3, 5) else None
        return FAMILIES

    exporter = begin(f"http://user:secret@127.0.0.1:{collector.server_port}", families, log=log)
    assert refused.wait(30) and taken.wait(30)
    exporter.shutdown()
    assert [event for event, _ in log] == ["otlp_failed", "otlp_works_again"]
    assert log[0][1]["endpoint"] == f"http://127.0.0.1:{collector.server_port}"
    assert "400" in str(log[0][1]["error"]) and log[1][1]["failed"] == 3
    assert "secret" not in str(log) and capfd.readouterr().err == ""


def test_a_refused_connection_is_told_without_the_endpoints_query(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}/v1/metrics?key=planted"
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "3")
        log = Lines()
        exporter = start_exporter(None, STORE, lambda: [(family, SINCE) for family in FAMILIES], Faults(), log)
        assert exporter is not None
        exporter.shutdown()
        wait_until(lambda: bool(log), "the failure is in the log")
    assert [event for event, _ in log] == ["otlp_failed"]
    assert log[0][1]["error"] == "Connection refused" and "planted" not in str(log)


@pytest.mark.parametrize(
    ("variable", "value", "event"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "otlp_off"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "a minute", "otlp_interval"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "otlp_cumulative"),
        ("OTEL_SDK_DISABLED", "true", None),
    ],
)
def test_variables_that_cannot_be_followed_are_in_the_log(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, event: str | None
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv(variable, value)
    log = Lines()
    exporter = start_exporter(None, STORE, list, Faults(), log)
    if exporter is not None:
        exporter.shutdown()
    assert [told for told, _ in log] == ([event] if event else [])
    assert (exporter is None) == (event in ("otlp_off", None))


def test_export_reads_the_table_again_after_a_failure(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1")
    faults, came = Faults(), threading.Event()
    errors = iter([OSError("no table")])

    def families() -> list[Family]:
        if (error := next(errors, None)) is not None:
            raise error
        came.set()
        return FAMILIES

    exporter = begin(f"http://127.0.0.1:{collector.server_port}", families, faults)
    assert came.wait(30)
    exporter.shutdown()
    assert 'aigw_control_faults_total{thread="export"} 1' in text(faults.families()).splitlines()
    assert "could not export the metrics" in caplog.text


def test_exported_metrics_have_the_names_of_the_conventions(collector: Collector) -> None:
    """Prometheus writes `gen_ai.server.request.duration`, of seconds, as `gen_ai_server_request_duration_seconds`."""
    known = {str(row["name"]): row["labels"] for row in metrics_table() if str(row["name"]).startswith("gen_ai_")}
    assert set(known) == set(CONVENTIONAL)
    assert {label for labels in known.values() for label in cast(list[str], labels)} == set(ATTRIBUTES)
    for name, (otel_name, unit) in CONVENTIONAL.items():
        assert otel_name.replace(".", "_") + ("_seconds" if unit == "s" else "") == name
    for label, otel_name in ATTRIBUTES.items():
        assert otel_name.replace(".", "_") == label
    labels = (("gen_ai_request_model", "m"), ("aigw_tier", "t"), ("le", "+Inf"))
    families = [Family(name, "histogram", "", [Sample(f"{name}_bucket", labels, 1.0)]) for name in known]
    exporter = begin(f"http://127.0.0.1:{collector.server_port}", lambda: families)
    exporter.shutdown()
    metrics = collector.requests[0].resource_metrics[0].scope_metrics[0].metrics
    assert {(metric.name, metric.unit) for metric in metrics} == set(CONVENTIONAL.values())
    for metric in metrics:
        attributes = {a.key: a.value.string_value for a in metric.histogram.data_points[0].attributes}
        assert attributes == {"gen_ai.request.model": "m", "aigw.tier": "t"}


def test_an_absent_collector_does_not_delay_the_stop() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        exporter = begin(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        stopped_at = time.monotonic()
        exporter.shutdown()
        assert time.monotonic() - stopped_at < 5  # the exporter retries for ten seconds


def test_without_an_endpoint_there_is_no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert start_exporter(None, STORE, list, Faults(), Lines()) is None
