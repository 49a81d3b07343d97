"""The loads: for each the gateway's configuration, and an nginx configuration with the same behaviour.

W0: a proxy without policy. W1: a 1 KiB POST with a key and two windows that never refuse. W2: an exceeded limit on a kept connection.
W3: a stream of 64 events. All four use a Kong route. V1, V2 and V3 are the same on /v1/chat/completions, with a tier and a model that
has another name upstream. In V3U the caller asks for the usage of its stream; in V3 the gateway asks and removes it again. V1A, V2B
and V3T are V1, V2 and V3 in tiers with budgets: nginx has nothing like them, so they are compared to the load they are like. All
loads rotate 1,000 keys and 1,000 bodies.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

KEYS: Final = 1000
BODY_BYTES: Final = 1024
EVENTS: Final = 64
CHUNKS: Final = EVENTS - 3  # the other three: the role, the finish, [DONE]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load. `path` is a location in nginx and a route in the gateway, both with the prefix stripped."""

    name: str
    title: str
    path: str
    """The path prefix in nginx and in the gateway's route, which strips it."""
    limits: dict[str, int] | None
    """Limits of the rate-limiting plugin or the tier; None: no policy and no key-auth."""
    refused: bool = False
    """All answers are 429, except the first one of each key."""
    stream: bool = False
    v1: bool = False
    """Whether the load uses /v1 and a tier, instead of a route and a plugin."""
    usage: bool = False
    """Whether the caller asks for the usage of its stream."""
    like: str = ""
    """The load that it is compared to, on the same gateway; empty: nginx with the same behaviour."""
    budgets: tuple[dict[str, Any], ...] = ()
    """The tier's limits behind those of `limits`."""

    def target(self, server: str) -> str:
        """The path of the calls."""
        prefix = "" if self.v1 and server == "gateway" else self.path
        return f"{prefix}/v1/chat/completions"

    def body(self, number: int) -> str:
        """The `number`-th body: valid, different from the others, padded to one size."""
        body: dict[str, Any] = {"model": "bench", "max_tokens": CHUNKS if self.stream else 16, "stream": self.stream}
        if self.usage:
            body["stream_options"] = {"include_usage": True}
        body["messages"] = [{"role": "user", "content": ""}]
        room = BODY_BYTES - len(json.dumps(body))
        words = f"question {number} " + f"lorem {number * 7919 % 1000} ipsum " * 80
        body["messages"][0]["content"] = words[:room]
        return json.dumps(body)


SCENARIOS: Final = (
    Scenario("W0", "proxy, no policy", "/w0", None),
    Scenario("W1", "1 KiB POST, key + two windows", "/w1", {"minute": 4_000_000_000, "hour": 4_000_000_000}),
    Scenario("W2", "limit exceeded, 429", "/w2", {"year": 1}, refused=True),
    Scenario("W3", f"stream of {EVENTS} events, key + two windows", "/w3", {"minute": 4_000_000_000}, stream=True),
    Scenario(
        "V1",
        "1 KiB POST on /v1, tier with two windows",
        "/w1",
        {"minute": 4_000_000_000, "hour": 4_000_000_000},
        v1=True,
    ),
    Scenario("V2", "limit exceeded on /v1, 429", "/w2", {"year": 1}, refused=True, v1=True),
    Scenario("V3", f"stream of {EVENTS} events on /v1", "/w3", {"minute": 4_000_000_000}, stream=True, v1=True),
    Scenario(
        "V3U",
        f"stream of {EVENTS} events on /v1, usage asked for",
        "/w3",
        {"minute": 4_000_000_000},
        stream=True,
        v1=True,
        usage=True,
    ),
)

AMPLE: Final = 2**48  # tokens: the highest limit there is
BUDGETS: Final = (
    Scenario(
        "V1A",
        "V1 with every kind of limit",
        "/w1",
        {"minute": 4_000_000_000, "hour": 4_000_000_000},
        v1=True,
        like="V1",
        budgets=({"tokens": AMPLE, "per": "day"}, {"spend": 9_000_000, "per": "month"}, {"concurrency": 10_000}),
    ),
    # A call uses 16 tokens: the second call of each key finds its budget spent.
    Scenario(
        "V2B",
        "spent budget, 429",
        "/w2",
        {},
        refused=True,
        v1=True,
        like="V2",
        budgets=({"output_tokens": 16, "per": "year"},),
    ),
    # The gateway reserves up to 256 tokens of a stream's output at first, and more ahead of use.
    Scenario(
        "V3T",
        "V3 with a budget of tokens",
        "/w3",
        {"minute": 4_000_000_000},
        stream=True,
        v1=True,
        like="V3",
        budgets=({"tokens": AMPLE, "per": "day"},),
    ),
)
ALL: Final = SCENARIOS + BUDGETS


def configuration(upstream: int, keys: dict[str, list[str]]) -> str:
    """The gateway's file: a model with another name upstream, and a tier with its consumers for each load on /v1 that has keys."""
    loads = [load for load in ALL if load.v1 and load.name in keys]
    tiers: dict[str, dict[str, Any]] = {
        load.name.lower(): {
            "limits": [
                *({"requests": most, "per": per} for per, most in (load.limits or {}).items()),
                *load.budgets,
            ]
        }
        for load in loads
    }
    for load in loads:
        if any("spend" in limit for limit in load.budgets):
            tiers[load.name.lower()]["price"] = {"input": 0.3, "output": 1.2}
    consumers = [
        {"username": f"{load.name}-{number}", "tier": load.name.lower(), "keyauth_credentials": [{"key": key}]}
        for load in loads
        for number, key in enumerate(keys[load.name])
    ]
    models = {"bench": {"upstreams": [{"url": f"http://127.0.0.1:{upstream}/v1", "model": "upstream-bench"}]}}
    # JSON is YAML, too.
    return json.dumps({"models": models, "tiers": tiers, "consumers": consumers}, indent=1)


def nginx_conf(port: int, upstream: int, folder: str) -> str:
    """nginx with the same behaviour: keep-alive on both sides, one worker, no access log."""
    return f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}
  limit_req_zone $http_apikey zone=keys:10m rate=1r/m;
  proxy_http_version 1.1; proxy_set_header Connection "";
  server {{
    listen 127.0.0.1:{port};
    location /w0/ {{ proxy_pass http://mock/; }}
    location /w1/ {{ proxy_pass http://mock/; }}
    location /w2/ {{ limit_req zone=keys; limit_req_status 429; proxy_pass http://mock/; }}
    location /w3/ {{ proxy_buffering off; proxy_pass http://mock/; }}
  }}
}}
"""


LUA: Final = """
-- Requests are built once: the client must cost as little as it can.
local requests, at = {}, 0
function init(args)
  local n = 0
  for line in io.lines(args[1]) do
    local key, body = line:match("^(%S+)\\t(.*)$")
    wrk.headers["apikey"] = key
    wrk.headers["content-type"] = "application/json"
    requests[#requests + 1] = wrk.format("POST", args[2], nil, body)
  end
end
function request() at = at % #requests + 1; return requests[at] end
function done(s, l)
  print(string.format('RESULT {"requests":%d,"duration_us":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,' ..
    '"status":%d,"p50_us":%d,"p99_us":%d}', s.requests, s.duration, s.errors.connect, s.errors.read, s.errors.write,
    s.errors.timeout, s.errors.status, l:percentile(50), l:percentile(99)))
end
"""
