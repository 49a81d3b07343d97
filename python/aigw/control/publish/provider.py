"""The labels of an upstream in metrics: its provider, and its name of the model.

In: an upstream of a model. Out: two texts, from the configuration alone. Well-known hosts get the provider's name in OpenTelemetry's
registry (`gen_ai.provider.name`), others are named by host and port, so that servers of one's own stay apart.
"""

from typing import Final
from urllib.parse import urlsplit

from aigw.entities.model import LlmModel
from aigw.entities.upstream import Upstream

_PROVIDERS: Final = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
}
"""Host, or the end of it, -> provider. Source: OpenTelemetry's attribute registry, GenAI, v1.41."""


def upstream_labels(model: LlmModel, upstream: Upstream) -> tuple[str, str]:
    """(provider, the upstream's name of the model)."""
    parts = urlsplit(upstream.url)
    host = (parts.hostname or "").lower()
    ends = [".".join(host.split(".")[at:]) for at in range(host.count(".") + 1)]
    known = next((_PROVIDERS[end] for end in ends if end in _PROVIDERS), None)
    port = f":{parts.port}" if parts.port is not None else ""
    return known or f"{f'[{host}]' if ':' in host else host}{port}", upstream.model or model.name
