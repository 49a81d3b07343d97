"""An OpenTelemetry collector as a process: receives OTLP over HTTP, decodes the protobuf, prints each export as a line of JSON.

In: `--refuse N` answers 503 to the first N exports. Out: first ` on http://...`, then one line for each accepted export.
Run as a program; `start_collector` starts it for a test. Input other than OTLP ends it with an error.
"""

import argparse
import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)


def told(export: ExportMetricsServiceRequest) -> dict[str, Any]:
    """An export as plain values: the resource, and the metrics by name."""
    (resource,) = export.resource_metrics
    metrics = {}
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            kind = metric.WhichOneof("data")
            data = getattr(metric, kind)
            metrics[metric.name] = {
                "kind": kind,
                "unit": metric.unit,
                "description": metric.description,
                "monotonic": getattr(data, "is_monotonic", None),
                "temporality": getattr(data, "aggregation_temporality", None),
                "points": [point(one) for one in data.data_points],
            }
    return {"resource": attributes(resource.resource), "metrics": metrics}


def attributes(owner: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in owner.attributes}


def point(one: Any) -> dict[str, Any]:
    found = {"attributes": attributes(one), "start": one.start_time_unix_nano, "time": one.time_unix_nano}
    if hasattr(one, "bucket_counts"):
        counts = {"count": one.count, "sum": one.sum, "bounds": list(one.explicit_bounds)}
        extremes = {name: getattr(one, name) for name in ("min", "max") if one.HasField(name)}
        return found | counts | extremes | {"buckets": list(one.bucket_counts)}
    return found | {"value": getattr(one, one.WhichOneof("value"))}


class Collector(HTTPServer):
    def __init__(self, refuse: int) -> None:
        self.refuse = refuse
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Collector
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.refuse > 0:
            self.server.refuse -= 1
            self._answer(503, b"")
            return
        if self.path != "/v1/metrics" or self.headers["content-type"] != "application/x-protobuf":
            say({"error": f"{self.path} with {self.headers['content-type']}"})
            self._answer(415, b"")
            return
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        say(told(ExportMetricsServiceRequest.FromString(body)))
        self._answer(200, ExportMetricsServiceResponse().SerializeToString())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--refuse", type=int, default=0)
    server = Collector(parser.parse_args().refuse)
    sys.stdout.write(f"collector on http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
