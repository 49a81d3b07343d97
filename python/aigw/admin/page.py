"""The page that a browser gets at `GET /`: the gateway's state in a few lines, and links into the Admin API.

In: the context. Out: HTML without scripts, forms or anything from another host; every value is escaped. Clients that do not ask for HTML
get the JSON of `info.root`, as before.
"""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import Final

from aigw import __version__
from aigw.admin.context import Admin

LINKS: Final = (
    ("Health", (("/status", "workers, configuration, counters"), ("/metrics", "Prometheus metrics"),
                ("/livez", "the process runs"), ("/readyz", "workers serve"))),
    ("Models", (("/models", "models and their upstreams"), ("/tiers", "tiers: limits, gates, prices"))),
    ("Callers", (("/consumers", "consumers"), ("/key-auths", "their keys, masked"), ("/consumer_groups", "tiers, as Kong's clients see them"))),
    ("Routes", (("/routes", "routes"), ("/services", "services"), ("/plugins", "plugins"))),
    ("Configuration", (("/config", "the file in force"), ("/config/history", "files in force before"))),
    ("Ledger", (("/usage?group_by=consumer,model,day", "sums by consumer, model and day"), ("/usage/events", "entries, oldest first"),
                ("/denials?group_by=tier,reason,day", "refusals"))),
    ("This API", (("/endpoints", "all paths"), ("/schemas/tiers", "the schema of an entity"))),
)  # fmt: skip
"""(heading, ((path, meaning), ...))"""
GUIDES: Final = (
    ("docs/guides/openai.md", "calling models on /v1"),
    ("docs/guides/tiers.md", "tiers and limits"),
    ("docs/guides/logs-and-metrics.md", "log lines, metrics, queries"),
    ("docs/guides/troubleshooting.md", "symptom, cause, repair"),
    ("docs/reference/admin-api.md", "this API"),
)
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "h1{font-size:1.4rem}h2{font-size:1rem;margin-bottom:.2rem}ul{margin:0;padding-left:1.2rem}"
    "dt{float:left;clear:left;width:9rem}dd{margin:0 0 0 9rem}"
)
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}
"""Nothing is loaded, nothing is sent, no other page may frame it."""


def wanted(accept: str) -> bool:
    """Whether a client prefers HTML to JSON: browsers name it, clients of an API do not."""
    qualities = {"text/html": 0.0, "application/json": 0.0}
    for item in accept.split(","):
        media, _, parameters = item.partition(";")
        name = media.strip().lower()
        if name in qualities:
            qualities[name] = max(qualities[name], _quality(parameters))
    return qualities["text/html"] > qualities["application/json"]


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def html(admin: Admin) -> str:
    """The page."""
    slots = admin.publisher.slots()
    in_force = admin.publication.in_force
    facts = {
        "version": __version__,
        "proxy": str(admin.proxy_address),
        "workers ready": f"{sum(slot['state'] == 'ready' for slot in slots)} of {len(slots)}",
        "in flight": str(sum(int(slot["in_flight"]) for slot in slots)),
        "configuration": f"generation {in_force.generation}" + (f", error: {in_force.error}" if in_force.error else ""),
    }
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>aigw</title>\n',
            f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n<body>\n',
            "<h1>aigw: Admin API</h1>\n<dl>\n",
            *(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in facts.items()),
            "</dl>\n",
            *(f"<h2>{escape(heading)}</h2>\n{_list(_link(*link) for link in links)}" for heading, links in LINKS),
            "<h2>Guides, in the repository</h2>\n",
            _list(f"<code>{escape(path)}</code>: {escape(about)}" for path, about in GUIDES),
            "</body>\n</html>\n",
        ]
    )


def _link(path: str, about: str) -> str:
    return f'<a href="{escape(path)}">{escape(path)}</a>: {escape(about)}'


def _list(items: Iterable[str]) -> str:
    return "<ul>\n" + "".join(f"<li>{item}</li>\n" for item in items) + "</ul>\n"
