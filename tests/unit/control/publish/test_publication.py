"""A change causes the least work and one publish for its group, and a failed publish loses nothing."""

import errno
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from aigw.control import group_commit
from aigw.control.publish import publication
from conftest import Gateway


def calls(gateway: Gateway) -> list[str]:
    found, gateway.publisher.calls = gateway.publisher.calls, []
    return found


def lab(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="h")
    gateway.post("/services/s/routes", name="r", paths=["/"])
    gateway.post("/consumers", username="bob")
    calls(gateway)


def test_each_change_does_the_least(gateway: Gateway) -> None:
    lab(gateway)
    gateway.post("/consumers/bob/key-auth")
    assert calls(gateway) == ["append", "publish"]
    gateway.post("/services/s/plugins", name="key-auth")
    assert calls(gateway) == ["publish policy"]
    gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 5})
    assert calls(gateway) == ["ensure_column", "append", "publish policy"]
    gateway.post("/consumers", username="eve")
    calls(gateway)
    gateway.post("/consumers/eve/plugins", name="rate-limiting", config={"minute": 5})
    assert calls(gateway) == ["append", "publish"], "an equal profile is shared"
    gateway.call("PATCH", "/services/s", json={"tags": ["x"]})
    assert calls(gateway) == [], "workers do not see tags"
    gateway.call("DELETE", "/consumers/absent")
    assert calls(gateway) == []


def test_a_full_publication_holds_every_entity(gateway: Gateway) -> None:
    lab(gateway)
    before = (gateway.publisher.policy, gateway.publisher.consumers)
    gateway.control.writer.renew().result(10)
    assert calls(gateway) == ["write_base", "publish policy"]
    assert (gateway.publisher.policy, gateway.publisher.consumers) == before
    gateway.post("/consumers/bob/key-auth")
    assert calls(gateway) == ["append", "publish"]


def test_moving_between_consumer_plugins_keeps_the_column(gateway: Gateway) -> None:
    lab(gateway)
    plugin = gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 5})

    def column() -> int:
        ((_, _, _, profile),) = gateway.publisher.consumers[1].refs
        return gateway.publisher.policy["rate_limiting"][profile]["limits"][0]["dense"]  # type: ignore[index,no-any-return]

    before = column()
    gateway.call("PATCH", f"/plugins/{plugin['id']}", json={"config": {"minute": 50}})
    assert column() == before


def test_precedence_skips_disabled_plugins_and_services(gateway: Gateway) -> None:
    lab(gateway)
    service, route = gateway.call("GET", "/services/s")["id"], gateway.call("GET", "/routes/r")["id"]
    limits = {"global": {}, "service": {"service": {"id": service}}, "route": {"route": {"id": route}},
              "both": {"service": {"id": service}, "route": {"id": route}}}  # fmt: skip
    plugins = []
    for rank, scope in zip((1, 2, 3, 5), limits.values(), strict=True):
        plugins.append(gateway.post("/plugins", name="rate-limiting", config={"minute": rank}, **scope)["id"])
        assert gateway.publisher.policy["routes"][0]["rate_limiting"]["rank"] == rank  # type: ignore[index]
    gateway.call("PATCH", f"/plugins/{plugins[-1]}", json={"enabled": False})
    assert gateway.publisher.policy["routes"][0]["rate_limiting"]["rank"] == 3  # type: ignore[index]
    gateway.call("PATCH", "/services/s", json={"enabled": False})
    assert gateway.publisher.policy["routes"] == []  # type: ignore[index]


def test_each_service_has_its_own_counter(gateway: Gateway) -> None:
    for name in ("s", "t"):
        gateway.post("/services", name=name, host="h")
        gateway.post(f"/services/{name}/routes", paths=[f"/{name}"])
    gateway.post("/plugins", name="rate-limiting", config={"minute": 5, "limit_by": "service"})
    policy = gateway.publisher.policy
    assert policy is not None
    used = [policy["rate_limiting"][r["rate_limiting"]["profile"]]["limits"][0]["dense"] for r in policy["routes"]]
    assert len(set(used)) == 2
    assert all(gateway.publisher.columns[n][1] == 1 for n in used)


