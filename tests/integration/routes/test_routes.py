"""Route matching and the resulting upstream requests. The Admin API makes the routes, a raw socket sends the requests."""

from collections.abc import Iterator

import pytest

from tests.support.processes import Gateway, start_gateway
from tests.support.wire import Connection, Message, Upstream

NO_ROUTE = "no Route matched with those values"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, running: Upstream) -> Iterator[Gateway]:
    """One upstream behind many services: the service's path tells which route was taken."""
    gateway = start_gateway(tmp_path_factory.mktemp("routes") / "data", "--drain-timeout", "2")
    try:
        for name, route in ROUTES.items():
            gateway.make("/services", name=name, url=f"{running.url}/{name}")
            gateway.make(f"/services/{name}/routes", name=name, **route)
        gateway.make("/services", name="bare", url=running.url)
        gateway.make("/services/bare/routes", name="bare", paths=["/bare"])
        gateway.make("/services/bare/routes", name="whole", paths=["/whole"], strip_path=False)
        gateway.make("/services/bare/routes", name="kept", paths=["/kept"], preserve_host=True)
        gateway.make("/services/bare/routes", name="tls", paths=["/tls"], protocols=["https"])
        moved = {"protocols": ["https"], "https_redirect_status_code": 308}
        gateway.make("/services/bare/routes", name="moved", paths=["/moved"], **moved)
        gateway.make("/services", name="off", url=running.url, enabled=False)
        gateway.make("/services/off/routes", name="off", paths=["/off"])
        gateway.make("/routes", name="alone", paths=["/alone"])
        yield gateway
    finally:
        gateway.process.end()


ROUTES: dict[str, dict[str, object]] = {
    "path": {"paths": ["/p"]},
    "longer": {"paths": ["/p/longer"]},
    "regex": {"paths": [r"~/p/v\d+"]},
    "regex-first": {"paths": [r"~/p/v9"], "regex_priority": 5},
    "methods": {"paths": ["/p"], "methods": ["PUT", "DELETE"]},
    "host": {"paths": ["/p"], "hosts": ["one.test"]},
    "wild": {"paths": ["/p"], "hosts": ["*.test"]},
    "wild-end": {"paths": ["/p"], "hosts": ["two.*"]},
    "port": {"paths": ["/p"], "hosts": ["three.example:8080"]},
    "header": {"paths": ["/p"], "headers": {"x-version": ["1", "2"]}},
    "header-regex": {"paths": ["/p"], "headers": {"x-name": ["~*^a+$"]}},
    "both": {"paths": ["/p"], "hosts": ["one.test"], "headers": {"x-version": ["1"]}},
    "hosts-only": {"hosts": ["only.example"]},
}


def ask(gate: Gateway, target: str, *lines: str, host: str = "t", method: str = "GET") -> Message:
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]
    with Connection(gate.proxy) as connection:
        return connection.ask("\r\n".join(head).encode())


@pytest.mark.parametrize(
    ("taken", "target", "options"),
    [
        ("path", "/p", {}),
        ("path", "/p/long", {}),
        ("path", "/px", {}),
        ("longer", "/p/longer", {}),
        ("longer", "/p/longerer/x", {}),
        ("regex", "/p/v1", {}),
        ("regex-first", "/p/v9", {}),
        ("methods", "/p", {"method": "PUT"}),
        ("methods", "/p/longer", {"method": "DELETE"}),
        ("host", "/p", {"host": "one.test"}),
        ("host", "/p", {"host": "ONE.test"}),
        ("host", "/p", {"host": "one.test:9"}),
        ("wild", "/p", {"host": "other.test"}),
        ("wild", "/p", {"host": "a.b.test"}),
        ("wild-end", "/p", {"host": "two.example"}),
        ("port", "/p", {"host": "three.example:8080"}),
        ("path", "/p", {"host": "three.example:8081"}),
        ("hosts-only", "/any/where", {"host": "only.example"}),
    ],
)
def test_the_route_of_a_request(
    gate: Gateway, kept: Upstream, taken: str, target: str, options: dict[str, str]
) -> None:
    assert ask(gate, target, **options).status == 200
    (request,) = kept.take()
    assert request.target.split("/")[1] == taken


