"""Commands that a newcomer can paste: a call of a model and a call of a route that the configuration declares.

In: a checked file, the proxy's URL, and a key as a shell writes it. Out: curl commands, for the first model and for the first route with
key-auth that a path alone selects, and the consumer that a key can be made for. A file without such a part gives no such command.
"""

import json
import shlex
from dataclasses import dataclass
from typing import Final

from aigw.config import File
from aigw.types import JsonDict

SCOPES: Final = ("route", "service", "consumer")
LOOKED_AT: Final = 100
"""Consumers from the start of the file: a file may have a million, and the first one has a tier mostly."""


@dataclass(frozen=True, slots=True)
class KeyedRoute:
    """A route that needs a key."""

    path: str
    header: str
    """The header that may hold the key."""
    method: str
    """POST where the route accepts it."""


def first_calls(file: File, proxy: str, key: str) -> list[str]:
    """At most two commands. `key` stands inside double quotes of a shell: `$FREE_KEY`, or the key itself."""
    calls = []
    if (model := next(iter(file.models), None)) is not None:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
        calls.append(
            f'curl -s {proxy}/v1/chat/completions -H "Authorization: Bearer {key}" \\\n'
            f"    -H \"Content-Type: application/json\" -d '{body}'"
        )
    if (route := first_route(file)) is not None:
        how = '-d "a long text"' if route.method == "POST" else f"-X {route.method}"
        calls.append(f'curl -s {shlex.quote(proxy + route.path)} -H "{route.header}: {key}" {how}')
    return calls


def first_consumer(file: File) -> str | None:
    """The username of the first consumer with a tier, of its own or the default one; None where the start of the file has none."""
    for index in range(min(file.count("consumers"), LOOKED_AT)):
        path = ("consumers", index)
        tier = file.default_tier or file.source_text((*path, "tier"))
        if tier is not None and file.source_text((*path, "username")) is not None:
            return file.consumers.name(index)
    return None


def first_route(file: File) -> KeyedRoute | None:
    """The first route, in the file's order, that needs a key in a header and that a plain path selects over HTTP."""
    keyed = [plugin.body for plugin in file.of("plugins") if _takes_a_header(plugin.body)]
    for entity in file.of("routes"):
        route = entity.body
        path = next((path for path in route["paths"] or () if not path.startswith("~")), None)
        special = route["hosts"] or route["headers"] or "http" not in route["protocols"]
        if path is None or special:
            continue
        if plugin := next((plugin for plugin in keyed if _covers(plugin, entity.id, route)), None):
            methods = route["methods"] or ["POST"]
            return KeyedRoute(path, plugin["config"]["key_names"][0], "POST" if "POST" in methods else methods[0])
    return None


def _takes_a_header(plugin: JsonDict) -> bool:
    return bool(plugin["name"] == "key-auth" and plugin["enabled"] and plugin["config"]["key_in_header"])


def _covers(plugin: JsonDict, route_id: str, route: JsonDict) -> bool:
    """Whether a plugin acts on a route: every scope that it names is the route's."""
    service = (route["service"] or {}).get("id")
    named = {scope: plugin[scope]["id"] for scope in SCOPES if plugin[scope] is not None}
    return named.items() <= {"route": route_id, "service": service}.items()
