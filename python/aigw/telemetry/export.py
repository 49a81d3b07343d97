"""Sends the metrics table to an OpenTelemetry collector, every `OTEL_METRIC_EXPORT_INTERVAL` (milliseconds, default 60 s).

In: a function that gives the metric families with the start of their counting, and the id of the instance. Out: OTLP over HTTP, from
its own thread, and once more at shutdown. An unreachable collector loses nothing: the next push carries the totals again. The log says
once that a collector fails, again every `SILENCE_S` while it does, and once that it is back.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from aigw import __version__
from aigw.telemetry.convert import metrics_data
from aigw.telemetry.families import Family
from aigw.telemetry.faults import Faults

Events = Callable[..., None]
"""The process log: an event's name, and its facts by keyword."""
Counted = Callable[[], Iterable[tuple[Family, int]]]
"""Gives the families, each with the start of its counting (unix nanoseconds)."""
SILENCE_S: Final = 600.0
"""Seconds until a collector that still fails is mentioned again."""
_LAST_PUSH_S = 1.0


class Exporter:
    """A running export. `shutdown` pushes a last time, then ends the thread."""

    def __init__(
        self, endpoint: str | None, interval_s: float, instance: str, families: Counted, faults: Faults, log: Events
    ) -> None:
        """`endpoint`: base URL; None: the exporter reads OpenTelemetry's variables. `instance`: as long-lived as the counters."""
        self._families = families
        self._faults = faults
        self._interval_s = interval_s
        self._messages = _Messages(log)
        self._exporter = OTLPMetricExporter(endpoint=f"{endpoint.rstrip('/')}/v1/metrics" if endpoint else None)
        self._resource = _resource(instance)
        self._messages.collect()
        self._health = _Health(log, _shown(str(endpoint or getattr(self._exporter, "_endpoint", ""))))
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
        data = metrics_data(self._families(), self._resource, time.time_ns())
        self._messages.forget()
        if self._exporter.export(data) is MetricExportResult.SUCCESS:
            self._health.works()
        else:
            self._health.fails(self._messages.reason())

    def shutdown(self) -> None:
        """Push a last time and end the thread. Waits at most `_LAST_PUSH_S` seconds for the collector."""
        self._stop.set()
        self._thread.join(_LAST_PUSH_S)
        self._exporter.shutdown()


def _resource(instance: str) -> Resource:
    """The gateway, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise."""
    own = {"service.name": "aigw", "service.version": __version__, "service.instance.id": instance}
    return Resource.create().merge(Resource(own)).merge(OTELResourceDetector().detect())


def _shown(endpoint: str) -> str:
    """An endpoint without anything that may be a secret: user, path and query."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class _Health:
    """Whether the collector takes the exports, told to the log when it changes."""

    def __init__(self, log: Events, endpoint: str) -> None:
        self._log = log
        self._endpoint = endpoint
        self._failures = 0
        self._told_at = 0.0

    def works(self) -> None:
        if self._failures:
            self._log("otlp_works_again", endpoint=self._endpoint, failed=self._failures)
        self._failures = 0

    def fails(self, reason: str) -> None:
        self._failures += 1
        if self._failures == 1 or time.monotonic() - self._told_at >= SILENCE_S:
            self._told_at = time.monotonic()
            self._log(
                "otlp_failed",
                endpoint=self._endpoint,
                failed=self._failures,
                error=reason,
                repair="nothing is lost: totals are sent again; check AIGW_OTLP_ENDPOINT and the collector",
            )


class _Messages(logging.Handler):
    """Messages of OpenTelemetry's libraries. Each goes to the log, once. Those of the exporter are collected from `collect` on: they are
    the reason of a failure, which `_Health` tells."""

    def __init__(self, log: Events) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._said: set[str] = set()
        self._cause = ""
        library = logging.getLogger("opentelemetry")
        for old in [handler for handler in library.handlers if isinstance(handler, _Messages)]:
            library.removeHandler(old)
        library.addHandler(self)
        library.propagate = False
        # The transport's own retries.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self._collects = False

    def collect(self) -> None:
        """Keep messages of the exporter from now on."""
        self._collects = True

    def forget(self) -> None:
        """Begin an export."""
        self._cause = ""

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        fault = next((one for one in arguments if isinstance(one, BaseException)), None)
        if fault is not None:
            self._cause = _innermost(fault)
        elif self._collects and record.name.startswith("opentelemetry.exporter"):
            # The last message only says that time or tries are used up: the first knows why.
            self._cause = self._cause or record.getMessage()
        elif (text := record.getMessage()) not in self._said and len(self._said) < 100:
            self._said.add(text)
            self._log("otlp_message", level=record.levelname.lower(), text=text)

    def reason(self) -> str:
        """Why the export failed that was last."""
        return self._cause or "unknown"


def _innermost(fault: BaseException) -> str:
    """The cause at the bottom of a chain of exceptions. The outer ones repeat the URL, whose query may hold a key."""
    seen = 0
    while seen < 10:
        inner = getattr(fault, "reason", None) or fault.__cause__ or fault.__context__
        inner = inner or next((one for one in fault.args if isinstance(one, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        fault, seen = inner, seen + 1
    strerror = getattr(fault, "strerror", None)
    return str(strerror or str(fault) or type(fault).__name__).splitlines()[0][:200]
