"""`_native.Publisher`: checks and writes the data of the control process; it is in force when `publish` returns."""

import errno
import hashlib
import hmac
import json
import stat
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from aigw._native import Publisher, PublishError, limit_kinds, wrong_limit
from aigw.entities.sni import SniName
from aigw.telemetry.families import native, text
from aigw.types import MetricLabels

NOW = 1_700_000_000 * 10**9
STORE = "0123abcd-0000-4000-8000-00000000000f"
EMPTY: dict[str, Any] = {
    **{part: [] for part in ("services", "routes", "key_auth", "rate_limiting", "size_limiting", "acl", "columns")},
    **{"default_tier": None, "tiers": [], "models": [], "series": []},
}


def policy(**parts: Any) -> bytes:
    return json.dumps(EMPTY | parts).encode()


def entity(n: int) -> str:
    return str(uuid.UUID(int=n))


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(str(tmp_path), STORE)


def test_keys_are_hmacs_under_a_secret_of_one_user(publisher: Publisher, tmp_path: Path) -> None:
    digest = publisher.hash_key(b"a key")
    secret = tmp_path / "secret"
    assert digest == hmac.new(secret.read_bytes(), b"a key", hashlib.sha256).digest()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert Publisher(str(tmp_path), STORE).hash_key(b"a key") == digest


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(str(tmp_path_factory.mktemp("staging")), STORE)


LABELS = st.text("ab-_*.9A", max_size=12)


@given(
    name=st.one_of(
        LABELS, LABELS.map(lambda text: f"*.{text}"), LABELS.map(lambda text: f"{text}.*"), st.text(max_size=300)
    )
)
@settings(max_examples=500, deadline=None)
def test_workers_load_every_name_that_an_sni_may_have(staging: Publisher, name: str) -> None:
    """A name that a worker could not load would keep all other changes out of force."""
    try:
        TypeAdapter(SniName).validate_python(name, strict=True)
    except ValidationError:
        return
    served = [{"names": [name.lower()], "pairs": [{"chain": "c", "key": "k"}]}]
    staging.stage(policy(certificates=served))


def test_generations_count_publishes(publisher: Publisher, tmp_path: Path) -> None:
    assert publisher.generation() == 0
    with pytest.raises(ValueError, match=r"first publish needs a policy"):
        publisher.publish(None)
    assert publisher.publish(policy()) == 1
    publisher.append(
        [(1, entity(1), "alice", None, [(0, 0, 0, 0)], 0, ["gold"])], [(1, entity(2), 1, b"h" * 32, 0)], [], []
    )
    assert publisher.delta_records() == 2
    assert publisher.publish(None) == 2
    assert publisher.generation() == 2
    assert sorted(p.name for p in (tmp_path / "snapshot").iterdir()) == ["keys-base-1", "keys-delta-1", "policy-1"]
    again = Publisher(str(tmp_path), STORE)
    assert (again.generation(), again.delta_records()) == (2, 2)


def test_write_base_takes_a_base_of_parts_once_and_empties_the_delta(publisher: Publisher) -> None:
    publisher.append([(1, entity(1), None, None, [], 0, [])], [], [], [])
    base = publisher.new_base()
    for part in (range(1, 501), range(501, 1001)):
        base.consumers([(n, entity(n), f"c{n}", None, [], 0, []) for n in part])
    base.credentials([(n, entity(n), entity(n), hashlib.sha256(str(n).encode()).digest(), 0) for n in range(1, 1001)])
    assert len(base) == 2000
    publisher.write_base(base)
    with pytest.raises(ValueError, match="written before"):
        publisher.write_base(base)
    assert publisher.delta_records() == 0
    assert publisher.publish(policy()) == 1


@pytest.mark.parametrize(
    ("consumers", "credentials", "words"),
    [
        ([(1, "x", None, None, [], 0, [])], [], "not a UUID"),
        ([(1, entity(1), None, None, [], 0, [])] * 2, [], "consumer 1: appears twice"),
        ([], [(1, entity(1), entity(1), b"h" * 32, 0)], "its consumer is not in the base"),
        (
            [(1, entity(1), None, None, [], 0, [])],
            [(1, entity(1), entity(1), b"h" * 31, 0)],
            "its hmac is not 32 bytes",
        ),
        ([(0, entity(1), None, None, [], 0, [])], [], "n starts at 1"),
        ([(1, entity(1), "x" * 65_535, None, [], 0, [])], [], "longer than 65534 bytes"),
    ],
)
def test_wrong_records_are_value_errors(
    publisher: Publisher, consumers: list[Any], credentials: list[Any], words: str
) -> None:
    base = publisher.new_base()
    with pytest.raises((ValueError, KeyError), match=words):
        base.consumers(consumers)
        base.credentials(credentials)
        publisher.write_base(base)
    assert publisher.publish(policy()) == 1


def test_a_wrong_policy_changes_nothing(publisher: Publisher) -> None:
    publisher.publish(policy())
    for bad in (b"", b"{}", policy(surprise=1), policy(services=[{"n": 1}])):
        with pytest.raises(ValueError, match=r"policy"):
            publisher.publish(bad)
    assert publisher.generation() == 1


