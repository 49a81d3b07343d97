"""The endpoints about the gateway itself, as Kong's clients and operators use them, and a consumer's standing."""

import base64
import errno
import hashlib
import re
from pathlib import Path

import pytest

from conftest import Gateway

ROOT = Path(__file__).parents[3]

KINDS = {"acl", "cors", "key-auth", "prometheus", "rate-limiting", "request-size-limiting"}


def test_root_has_the_fields_that_clients_read(gateway: Gateway) -> None:
    root = gateway.call("GET", "/")
    assert root["version"].count(".") == 2
    assert root["configuration"]["database"] == "postgres"
    assert root["configuration"]["router_flavor"] == "traditional_compatible"
    assert set(root["plugins"]["available_on_server"]) == KINDS
    assert gateway.call("GET", "/plugins/enabled") == {"enabled_plugins": sorted(KINDS)}


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_browser_gets_a_page_of_links_that_lead_somewhere(gateway: Gateway) -> None:
    answer = gateway.client.get("/", headers={"accept": BROWSER})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    links = re.findall(r'href="([^"]+)"', answer.text)
    assert {"/status", "/metrics", "/consumers", "/routes"} <= set(links)
    assert {path: gateway.client.get(path).status_code for path in links} == dict.fromkeys(links, 200)
    assert not re.search(r"<script|<form|https?:|src=|url\(", answer.text), "nothing is loaded from anywhere"
    policy = answer.headers["content-security-policy"]
    style = re.search(r"<style>(.*)</style>", answer.text)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"'sha256-{digest}'" in policy
    for path in re.findall(r"<code>([^<]+)</code>", answer.text):
        assert (ROOT / path).is_file()


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "application/json, text/html;q=0.9", "text/html;q=0", "text/html;q=x", None]
)
def test_other_clients_get_json(gateway: Gateway, accept: str | None) -> None:
    headers = {} if accept is None else {"accept": accept}
    assert gateway.client.get("/", headers=headers).json()["tagline"] == "Welcome to aigw"
    assert gateway.client.get("/status", headers={"accept": BROWSER}).json()["server"]


def test_the_page_keeps_the_rules_of_the_api(gateway: Gateway) -> None:
    foreign = gateway.client.get("/", headers={"accept": BROWSER, "host": "evil.example"})
    assert (foreign.status_code, foreign.headers["content-type"]) == (403, "application/json; charset=utf-8")
    head = gateway.client.head("/", headers={"accept": BROWSER})
    assert (head.status_code, head.text, head.headers["content-type"][:9]) == (200, "", "text/html")
    assert gateway.client.post("/", headers={"accept": BROWSER}).status_code == 405


def test_status_follows_the_configuration(gateway: Gateway) -> None:
    before = gateway.call("GET", "/status")
    gateway.post("/services", host="h")
    after = gateway.call("GET", "/status")
    assert after["database"] == {"reachable": True}
    assert after["configuration"]["generation"] == before["configuration"]["generation"] + 1
    assert after["configuration"]["hash"] != before["configuration"]["hash"]
    assert (after["configuration"]["error"], after["configuration"]["source"]) == (None, "admin")
    assert all(isinstance(v, int) for v in after["server"].values())


