"""`GET /metrics` and the access log agree with the requests that were sent."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx

from tests.support.processes import Gateway, wait_until
from tests.support.wire import Connection, upstream

New = Callable[..., Gateway]
Sample = tuple[str, frozenset[tuple[str, str]]]

KEY = "a-key-that-nobody-may-read-0000"


def page(gateway: Gateway) -> dict[Sample, float]:
    """The samples of `GET /metrics`."""
    answer = httpx.get(gateway.admin + "/metrics", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = {}
    for line in answer.text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()  # type: ignore[union-attr]
        found[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels or ""))] = float(value)
    return found


def answers(samples: dict[Sample, float]) -> Counter[tuple[str, str, str, str]]:
    """`kong_http_requests_total` by service, route, code and source, of all consumers."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    for (name, labels), value in samples.items():
        if name == "kong_http_requests_total":
            told = dict(labels)
            found[told["service"], told["route"], told["code"], told["source"]] += int(value)
    return found


def one(samples: dict[Sample, float], name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def make(gateway: Gateway, url: str) -> None:
    """`/open` for all, `/keyed` for one consumer, five times a day; `/dead` leads to nobody."""
    gateway.route(url, "/open", "open")
    gateway.route(url, "/keyed", "keyed")
    gateway.route("http://127.0.0.1:1", "/dead", "dead")
    gateway.make("/services/keyed/plugins", name="key-auth")
    gateway.make("/services/keyed/plugins", name="rate-limiting", config={"day": 5, "policy": "local"})
    gateway.make("/consumers", username="one")
    gateway.make("/consumers/one/key-auth", key=KEY)


def request(target: str, *lines: str, body: bytes = b"") -> bytes:
    method = "POST" if body else "GET"
    head = [f"{method} {target} HTTP/1.1", "Host: t", *lines]
    return "\r\n".join([*head, *([f"Content-Length: {len(body)}"] if body else []), "", ""]).encode() + body


TRAFFIC = [
    *[(request("/open/get"), ("open", "open-route", "200", "service"))] * 7,
    *[(request("/open/post", body=b"x" * 1000), ("open", "open-route", "200", "service"))] * 3,
    *[(request("/open/status/404"), ("open", "open-route", "404", "service"))] * 2,
    (request("/open/status/503"), ("open", "open-route", "503", "service")),
    *[(request("/keyed/get", f"apikey: {KEY}"), ("keyed", "keyed-route", "200", "service"))] * 5,
    *[(request("/keyed/get", f"apikey: {KEY}"), ("keyed", "keyed-route", "429", "exit"))] * 4,
    *[(request("/keyed/get"), ("keyed", "keyed-route", "401", "exit"))] * 3,
    (request("/keyed/get", "apikey: wrong"), ("keyed", "keyed-route", "401", "exit")),
    (request("/dead/get"), ("dead", "dead-route", "502", "exit")),
    *[(request("/nowhere"), ("", "", "404", "exit"))] * 2,
    (request("/open//get"), ("", "", "400", "exit")),
]


def send(gateway: Gateway) -> tuple[Counter[tuple[str, str, str, str]], dict[str, int]]:
    """Send the traffic over many connections, and so to all workers. Returns the answers and the bytes of the bodies."""
    counted: Counter[tuple[str, str, str, str]] = Counter()
    egress: Counter[str] = Counter()
    for data, place in TRAFFIC:
        with Connection(gateway.proxy) as connection:
            answer = connection.ask(data)
            assert str(answer.status) == place[2], answer
            counted[place] += 1
            egress[place[0]] += len(answer.body)
    return counted, egress


def test_the_metrics_are_what_was_sent(new_gateway: New, echo: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    gateway = new_gateway("--access-log", str(log), workers=2)
    make(gateway, echo)
    counted, egress = send(gateway)
    samples = page(gateway)
    assert answers(samples) == counted

    for service in ("open", "keyed", "dead"):
        of = {"service": service, "route": f"{service}-route"}
        assert one(samples, "kong_bandwidth_bytes", direction="egress", **of) == egress[service]
        assert one(samples, "kong_bandwidth_bytes", direction="ingress", **of) == (3000 if service == "open" else 0)
        requests = sum(count for place, count in counted.items() if place[0] == service)
        assert one(samples, "kong_request_latency_ms_count", **of) == requests
        assert one(samples, "kong_request_latency_ms_bucket", le="+Inf", **of) == requests
        answered = sum(count for place, count in counted.items() if place[0] == service and place[3] == "service")
        assert one(samples, "kong_upstream_latency_ms_count", **of) == answered

    denials = {
        dict(labels)["reason"]: value for (name, labels), value in samples.items() if "denials" in name and value
    }
    assert denials == {
        "rate_limited": 4,
        "no_api_key": 3,
        "invalid_api_key": 1,
        "upstream_refused": 1,
        "no_route": 2,
        "bad_path": 1,
    }
    ready = {dict(labels)["slot"]: value for (name, labels), value in samples.items() if name == "aigw_worker_ready"}
    assert sorted(ready.values()) == [1, 1]
    in_flight = [value for (name, _), value in samples.items() if name == "aigw_in_flight"]
    assert in_flight == [0, 0]
    for name in ("aigw_panics_total", "aigw_client_gone_total", "aigw_access_log_dropped_total"):
        assert one(samples, name) == 0
    assert one(samples, "aigw_snapshot_loads_total") > 0
    assert one(samples, "aigw_snapshot_load_failures_total") == 0

    wait_until(lambda: log.read_text().count("\n") >= len(TRAFFIC), "every request is in the access log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert Counter(str(line["status"]) for line in lines) == sum_by(counted, 2)
    assert len({line["request_id"] for line in lines}) == len(TRAFFIC)
    refused = {(line["source"], bool(line["consumer"])) for line in lines if line["status"] == 429}
    assert refused == {("gateway", True)}


def test_answers_are_counted_by_consumer_where_asked_for(new_gateway: New, echo: str) -> None:
    gateway = new_gateway(workers=2, env={"AIGW_METRICS_CONSUMERS": "1"})
    make(gateway, echo)
    counted, _ = send(gateway)
    samples = page(gateway)
    assert answers(samples) == counted, "each answer is counted once"
    labels = [dict(own) for name, own in samples if name == "kong_http_requests_total"]
    keyed = {own["code"]: own["consumer"] for own in labels if own["route"] == "keyed-route" and own["code"] != "401"}
    assert keyed == {"200": "one", "429": "one"}
    assert {own["consumer"] for own in labels if own["route"] != "keyed-route" or own["code"] == "401"} == {""}
    status = httpx.get(gateway.admin + "/status", trust_env=False).json()
    assert status["server"]["total_requests"] == counted.total()
    # Counts of before are kept, and the next ones have no consumer.
    assert gateway.process.end() == 0
    gateway = new_gateway(workers=1, data=gateway.data)
    with Connection(gateway.proxy) as connection:
        assert connection.ask(request("/keyed/get", f"apikey: {KEY}")).status == 429
    assert answers(page(gateway)) == counted + Counter({("keyed", "keyed-route", "429", "exit"): 1})


def sum_by(counted: Counter[tuple[str, str, str, str]], place: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for key, count in counted.items():
        found[key[place]] += count
    return found


def test_connections_to_upstreams_are_counted(new_gateway: New) -> None:
    with upstream() as kept:
        gateway = new_gateway()
        gateway.route(kept.url, "/open")
        gateway.route("http://127.0.0.1:1", "/dead", "dead")
        with Connection(gateway.proxy) as connection:
            for _ in range(5):
                assert connection.ask(request("/open")).status == 200
            assert connection.ask(request("/dead")).status == 502
    samples = page(gateway)
    assert one(samples, "aigw_upstream_connects_total") == 1
    assert one(samples, "aigw_upstream_reused_total") == 4
    assert one(samples, "aigw_upstream_connect_failures_total") == 1


def plant(gateway: Gateway, planted: list[str]) -> None:
    """A consumer for each key: `user-0`, `user-1`, ..."""
    with httpx.Client(base_url=gateway.admin, trust_env=False) as admin:
        for number, key in enumerate(planted):
            assert admin.post("/consumers", json={"username": f"user-{number}"}).status_code == 201
            made = admin.post(f"/consumers/user-{number}/key-auth", json={"key": key})
            assert made.json()["key"] == key  # shown this once


def told_to_callers(gateway: Gateway, planted: list[str], wrong: list[str]) -> list[bytes]:
    """Answers to calls with right and wrong keys, and to refused writes of keys."""
    told = []
    for key in planted:
        with Connection(gateway.proxy) as connection:
            for data, status in (
                (request("/keyed/get", f"apikey: {key}"), 200),
                (request(f"/keyed/get?apikey={key}&a=1"), 200),
                (request(f"/keyed/get?apikey={key}", f"apikey: {key}"), 401),
                (request(f"/keyed//get?apikey={key}", f"apikey: {key}"), 400),
                (request(f"/nowhere?apikey={key}", f"apikey: {key}"), 404),
            ):
                answer = connection.ask(data)
                assert answer.status == status
                told.append(answer.body + repr(answer.headers).encode())
    for key in wrong:
        with Connection(gateway.proxy) as connection:
            told.append(connection.ask(request(f"/keyed/get?apikey={key}")).body)
            told.append(connection.ask(request("/keyed/get", f"apikey: {key}")).body)
    # Refused writes may not tell a key either: a duplicate, and one with a mistake beside it.
    for body in ({"key": planted[0]}, {"key": planted[1], "nonsense": 1}):
        refused = httpx.post(gateway.admin + "/consumers/user-9/key-auth", json=body, trust_env=False)
        assert refused.status_code in (400, 409)
        told.append(refused.content)
    return told


def told_by_the_admin_api(gateway: Gateway, plugin: str) -> list[bytes]:
    """Bodies of pages that could show a key."""
    told = []
    paths = ["/", "/status", "/metrics", "/consumers?size=1000", "/key-auths?size=1000", "/plugins", "/services"]
    paths += ["/routes", "/livez", "/readyz", f"/plugins/{plugin}", "/consumers/user-3/key-auth"]
    paths += ["/consumers/user-3/limits", "/consumers/user-3/plugins", "/endpoints", "/tags"]
    for path in paths:
        answer = httpx.get(gateway.admin + path, trust_env=False)
        assert answer.status_code == 200, (path, answer.text)
        told.append(answer.content)
    return told


def test_nothing_of_a_key_is_told_anywhere(new_gateway: New, echo: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    gateway = new_gateway("--access-log", str(log), workers=2)
    gateway.route(echo, "/keyed", "keyed")
    auth = gateway.make("/services/keyed/plugins", name="key-auth", config={"hide_credentials": True})
    gateway.make("/services/keyed/plugins", name="rate-limiting", config={"day": 50, "policy": "local"})
    planted = [f"PLANTED{number:02}qZ7" for number in range(50)]
    wrong = [f"WRONGKEY{number:02}xY9" for number in range(10)]
    plant(gateway, planted)
    told = [*told_to_callers(gateway, planted, wrong), *told_by_the_admin_api(gateway, auth["id"])]
    rows = httpx.get(gateway.admin + "/key-auths?size=1000", trust_env=False).json()["data"]
    assert len(rows) == 50
    assert all(row["key"] == f"{{vault://aigw/{row['id']}}}" for row in rows), "a reference stands for the key"
    wait_until(lambda: log.read_text().count("\n") >= 5 * 50 + 20, "every request is in the access log")
    assert gateway.process.end() == 0

    places = {f"answer {number}": text for number, text in enumerate(told)}
    places["process log"] = "".join(gateway.process.lines).encode()
    files = [path for path in gateway.data.rglob("*") if path.is_file()]
    assert any(path.name == "store.db" for path in files)
    places |= {str(path): path.read_bytes() for path in [*files, log]}
    found = [
        (place, key)
        for place, text in places.items()
        for key in [*planted, *wrong]
        # A hint of four characters is shown on purpose; anything longer is not.
        if any(part.encode() in text for part in (key, key[:9], key[-5:]))
    ]
    assert found == []
