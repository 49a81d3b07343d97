"""Metric families -> OpenTelemetry's data model.

In: families, each with the start of its counting, and now (unix nanoseconds). Out: `MetricsData`. Counters become monotonic cumulative
sums (without the suffix `_total`, as in OpenTelemetry), gauges stay gauges, histograms become cumulative histograms without minimum
and maximum, which nobody keeps. Metrics and attributes of OpenTelemetry's conventions get their conventional names, which Prometheus
cannot express. Pure: reads no clock, sends nothing.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final, cast

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from aigw import __version__
from aigw.telemetry.families import Family, Labels

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_UNKNOWN: Final = cast(float, None)
"""The protocol's fields are optional, and the encoder leaves out None; its type says float."""
UNITS: Final = {"_seconds": "s", "_ms": "ms", "_bytes": "By"}
"""The end of a metric's name -> its unit; others count things."""
CONVENTIONAL: Final = {
    "gen_ai_client_token_usage": ("gen_ai.client.token.usage", "{token}"),
    "gen_ai_server_request_duration_seconds": ("gen_ai.server.request.duration", "s"),
    "gen_ai_server_time_to_first_token_seconds": ("gen_ai.server.time_to_first_token", "s"),
    "gen_ai_server_time_per_output_token_seconds": ("gen_ai.server.time_per_output_token", "s"),
}
"""Names and units of OpenTelemetry's GenAI conventions (v1.41), by Prometheus' names."""
ATTRIBUTES: Final = {
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_original_model": "gen_ai.original.model",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_response_model": "gen_ai.response.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "error_type": "error.type",
    "aigw_tier": "aigw.tier",
}
"""Attribute names of the same conventions, by Prometheus' label names."""


def metrics_data(families: Iterable[tuple[Family, int]], resource: Resource, now_ns: int) -> MetricsData:
    """Convert all families that have samples; each comes with the start of its counting."""
    metrics = [_metric(family, min(start_ns, now_ns), now_ns) for family, start_ns in families if family.samples]
    scope = ScopeMetrics(InstrumentationScope("aigw", __version__), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(family: Family, start_ns: int, now_ns: int) -> Metric:
    data: Sum | Gauge | Histogram
    if family.kind == "histogram":
        data = Histogram(_histogram_points(family, start_ns, now_ns), _CUMULATIVE)
    else:
        points = [NumberDataPoint(dict(labels), start_ns, now_ns, value) for _, labels, value in family.samples]
        data = Sum(points, _CUMULATIVE, True) if family.kind == "counter" else Gauge(points)
    name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "1")
    name, unit = CONVENTIONAL.get(name, (name, unit))
    return Metric(name, family.help, unit, data)


def _histogram_points(family: Family, start_ns: int, now_ns: int) -> list[HistogramDataPoint]:
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    sums: dict[Labels, float] = {}
    for name, labels, value in family.samples:
        without_le = tuple(pair for pair in labels if pair[0] != "le")
        if name.endswith("_bucket"):
            buckets.setdefault(without_le, []).append((float(dict(labels)["le"]), value))
        elif name.endswith("_sum"):
            sums[without_le] = value
    points = []
    for labels, cumulative in buckets.items():
        cumulative.sort()
        counts = [int(cumulative[0][1]), *(int(after - before) for (_, before), (_, after) in pairwise(cumulative))]
        bounds = [bound for bound, _ in cumulative if bound != float("inf")]
        points.append(
            HistogramDataPoint(
                attributes={ATTRIBUTES.get(label, label): value for label, value in labels},
                start_time_unix_nano=start_ns,
                time_unix_nano=now_ns,
                count=int(cumulative[-1][1]),
                sum=sums.get(labels, 0.0),
                bucket_counts=counts,
                explicit_bounds=bounds,
                min=_UNKNOWN,
                max=_UNKNOWN,
            )
        )
    return points