def test_anonymous_follows_the_consumer(gateway: Gateway) -> None:
    lab(gateway)
    gateway.post("/services/s/plugins", name="key-auth", config={"anonymous": "guest"})
    entry = lambda: gateway.publisher.policy["key_auth"][0]  # type: ignore[index] # noqa: E731
    assert (entry()["anonymous"], entry()["anonymous_missing"]) == (None, "guest")
    gateway.post("/consumers", username="guest")
    assert (entry()["anonymous"], entry()["anonymous_missing"]) == (2, None)
    gateway.call("PATCH", "/consumers/guest", json={"username": "other"})
    assert entry()["anonymous_missing"] == "guest"


def test_columns_have_a_row_for_every_consumer(gateway: Gateway) -> None:
    lab(gateway)
    gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 5})
    consumers = ", ".join(f"{{username: c{n}}}" for n in range(1030))
    gateway.control.configuration.load("api", f"consumers: [{consumers}]".encode())  # type: ignore[union-attr]
    gateway.post("/consumers", username="late")
    assert max(gateway.publisher.consumers) > 1029
    assert min(rows for _, rows, _ in gateway.publisher.columns.values()) > max(gateway.publisher.consumers)


def test_a_failed_publish_is_reported_and_repaired(gateway: Gateway) -> None:
    lab(gateway)
    gateway.publisher.fail = {"publish": OSError(errno.EIO, "Input/output error")}
    answer = gateway.call("POST", "/consumers", 503, json={"username": "at"})
    assert "Input/output error" in answer["message"]
    assert "not in force" in answer["message"]
    assert all(c.username != "at" for c in gateway.publisher.consumers.values())
    status = gateway.call("GET", "/status")["configuration"]
    assert "Input/output" in status["error"]["message"]
    gateway.publisher.fail = {}
    gateway.post("/consumers", username="after")
    assert {"at", "after"} <= {c.username for c in gateway.publisher.consumers.values()}
    assert gateway.call("GET", "/status")["configuration"]["error"] is None


def test_a_lost_delta_is_replaced_by_a_new_base(gateway: Gateway) -> None:
    lab(gateway)
    key = gateway.post("/consumers/bob/key-auth")["id"]
    calls(gateway)
    with mock.patch.object(
        publication.Publication, "wants_base", False
    ):  # or the new base may come before the deletion
        gateway.publisher.delta_is_lost = True
        answer = gateway.call("DELETE", f"/consumers/bob/key-auth/{key}", 503)
    assert "nothing of this was changed" in answer["message"]
    end = time.monotonic() + 30
    while gateway.client.delete(f"/consumers/bob/key-auth/{key}").status_code != 204:
        assert time.monotonic() < end, "a revocation must not wait for a restart"
    assert gateway.publisher.credentials == {}
    assert "write_base" in calls(gateway)


def test_a_failed_publication_is_tried_again_without_another_write(gateway: Gateway) -> None:
    gateway.publisher.fail = {"publish": OSError(errno.ENOSPC, "No space left on device")}
    gateway.call("POST", "/services", 503, json={"name": "s", "host": "h"})
    gateway.publisher.fail = {}
    done = threading.Event()
    original = gateway.publisher.publish

    def publish_and_tell(policy: bytes | None) -> int:
        generation = original(policy)
        done.set()
        return generation

    gateway.publisher.publish = publish_and_tell  # type: ignore[method-assign]
    assert done.wait(30)
    assert gateway.publisher.policy["services"][0]["name"] == "s"  # type: ignore[index]


