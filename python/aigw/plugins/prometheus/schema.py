"""Kong's fields of prometheus's config. `GET /metrics` has all metrics, whether the plugin is there or not."""

from pydantic import Field

from aigw.schema.fields import Model


class PrometheusConfig(Model):
    """Groups of Kong's metrics. None has an effect."""

    per_consumer: bool = Field(default=False, description="Kept for Kong's clients: no effect.")
    status_code_metrics: bool = Field(default=False, description="Kept for Kong's clients: no effect.")
    ai_metrics: bool = Field(default=False, description="Kept for Kong's clients: no effect.")
    latency_metrics: bool = Field(default=False, description="Kept for Kong's clients: no effect.")
    bandwidth_metrics: bool = Field(default=False, description="Kept for Kong's clients: no effect.")
    upstream_health_metrics: bool = Field(default=False, description="Kept for Kong's clients: no effect.")
    wasm_metrics: bool = Field(default=False, description="Kept for Kong's clients: no effect.")
