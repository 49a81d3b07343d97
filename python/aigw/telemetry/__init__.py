"""OpenTelemetry metrics: the control process pushes the table of `GET /metrics` to a collector.

Off, and not imported, unless `AIGW_OTLP_ENDPOINT` or one of OpenTelemetry's variables is set.

    export    sends the metrics to a collector, in a thread
    convert   metric families -> OpenTelemetry's data model
    families  metric families as values, and their Prometheus text
    faults    logs and counts faults that a thread of the control process survives
"""

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aigw.telemetry.export import Counted, Events, Exporter
    from aigw.telemetry.faults import Faults

_STANDARD: Final = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
_TEMPORALITY: Final = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
INTERVAL_S: Final = 60.0
"""Seconds between two exports: OpenTelemetry's default."""


def start_exporter(
    endpoint: str | None, instance: str, families: "Counted", faults: "Faults", log: "Events"
) -> "Exporter | None":
    """Export the metrics that `families` gives to a collector, in a thread; None when no endpoint is set, or OpenTelemetry's variables
    forbid it."""
    if endpoint is None and not any(os.environ.get(name) for name in _STANDARD):
        return None
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    protocol = next(filter(None, map(os.environ.get, _PROTOCOLS)), "http/protobuf")
    if endpoint is None and protocol != "http/protobuf":
        log("otlp_off", protocol=protocol, repair="only http/protobuf is supported: set AIGW_OTLP_ENDPOINT to its port")
        return None
    if os.environ.get(_TEMPORALITY, "cumulative").strip().lower() != "cumulative":
        log("otlp_cumulative", repair=f"{_TEMPORALITY} is ignored: convert in the collector (cumulativetodelta)")
    from aigw.telemetry.export import Exporter  # noqa: PLC0415  (120 ms of imports that most gateways do not need)

    return Exporter(endpoint, _interval(log), instance, families, faults, log)


def _interval(log: "Events") -> float:
    """Seconds between two exports."""
    text = os.environ.get(_INTERVAL, "").strip()
    try:
        milliseconds = float(text) if text else INTERVAL_S * 1000
    except ValueError:
        milliseconds = 0
    if 1 <= milliseconds <= 86_400_000:
        return milliseconds / 1000
    log("otlp_interval", value=text, repair=f"{_INTERVAL} is not a number of milliseconds up to a day: 60000 is used")
    return INTERVAL_S