@pytest.mark.parametrize(
    ("taken", "lines", "host"),
    [
        ("header", ["X-Version: 2"], "t"),
        ("header", ["x-version: 1"], "other.test"),
        ("header-regex", ["X-Name: AAA"], "t"),
        ("path", ["X-Name: ab"], "t"),
        ("path", ["X-Version: 3"], "t"),
        ("both", ["X-Version: 1"], "one.test"),
        ("host", ["X-Version: 3"], "one.test"),
    ],
)
def test_headers_choose_a_route(gate: Gateway, kept: Upstream, taken: str, lines: list[str], host: str) -> None:
    assert ask(gate, "/p", *lines, host=host).status == 200
    (request,) = kept.take()
    assert request.target.split("/")[1] == taken


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/bare", "/"),
        ("/bare/", "/"),
        ("/bare/a/b", "/a/b"),
        ("/barefoot", "/foot"),
        ("/bare/a/?x=1&y=%2F&x=2", "/a/?x=1&y=%2F&x=2"),
        ("/bare?q", "/?q"),
        ("/whole/a?b=c", "/whole/a?b=c"),
        ("/p", "/path"),
        ("/p/", "/path/"),
        ("/p/a", "/path/a"),
        ("/p/v12/a", "/regex/a"),
        ("/bare/caf%C3%A9%20x", "/caf%C3%A9%20x"),
        ("/bare/100%25", "/100%25"),
    ],
)
def test_the_route_makes_the_upstream_path(gate: Gateway, kept: Upstream, target: str, asked: str) -> None:
    assert ask(gate, target).status == 200
    assert [request.target for request in kept.take()] == [asked]


def test_the_host_is_the_services_unless_it_is_preserved(gate: Gateway, kept: Upstream) -> None:
    assert ask(gate, "/bare", host="me.example:81").status == 200
    assert ask(gate, "/kept", host="me.example:81").status == 200
    changed, same = kept.take()
    assert changed.one("host") == kept.url.removeprefix("http://")
    assert same.one("host") == "me.example:81"
    for request in (changed, same):
        assert (request.one("x-forwarded-host"), request.one("x-forwarded-port")) == ("me.example", "81")
        assert request.one("x-forwarded-proto") == "http"
    assert (changed.one("x-forwarded-path"), changed.one("x-forwarded-prefix")) == ("/bare", "/bare")


@pytest.mark.parametrize(
    ("target", "host", "status", "message"),
    [
        ("/nowhere", "t", 404, NO_ROUTE),
        ("/", "t", 404, NO_ROUTE),
        ("/P", "t", 404, NO_ROUTE),
        ("/p-", "not.test.example", 200, ""),
        ("/any", "only.example.org", 404, NO_ROUTE),
        ("/alone", "t", 503, "no Service found with those values"),
        ("/off", "t", 404, NO_ROUTE),
        ("/tls", "t", 426, "Please use HTTPS protocol"),
    ],
)
def test_a_request_without_a_route_is_refused(
    gate: Gateway, kept: Upstream, target: str, host: str, status: int, message: str
) -> None:
    answer = ask(gate, target, host=host)
    assert answer.status == status
    if message:
        assert answer.json()["message"] == message
        assert kept.take() == []
    if status == 426:
        assert (answer.one("connection").lower(), answer.one("upgrade")) == ("upgrade", "TLS/1.2, HTTP/1.1")


def test_a_route_that_wants_https_sends_there(gate: Gateway, kept: Upstream) -> None:
    answer = ask(gate, "/moved/a?b=c", host="me.example:81")
    assert (answer.status, answer.one("location")) == (308, "https://me.example/moved/a?b=c")
    assert kept.take() == []


def test_a_change_moves_the_next_request_on_a_kept_connection(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        request = b"GET /later HTTP/1.1\r\nHost: t\r\n\r\n"
        assert connection.ask(request).status == 404
        gate.make("/services/bare/routes", name="later", paths=["/later"])
        assert connection.ask(request).status == 200
    assert [request.target for request in kept.take()] == ["/"]
