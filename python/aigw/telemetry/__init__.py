"""OpenTelemetry metrics: the control process pushes the table of `GET /metrics` to a collector.

Off, and not imported, unless `AIGW_OTLP_ENDPOINT` or one of OpenTelemetry's variables is set.

    export    sends the metrics to a collector, in a thread
    convert   metric families -> OpenTelemetry's data model
    families  metric families as values, and their Prometheus text
    faults    logs and counts faults that a thread of the control process survives
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aigw.telemetry.export import Exporter
    from aigw.telemetry.families import Family
    from aigw.telemetry.faults import Faults

_STANDARD = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def start_exporter(endpoint: str | None, families: "Callable[[], list[Family]]", faults: "Faults") -> "Exporter | None":
    """Export the metrics that `families` gives to a collector, in a thread; None when no endpoint is set."""
    if endpoint is None and not any(os.environ.get(name) for name in _STANDARD):
        return None
    from aigw.telemetry.export import Exporter  # noqa: PLC0415  (120 ms of imports that most gateways do not need)

    return Exporter(endpoint, families, faults)