def test_probes_answer_by_state(gateway: Gateway) -> None:
    assert gateway.client.get("/livez").text == "ok"
    assert gateway.client.get("/readyz").status_code == 200
    assert "[+]store ok" in gateway.client.get("/readyz?verbose").text
    gateway.publisher.fail = {"publish": OSError(errno.ENOSPC, "No space left on device")}
    gateway.call("POST", "/consumers", 503, json={"username": "late"})
    behind = gateway.client.get("/readyz?verbose")
    assert (behind.status_code, "[+]snapshot ok" in behind.text) == (200, False)
    assert "[!]snapshot behind the store: [Errno 28] No space left on device" in behind.text
    for state, status in {"failing": 200, "full": 503, "displaced": 503, "well": 200}.items():
        gateway.publisher.ledger_state = state
        told = gateway.client.get("/readyz?verbose")
        assert (told.status_code, "[-]ledger" in told.text) == (status, status == 503)
    gateway.publisher.silent_ms = 2000
    assert "[-]workers failed" in gateway.client.get("/readyz").text
    assert [worker["state"] for worker in gateway.call("GET", "/status")["workers"]] == ["silent"], "one truth"
    gateway.publisher.slots = list  # type: ignore[method-assign]
    not_ready = gateway.client.get("/readyz")
    assert (not_ready.status_code, "[-]workers failed" in not_ready.text) == (503, True)
    assert gateway.client.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_schemas_have_the_defaults_that_clients_fill_in(gateway: Gateway) -> None:
    services = {k: v for f in gateway.call("GET", "/schemas/services")["fields"] for k, v in f.items()}
    assert (services["retries"]["default"], services["host"]["required"]) == (5, True)
    fields = {k: v for f in gateway.call("GET", "/schemas/plugins/rate-limiting")["fields"] for k, v in f.items()}
    config = {k: v for f in fields["config"]["fields"] for k, v in f.items()}
    assert (config["policy"]["default"], config["error_code"]["default"]) == ("local", 429)
    assert {k: v["default"] for f in config["redis"]["fields"] for k, v in f.items() if "default" in v}["port"] == 6379
    assert gateway.call("GET", "/schemas/plugins/foo", 404)
    assert gateway.call("GET", "/schemas/foo", 404)
    ok = {"message": "schema validation successful"}
    assert gateway.call("POST", "/schemas/services/validate", 200, json={"host": "h"}) == ok
    assert gateway.call("POST", "/schemas/plugins/validate", 200, json={"name": "key-auth"}) == ok
    consumer = {"consumer": {"id": gateway.post("/consumers", username="v")["id"]}}
    for name, own in (("keyauth_credentials", {"key": "x"}), ("acls", {"group": "gold"})):
        assert gateway.call("POST", f"/schemas/{name}/validate", 200, json={**consumer, **own}) == ok
        assert gateway.call("POST", f"/schemas/{name}/validate", 400, json={**consumer, **own, "updated_at": 1})
    wrong = gateway.call("POST", "/schemas/plugins/validate", 400, json={"name": "foo"})
    assert wrong["code"] == 2
    assert gateway.call("GET", "/plugins") == {"data": [], "next": None}


def test_every_endpoint_listed_exists(gateway: Gateway) -> None:
    for path in gateway.call("GET", "/endpoints")["data"]:
        filled = path.replace("{name}", "services").replace("{", "").replace("}", "")
        assert gateway.client.options(filled).status_code == 204, path


def test_collections_without_entities_are_empty_lists(gateway: Gateway) -> None:
    for name in ("upstreams", "certificates", "ca_certificates", "snis", "vaults", "keys", "key-sets"):
        assert gateway.call("GET", f"/{name}") == {"data": [], "next": None}


def test_limits_have_use_and_source(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="h")
    gateway.post("/services/s/routes", name="r", paths=["/"])
    gateway.post("/services/s/plugins", name="rate-limiting", config={"minute": 5})
    gateway.post("/consumers", username="bob")
    path = "/consumers/bob/limits"
    (row,) = gateway.call("GET", path)["data"]
    assert (row["limit"], row["used"], row["remaining"], row["resets_at"]) == (5, 0, 5, 1_700_000_040)
    assert row["source"].endswith("(service s)")
    column = gateway.publisher.policy["rate_limiting"][0]["limits"][0]["dense"]  # type: ignore[index]
    gateway.publisher.cells[column, 1] = (4, 1, 1_700_000_040)
    (row,) = gateway.call("GET", path)["data"]
    assert (row["used"], row["reserved"], row["remaining"], row["per"], row["meter"]) == (3, 1, 1, "minute", "requests")
    gateway.now += 60
    assert gateway.call("GET", path)["data"][0]["used"] == 0

    gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 100, "day": 1000})
    rows = gateway.call("GET", path)["data"]
    assert [(r["per"], r["limit"]) for r in rows] == [("minute", 100), ("day", 1000)]
    assert all(r["source"].endswith("(consumer bob)") for r in rows)
    assert gateway.call("GET", "/consumers/absent/limits", 404)


def test_limits_list_a_stronger_shared_plugin_and_the_consumers_own(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="h")
    gateway.post("/services/s/routes", name="r", paths=["/"])
    service, route = (gateway.call("GET", p)["id"] for p in ("/services/s", "/routes/r"))
    scope = {"service": {"id": service}, "route": {"id": route}}
    gateway.post("/plugins", name="rate-limiting", config={"minute": 7, "limit_by": "credential"}, **scope)
    gateway.post("/consumers", username="bob")
    gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 100})
    assert len(gateway.call("GET", "/consumers/bob/limits")["data"]) == 1
    key = gateway.post("/consumers/bob/key-auth")
    rows = gateway.call("GET", "/consumers/bob/limits")["data"]
    assert [(r["limit"], r["scope"], r["credential"]) for r in rows] == [
        (100, "consumer", None),
        (7, "credential", key["id"]),
    ]
