"""The export, from metric families to a request that a collector decodes."""

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import cast

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from aigw._native import metrics_table
from aigw.telemetry import start_exporter
from aigw.telemetry.convert import ATTRIBUTES, CONVENTIONAL
from aigw.telemetry.families import Family, Sample, text
from aigw.telemetry.faults import Faults

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
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.paths.append(self.path)
        self.server.requests.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
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


def test_a_collector_gets_every_sample(collector: Collector) -> None:
    exporter = start_exporter(f"http://127.0.0.1:{collector.server_port}", lambda: FAMILIES, Faults())
    assert exporter is not None
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

    exporter = start_exporter(f"http://127.0.0.1:{collector.server_port}", families, faults)
    assert exporter is not None and came.wait(30)
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
    exporter = start_exporter(f"http://127.0.0.1:{collector.server_port}", lambda: families, Faults())
    assert exporter is not None
    exporter.shutdown()
    metrics = collector.requests[0].resource_metrics[0].scope_metrics[0].metrics
    assert {(metric.name, metric.unit) for metric in metrics} == set(CONVENTIONAL.values())
    for metric in metrics:
        attributes = {a.key: a.value.string_value for a in metric.histogram.data_points[0].attributes}
        assert attributes == {"gen_ai.request.model": "m", "aigw.tier": "t"}


def test_an_absent_collector_does_not_delay_the_stop() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        exporter = start_exporter(f"http://127.0.0.1:{nobody.getsockname()[1]}", lambda: FAMILIES, Faults())
        assert exporter is not None
        begin = time.monotonic()
        exporter.shutdown()
        assert time.monotonic() - begin < 5  # the exporter retries for ten seconds


def test_without_an_endpoint_there_is_no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert start_exporter(None, lambda: FAMILIES, Faults()) is None