def test_publish_error_names_entity_and_reason(publisher: Publisher) -> None:
    model = {
        "n": 4,
        "id": entity(4),
        "name": "m",
        "features": [],
        "max_output_tokens": None,
        "created_at": 1,
        "upstreams": [],
    }
    with pytest.raises(PublishError) as wrong:
        publisher.stage(policy(models=[model]))
    assert (wrong.value.kind, wrong.value.n) == ("model", 4)
    assert wrong.value.reason == "a model has a name and at least one upstream"
    with pytest.raises(PublishError) as wrong:
        publisher.stage(policy(default_tier=9))
    assert (wrong.value.kind, wrong.value.n) == (None, None)
    assert wrong.value.reason == str(wrong.value) == "policy: the policy refers to tier 9, which does not exist"
    with pytest.raises(PublishError) as wrong:
        publisher.append([(0, entity(1), None, None, [], 0, [])], [], [], [])
    assert (wrong.value.kind, wrong.value.n, wrong.value.reason) == ("consumer", 0, "n starts at 1")


def test_families_have_the_samples_of_the_page(publisher: Publisher) -> None:
    publisher.publish(policy())
    labels = MetricLabels(
        {1: ('a "route"', "s")}, {1: "free"}, {1: "small"}, {1: ("small", "openai", "small-1")}, {}, {"a:1"}
    )
    page = publisher.metrics(labels)
    assert text(native(publisher.families(labels))) == page.replace(" 0.000\n", " 0\n")
    assert publisher.load_failures() == publisher.total_requests([1, 2]) == 0


def test_counting_has_one_begin_and_consumers_are_counted_on_demand(publisher: Publisher) -> None:
    since = publisher.counting_since()
    assert 0 < since <= time.time_ns() and publisher.counting_since() == since
    publisher.publish(policy())
    assert publisher.counting_since() == since
    publisher.count_consumers(True)
    publisher.count_consumers(False)
    assert publisher.counted_consumers() == []


def test_the_publisher_sets_cells_of_another_store_aside(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish(policy())
    other = Publisher(str(tmp_path), entity(7))
    assert other.generation() == 0
    assert any(p.name.startswith("cells.old-") for p in tmp_path.iterdir())


def test_untouched_counters_read_as_zero(publisher: Publisher) -> None:
    publisher.ensure_column(3, 1, 10, "requests:-,-:consumer:minute")
    assert publisher.standing([], 0, 1, [], NOW) == b"[]", "no policy is in force"
    limit = {"kind": "window", "fields": {"requests": 5, "per": "minute"}, "dense": 3, "open": 4}
    profile = {"limit_by": "consumer", "header_name": None, "path": None, "limits": [limit], "hide_client_headers": False,
               "error_code": 429, "error_message": "no"}  # fmt: skip
    columns = [{"n": 3, "kind": "dense", "words": 1, "key": "a"}, {"n": 4, "kind": "open", "words": 0, "key": "a"}]
    publisher.publish(policy(rate_limiting=[profile], columns=columns))
    rows = json.loads(publisher.standing([(0, "the plugin", [(1, "a"), (1_000_000, "b")]), (9, "", [])], 0, 1, [], NOW))
    assert rows[0] == {"meter": "requests", "per": "minute", "scope": "consumer", "model": None, "credential": None,
                       "service": None, "mode": "enforce", "limit": 5, "used": 0, "reserved": 0, "remaining": 5,
                       "resets_at": 1_700_000_040, "source": "the plugin"}  # fmt: skip
    assert [row["scope"] for row in rows] == ["consumer", "consumer"]
    for by in ("credential", "service"):
        publisher.publish(policy(rate_limiting=[{**profile, "limit_by": by}], columns=columns))
        (row,) = json.loads(publisher.standing([(0, "the plugin", [(1, "an id")])], 0, 1, [], NOW))
        names = {name: row[name] for name in ("model", "credential", "service") if row[name] is not None}
        assert (row["scope"], names) == (by, {by: "an id"})
    assert publisher.slots() == []
    assert publisher.reclaim() == []


def test_a_folder_that_cannot_be_used_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "cells").write_text("a file")
    with pytest.raises(OSError, match=r"cells|directory|exists") as caught:
        Publisher(str(tmp_path), STORE)
    assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR)
    with pytest.raises(ValueError, match=r"store_id"):
        Publisher(str(tmp_path), "no uuid")


def test_a_secret_others_can_read_is_refused(publisher: Publisher, tmp_path: Path) -> None:
    publisher.hash_key(b"k")
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(PermissionError, match=r"chmod 600"):
        Publisher(str(tmp_path), STORE).hash_key(b"k")


def test_limits_are_checked_by_their_kind() -> None:
    budgets = dict.fromkeys(("tokens", "input_tokens", "output_tokens", "spend"), 2)
    buckets = dict.fromkeys(("bucket", "tokens_bucket", "input_tokens_bucket", "output_tokens_bucket"), 1)
    assert limit_kinds() == {"window": 1, **buckets, **budgets, "concurrency": 16}
    for kind, fields, ip, wrong in (
        ("window", {"requests": 5, "per": "day"}, True, None),
        ("bucket", {"requests": 5, "per": "day", "burst": 5}, False, None),
        ("bucket", {"requests": 5, "per": "day", "burst": 5}, True, "a limit by address has none"),
        ("bucket", {"requests": 5, "per": "year", "burst": 5}, False, "fixed length"),
        ("window", {"requests": 5, "per": "5w"}, False, "not a period"),
        ("window", None, False, "invalid type"),
        ("tokens", {"amount": 5, "per": "day"}, False, None),
        ("concurrency", {"calls": -1}, False, "invalid value"),
        ("dollars", {}, False, "no kind of limit"),
    ):
        found = wrong_limit(kind, json.dumps(fields).encode(), ip)
        assert found is None if wrong is None else wrong in str(found), (kind, fields, found)