def test_a_full_disk_under_the_store_changes_nothing(gateway: Gateway) -> None:
    lab(gateway)
    before = (gateway.publisher.policy, gateway.publisher.consumers)

    def full(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")
        raise sa.exc.OperationalError("COMMIT", {}, Exception("database or disk is full"))

    sa.event.listen(sa.Engine, "commit", full)
    answer = gateway.call("POST", "/consumers", 503, json={"username": "x"})
    assert "disk is full" in answer["message"]
    gateway.call("POST", "/services/s/plugins", 503, json={"name": "key-auth"})
    sa.event.remove(sa.Engine, "commit", full)
    assert gateway.call("GET", "/consumers/x", 404)
    gateway.post("/consumers", username="y")
    assert gateway.publisher.policy == before[0]
    # The records appended before that commit are not published.
    assert sorted(c.username for c in gateway.publisher.consumers.values()) == ["bob", "y"]


def held_writer(gateway: Gateway) -> tuple[group_commit.GroupCommit, "Future[None]", threading.Event]:
    """The writer during a change that lasts until the event is set: changes requested in that time form one group."""
    held, go = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        held.set()
        assert go.wait(30)

    busy = gateway.control.writer  # type: ignore[union-attr]
    first = busy.submit(hold)
    assert held.wait(30)
    return busy, first, go


def test_writes_that_wait_share_one_publish(gateway: Gateway) -> None:
    lab(gateway)
    busy, first, go = held_writer(gateway)
    with ThreadPoolExecutor(20) as pool:
        made = [pool.submit(gateway.client.post, "/consumers", json={"username": f"c{i % 18}"}) for i in range(20)]
        while busy.waiting < 20:
            threading.Event().wait(0.005)
        calls(gateway)
        go.set()
        statuses = sorted(m.result().status_code for m in made)
    first.result(30)
    assert statuses == [201] * 18 + [409] * 2, "one write's fault is not the group's"
    assert calls(gateway).count("publish") == 1


def test_a_new_base_includes_changes_made_meanwhile(gateway: Gateway, monkeypatch: object) -> None:
    monkeypatch.setattr(publication, "MERGE_AT_LEAST", 4)  # type: ignore[attr-defined]
    for i in range(40):
        gateway.post("/consumers", username=f"c{i}")
        gateway.post(f"/consumers/c{i}/key-auth")
        gateway.post(f"/consumers/c{i}/plugins", name="rate-limiting", config={"minute": 1 + i % 7})
        if i % 3 == 0:
            gateway.call("DELETE", f"/consumers/c{i}")
    assert gateway.publisher.calls.count("write_base") > 1
    same_as_a_restart(gateway)


def meaning(gateway: Gateway) -> object:
    """The snapshot in force, with profiles by content instead of by index."""
    publisher = gateway.publisher
    policy = publisher.policy or {}
    profiles = policy.get("rate_limiting", [])
    named = lambda ref: profiles[ref] if ref is not None else None  # noqa: E731
    lists = (profiles, policy.get("size_limiting", []))
    routes = [{**r, "rate_limiting": r["rate_limiting"] and [r["rate_limiting"]["rank"], named(r["rate_limiting"]["profile"])],
               "key_auth": policy["key_auth"][r["key_auth"]] if r["key_auth"] is not None else None,
               "size_limiting": r["size_limiting"] and lists[1][r["size_limiting"]["profile"]]} for r in policy["routes"]]  # fmt: skip
    consumers = {
        n: (*c[:4], [(r, s, k, lists[k][p]) for r, s, k, p in c.refs], *c[5:]) for n, c in publisher.consumers.items()
    }
    offer = {k: policy[k] for k in ("acl", "default_tier", "tiers", "models")}
    return policy["services"], routes, offer, consumers, publisher.credentials


def same_as_a_restart(gateway: Gateway) -> None:
    before = meaning(gateway)
    gateway.close()
    gateway.open()
    assert meaning(gateway) == before


STEP = st.tuples(
    st.sampled_from(["consumer", "key", "plugin", "service", "route", "shared", "limit", "delete", "fail",
                     "tier", "join", "group", "acl", "size", "retry"]),
    st.integers(0, 2), st.integers(1, 4),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, max_size=14))
def test_a_restart_publishes_the_same_after_any_history(steps: list[tuple[str, int, int]]) -> None:
    # Each example has its own folder, because examples must not depend on each other. The step `retry` replaces retries by
    # the clock, which fall between any two steps on a busy machine.
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(group_commit, RETRY_SECONDS=3600.0, IDLE_SECONDS=3600.0),
    ):
        gateway = Gateway(Path(folder)).open()
        try:
            take(gateway, steps)
            gateway.publisher.fail = {}
            gateway.call("PUT", "/consumers/last", json={})
            same_as_a_restart(gateway)
        finally:
            gateway.close()


