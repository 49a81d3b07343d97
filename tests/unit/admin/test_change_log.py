"""`admin_change`: each change of the Admin API is a line of the process log, once, after the commit, and without a value of the entity."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aigw.control.store.rows import MOST_SHOWN
from conftest import Gateway
from tests.support.certificates import certificate

Json = dict[str, Any]
KEY = "a-key-that-is-in-no-line-Zq9X"


class Listening:
    """A gateway whose log is kept."""

    def __init__(self, data: Path) -> None:
        self.events: list[tuple[str, Json]] = []
        self.gateway = Gateway(data, log=lambda event, /, **facts: self.events.append((event, facts)), shows_keys=True)
        self.gateway.open()
        self.answer: Json = {}

    def call(self, method: str, path: str, expect: int | None = None, **body: Any) -> list[Json]:
        """The lines of a request; all have its id."""
        before = len(self.events)
        sent = self.gateway.client.request(method, path, json=body or None)
        assert sent.status_code == expect if expect else sent.is_success, sent.text
        self.answer = sent.json() if sent.content else {}
        lines = [facts for event, facts in self.events[before:] if event == "admin_change"]
        for line in lines:
            assert line.pop("request_id") == sent.headers["X-Request-Id"] and line.pop("method") == method
            assert (line.pop("client"), line.pop("access")) == ("testclient", "loopback")
        return lines


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Listening]:
    listening = Listening(tmp_path)
    yield listening
    listening.gateway.close()


def test_each_change_is_one_line(log: Listening) -> None:
    (made,) = log.call("POST", "/consumers", username="alice", custom_id="c-1")
    assert made == {"action": "created", "kind": "consumer", "id": log.answer["id"], "name": "alice"}
    assert log.call("PATCH", "/consumers/alice", tags=["x"]) == [{**made, "action": "updated"}]
    assert log.call("PATCH", "/consumers/alice", tags=["x"]) == [], "nothing changed"
    (key,) = log.call("POST", "/consumers/alice/key-auth", key=KEY)
    assert key == {"action": "created", "kind": "key-auth", "id": log.answer["id"]}
    assert log.call("PUT", f"/consumers/alice/key-auth/{KEY}", key=KEY, tags=["t"]) == [{**key, "action": "updated"}]
    (group,) = log.call("PUT", "/tiers/gold", limits=[{"requests": 5, "per": "minute"}])
    assert (group["action"], group["kind"], group["name"]) == ("created", "tier", "gold")
    assert log.call("POST", "/consumer_groups/gold/consumers", consumer="alice") == [{**made, "action": "updated"}]
    gone = log.call("DELETE", "/consumers/alice")
    assert gone == [{**key, "action": "deleted"}, {**made, "action": "deleted"}]
    assert log.call("DELETE", "/consumers/alice") == [], "it was gone"
    assert KEY not in str(log.events) and "c-1" not in str(log.events) and KEY[-4:] not in str(log.events)


def test_a_refused_change_is_no_line(log: Listening) -> None:
    log.call("POST", "/consumers", username="bob")
    assert log.call("POST", "/consumers", 409, username="bob") == []
    assert log.call("POST", "/services", 400, name="s") == []
    assert log.call("PATCH", "/consumers/nobody", 404, tags=["x"]) == []
    assert log.call("POST", "/schemas/consumers/validate", username="carol") == []


def test_a_moved_key_is_one_line(log: Listening) -> None:
    log.call("POST", "/consumers", username="alice")
    log.call("POST", "/consumers/alice/key-auth", key=KEY)
    new = "6f4c1f9a-3c6e-4c52-9c55-51c8b1a2f001"
    (moved,) = log.call("PUT", f"/consumers/alice/key-auth/{new}", key=KEY, tags=["moved"])
    assert moved == {"action": "updated", "kind": "key-auth", "id": new}


def test_a_mark_on_a_target_is_a_line(log: Listening) -> None:
    log.call("POST", "/upstreams", name="u")
    log.call("POST", "/upstreams/u/targets", target="10.0.0.1:80")
    target = {"kind": "target", "id": log.answer["id"], "name": "10.0.0.1:80"}
    for word in ("unhealthy", "healthy"):
        assert log.call("PUT", f"/upstreams/u/targets/{target['id']}/{word}") == [{"action": word, **target}]


def test_many_changes_of_one_request_are_few_lines(log: Listening, tmp_path: Path) -> None:
    made = certificate(tmp_path / "pair")
    names = [f"{n}.test" for n in range(MOST_SHOWN + 20)]
    lines = log.call("POST", "/certificates", cert=made.cert, key=made.private, snis=names)
    assert lines[0] == {"action": "created", "kind": "certificate", "id": log.answer["id"]}
    assert {line["kind"] for line in lines[1:-1]} == {"SNI"} and len(lines) == MOST_SHOWN + 1
    assert lines[-1] == {"more": len(names) + 1 - MOST_SHOWN}
    assert "PRIVATE" not in str(log.events) and "BEGIN" not in str(log.events)


def test_a_posted_configuration_has_the_lines_of_a_file(log: Listening) -> None:
    consumers = "".join(f"- username: user-{n}\n" for n in range(200))
    before = len(log.events)
    sent = log.gateway.client.post(
        "/config", content=f"consumers:\n{consumers}", headers={"Content-Type": "text/plain"}
    )
    assert sent.status_code == 201, sent.text
    (applied, *changes) = log.events[before:]
    assert applied[0] == "config_applied"
    assert (applied[1]["trigger"], applied[1]["request_id"]) == ("api", sent.headers["X-Request-Id"])
    assert (applied[1]["client"], applied[1]["access"]) == ("testclient", "loopback")
    assert {event for event, _ in changes} == {"config_change"} and len(changes) == MOST_SHOWN + 1
    refused = log.gateway.client.post("/config", content="consumers: 3\n", headers={"Content-Type": "text/plain"})
    rejected = next(facts for event, facts in reversed(log.events) if event == "config_rejected")
    assert (refused.status_code, rejected["client"]) == (400, "testclient")
    assert rejected["request_id"] == refused.headers["X-Request-Id"]


def test_a_stored_change_that_is_not_in_force_yet_is_a_line(log: Listening) -> None:
    publisher = log.gateway.publisher
    publisher.fail["publish"] = OSError(errno.ENOSPC, "no room")
    (made,) = log.call("POST", "/services", 503, name="s", url="http://127.0.0.1:1")
    assert "stored, but not in force yet" in log.answer["message"] and made["name"] == "s"
    del publisher.fail["publish"]


def test_a_name_turns_no_line_and_is_short(log: Listening) -> None:
    (line,) = log.call("POST", "/consumers", username="a\u202eb" + "x" * 200)
    assert line["name"].startswith("a\\u202ebxx") and len(line["name"]) < 150


def test_a_line_says_that_its_caller_had_the_token_and_never_the_token(tmp_path: Path) -> None:
    token, lines = "the-token-that-is-in-no-line", []
    gateway = Gateway(tmp_path, token, log=lambda event, /, **facts: lines.append((event, facts)), shows_keys=True)
    gateway.open()
    for header in ({"Kong-Admin-Token": token}, {"Authorization": f"Bearer {token}"}):
        sent = gateway.client.post("/consumers", json={"username": f"of-{len(header)}-{len(lines)}"}, headers=header)
        assert sent.status_code == 201, sent.text
        event, facts = lines[-1]
        assert (event, facts["access"], facts["client"]) == ("admin_change", "token", "testclient")
        assert facts["request_id"] == sent.headers["X-Request-Id"]
    assert gateway.client.post("/consumers", json={"username": "x"}).status_code == 401
    made = gateway.client.post("/consumers/of-1-1/key-auth", json={"key": KEY}, headers=header)
    assert gateway.client.get(f"/key-auths/{made.json()['id']}", headers=header).json()["key"] == KEY
    event, facts = lines[-1]
    assert (event, facts["access"], facts["client"]) == ("keys_shown", "token", "testclient")
    assert token not in str(lines)
    gateway.close()
