"""Sends the metrics table to an OpenTelemetry collector, every `OTEL_METRIC_EXPORT_INTERVAL` (milliseconds, default 60 s).

In: a function that gives the metric families. Out: OTLP over HTTP, from its own thread, and once more at shutdown.
An unreachable collector loses nothing: the next push carries the totals again.
"""

import os
import threading
import time
from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.resources import Resource

from aigw import __version__
from aigw.telemetry.convert import metrics_data
from aigw.telemetry.families import Family
from aigw.telemetry.faults import Faults

_LAST_PUSH_S = 1.0


class Exporter:
    """A running export. `shutdown` pushes a last time, then ends the thread."""

    def __init__(self, endpoint: str | None, families: Callable[[], list[Family]], faults: Faults) -> None:
        self._families = families
        self._faults = faults
        # Without an endpoint the exporter reads OpenTelemetry's variables.
        self._exporter = OTLPMetricExporter(endpoint=f"{endpoint.rstrip('/')}/v1/metrics" if endpoint else None)
        self._resource = Resource.create({"service.name": "aigw", "service.version": __version__})
        self._start_ns = time.time_ns()
        self._interval_s = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "60000")) / 1000
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last = False
        while not last:
            last = self._stop.wait(self._interval_s)
            with self._faults.outlived("export", "export the metrics"):
                self._push()

    def _push(self) -> None:
        """Send the current values."""
        self._exporter.export(metrics_data(self._families(), self._resource, self._start_ns, time.time_ns()))

    def shutdown(self) -> None:
        """Push a last time and end the thread. Waits at most `_LAST_PUSH_S` seconds for the collector."""
        self._stop.set()
        self._thread.join(_LAST_PUSH_S)
        self._exporter.shutdown()