def take(gateway: Gateway, steps: list[tuple[str, int, int]]) -> None:
    client = gateway.client
    for what, i, n in steps:
        limits = {"name": "rate-limiting", "config": {"minute": n}}
        match what:
            case "consumer":
                client.put(f"/consumers/c{i}", json={"custom_id": str(n) + str(i)})
            case "key":
                client.post(f"/consumers/c{i}/key-auth")
            case "plugin":
                client.post(f"/consumers/c{i}/plugins", json=limits | ({"route": {"name": f"r{i}"}} if n == 4 else {}))
            case "service":
                client.put(f"/services/s{i}", json={"host": f"h{n}", "enabled": n != 4})
            case "route":
                client.put(f"/routes/r{i}", json={"paths": [f"/{n}"], "service": {"name": f"s{n % 3}"}})
            case "shared":
                client.post(f"/services/s{i}/plugins", json={"name": "key-auth", "config": {"anonymous": f"c{n % 3}"}})
            case "limit":
                client.post("/plugins", json=limits)
            case "tier":
                tier = {"limits": [{"requests": n, "per": "day"}], "output": {"max_tokens": n}}
                client.put(f"/tiers/t{i}", json=tier)
            case "join":
                client.post(f"/consumers/c{i}/consumer_groups", json={"group": f"t{n % 3}"})
            case "group":
                client.post(f"/consumers/c{i}/acls", json={"group": f"g{n}"})
            case "acl":
                client.post(f"/services/s{i}/plugins", json={"name": "acl", "config": {"allow": [f"g{n}"]}})
            case "size":
                on = ("/plugins", f"/services/s{i}/plugins", f"/consumers/c{i}/plugins", f"/routes/r{i}/plugins")[n - 1]
                client.post(on, json={"name": "request-size-limiting", "config": {"allowed_payload_size": n}})
            case "delete":
                kind = ("consumers/c", "services/s", "routes/r", "tiers/t")[n - 1]
                client.delete(f"/{kind}{i}")
            case "fail":
                gateway.publisher.fail = (
                    {("append", "publish", "ensure_column")[i]: OSError(errno.ENOSPC, "full")} if n < 4 else {}
                )
            case "retry":
                with suppress(OSError):
                    gateway.control.writer.catch_up(int(gateway.now))  # type: ignore[union-attr]


@pytest.mark.parametrize("step", ["stage", "ensure_column"])
def test_a_change_without_room_on_disk_is_not_stored_and_blocks_nobody(gateway: Gateway, step: str) -> None:
    lab(gateway)
    key = gateway.post("/consumers/bob/key-auth")["id"]
    gateway.publisher.fail = {step: OSError(errno.ENOSPC, "No space left on device")}
    config = {"minute": 5}
    answer = gateway.call("POST", "/plugins", 503, json={"name": "rate-limiting", "config": config})
    assert "nothing of this was changed" in answer["message"] and "free some space" in answer["message"]
    assert gateway.call("GET", "/plugins")["data"] == []
    gateway.call("DELETE", f"/consumers/bob/key-auth/{key}", 204)
    assert gateway.publisher.credentials == {}
    assert gateway.call("GET", "/status")["configuration"]["error"] is None
    gateway.publisher.fail = {}
    gateway.post("/plugins", name="rate-limiting", config=config)
    assert gateway.publisher.columns


def test_a_group_refuses_only_the_changes_without_room(gateway: Gateway) -> None:
    lab(gateway)
    busy, first, go = held_writer(gateway)
    gateway.publisher.fail = {"ensure_column": OSError(errno.ENOSPC, "No space left on device")}
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(gateway.call, "POST", "/plugins", 503, json={"name": "rate-limiting", "config": {"day": 1}})
        small = pool.submit(gateway.call, "POST", "/consumers", 201, json={"username": "eve"})
        while busy.waiting < 2:
            threading.Event().wait(0.001)
        go.set()
        first.result(30)
        assert "nothing of this was changed" in large.result(30)["message"]
        assert small.result(30)["username"] == "eve"
    assert "eve" in {c.username for c in gateway.publisher.consumers.values()}


def test_a_column_unknown_to_the_store_is_never_used(gateway: Gateway) -> None:
    """The process died between making the column and storing its number."""
    gateway.publisher.columns[7] = (1, 1024, "of a change that was never stored")
    with gateway.control.store.reading() as reader:  # type: ignore[union-attr]
        gateway.control.publication.load(reader)  # type: ignore[union-attr]
    lab(gateway)
    gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 5})
    assert gateway.publisher.columns[7][2] == "of a change that was never stored"
    assert set(gateway.publisher.columns) == {7, 8}
