"""Probes of load balancers and kubelets: without a token, by any Host, with no content that tells anything."""

from collections.abc import Callable

import httpx2 as httpx
import pytest

from tests.support.processes import Gateway

New = Callable[..., Gateway]
TOKEN = "tok-tok-tok-tok"
PATHS = ["/livez", "/readyz"]


def get(url: str, method: str = "GET", **headers: str) -> httpx.Response:
    return httpx.request(method, url, headers=headers, trust_env=False)


def test_probes_of_the_admin_address_need_no_token(new_gateway: New) -> None:
    gateway = new_gateway(env={"AIGW_ADMIN_TOKEN": TOKEN})
    for path in PATHS:
        for headers in ({}, {"host": "10.1.2.3:8001"}, {"host": "evil.example"}, {"authorization": "Bearer nope"}):
            answer = get(gateway.admin + path, **headers)
            assert (answer.status_code, answer.text) == (200, "")
            assert get(gateway.admin + path, "HEAD", **headers).status_code == 200
        assert get(gateway.admin + path + "?verbose").text == ""
        assert get(gateway.admin + path, "POST").status_code == 401
    for path in ("/", "/status", "/metrics", "/livez/x", "/readyzz"):
        assert get(gateway.admin + path).status_code == 401
    verbose = get(gateway.admin + "/readyz?verbose", **{"kong-admin-token": TOKEN})
    assert "[+]store ok" in verbose.text


def test_bearer_is_the_token_too(new_gateway: New) -> None:
    gateway = new_gateway(env={"AIGW_ADMIN_TOKEN": TOKEN})
    for headers, status in (
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer {TOKEN}"}, 200),
        ({"kong-admin-token": TOKEN}, 200),
        ({"kong-admin-token": TOKEN, "authorization": "Basic eDp5"}, 200),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": TOKEN}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
    ):
        assert get(gateway.admin + "/services", **headers).status_code == status, headers


def test_proxy_answers_probes_where_no_route_has_them(new_gateway: New, echo: str) -> None:
    gateway = new_gateway()
    for path in PATHS:
        answer = get(gateway.proxy + path, host="10.1.2.3")
        assert (answer.status_code, answer.text) == (200, "")
        assert get(gateway.proxy + path, "HEAD").status_code == 200
        assert get(gateway.proxy + path, "POST").status_code == 404
    gateway.route(echo, "/readyz")
    assert get(gateway.proxy + "/readyz").text != ""
    assert get(gateway.proxy + "/livez").text == ""
    gateway.route(echo, "/", name="all")
    assert get(gateway.proxy + "/livez").text != ""


def test_chosen_probes_precede_routes(new_gateway: New, echo: str) -> None:
    gateway = new_gateway(env={"AIGW_PROBE_PATH": "/up, /internal/livez"})
    gateway.route(echo, "/")
    for path in ("/up", "/internal/livez"):
        assert (get(gateway.proxy + path).status_code, get(gateway.proxy + path).text) == (200, "")
    assert get(gateway.proxy + "/readyz").text != ""


def test_probes_can_be_off(new_gateway: New) -> None:
    gateway = new_gateway(env={"AIGW_PROBE_PATH": "none"})
    for path in PATHS:
        assert get(gateway.proxy + path).status_code == 404


@pytest.mark.parametrize("stepping", ["inline", "stock"])
def test_probes_answer_on_both_ways_of_stepping(new_gateway: New, stepping: str) -> None:
    gateway = new_gateway(env={"AIGW_LOOP": stepping})
    assert [get(gateway.proxy + path).text for path in PATHS] == ["", ""]
