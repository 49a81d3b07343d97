"""Certificates, SNIs and CA certificates through the Admin API, and what the snapshot gets of them."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import sqlalchemy as sa

from aigw.entities.certificate import DIFFERENT, reference
from conftest import Gateway
from tests.support.certificates import Certificate, certificate, unservable

Json = dict[str, Any]
ENDED = """\
-----BEGIN CERTIFICATE-----
MIIBSjCB8aADAgECAgEBMAoGCCqGSM49BAMCMBUxEzARBgNVBAMMCmVuZGVkLnRl
c3QwHhcNMjAwMTAxMDAwMDAwWhcNMjAwMTAyMDAwMDAwWjAVMRMwEQYDVQQDDApl
bmRlZC50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEprBJ7JwSG0hbj8iC
NkDD+a+2szo/bP5eivLXniVoJikz+PJ8pZZpRWDQR/qHJQ19jweH5omjG+7oZZE6
2Enc9KMyMDAwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUNi7NQuyOzw2Tbwk3
/BsOPc2S8qQwCgYIKoZIzj0EAwIDSAAwRQIgA/KiLmZcsjmjyOx9XRfUCH7TQSEO
TpHCt6TnX3OVIFACIQCeY/+XHxnn7h56Ncs9SsbZlDAkceMl11NirJ84ovFAEQ==
-----END CERTIFICATE-----
"""
"""An authority whose certificate ended in 2020 (openssl ca -selfsign -enddate)."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    """By name: two of ECDSA, one of RSA, one of RSA that is too small, one of no authority."""
    folder = tmp_path_factory.mktemp("pairs")
    made = {kind: certificate(folder / kind, kind=kind) for kind in ("ec", "rsa", "small")}
    return made | {
        "other": certificate(folder / "other"),
        "leaf": certificate(folder / "leaf", authority=False),
    }


@pytest.fixture
def showing(tmp_path: Path) -> Iterator[Gateway]:
    opened = Gateway(tmp_path, shows_keys=True).open()
    yield opened
    opened.close()


def pair(made: Certificate, **more: Any) -> Json:
    return {"cert": made.cert, "key": made.private, **more}


def alt(made: Certificate) -> Json:
    return {"cert_alt": made.cert, "key_alt": made.private}


def served(gateway: Gateway) -> list[tuple[list[str], list[str]]]:
    """Names and keys of the certificates in force."""
    found = (gateway.publisher.policy or {}).get("certificates", [])
    return [(one["names"], [gateway.publisher.unseal(p["key"]).decode() for p in one["pairs"]]) for one in found]


def test_a_certificate_has_every_field_of_kong_and_no_key(gateway: Gateway, pairs: dict[str, Certificate]) -> None:
    made = gateway.post(
        "/certificates", **pair(pairs["rsa"], snis=["b.test", "a.test"], tags=["x"]), **alt(pairs["ec"])
    )
    key = made["id"]
    assert list(made) == ["id", "created_at", "updated_at", "cert", "key", "cert_alt", "key_alt", "tags", "snis"]
    assert (made["key"], made["key_alt"]) == (reference(key, "key"), reference(key, "key_alt"))
    assert (made["cert"], made["cert_alt"], made["snis"]) == (pairs["rsa"].cert, pairs["ec"].cert, ["a.test", "b.test"])
    for path in (key, "a.test", "b.test"):
        assert gateway.call("GET", f"/certificates/{path}") == made
    assert gateway.call("GET", "/certificates?tags=x")["data"] == [made]
    assert [s["name"] for s in gateway.call("GET", "/certificates/a.test/snis")["data"]] != []
    assert gateway.call("GET", "/snis/a.test/certificate") == made
    assert set(gateway.call("GET", "/snis/a.test")) == {"id", "created_at", "updated_at", "name", "tags", "certificate"}
    assert served(gateway) == [(["a.test", "b.test"], [pairs["rsa"].private, pairs["ec"].private])]


def test_no_key_is_in_the_store_or_the_policy(gateway: Gateway, pairs: dict[str, Certificate], tmp_path: Path) -> None:
    gateway.post("/certificates", **pair(pairs["rsa"], snis=["a.test"]))
    secret = pairs["rsa"].private.splitlines()[3].encode()
    assert secret not in str(gateway.publisher.policy).encode()
    assert all(secret not in file.read_bytes() for file in tmp_path.glob("store.db*"))


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "cert", "required field missing"),
        ({}, "key", "required field missing"),
        ({"cert": "bar"}, "cert", "invalid certificate: there is no certificate in PEM form"),
        ({"cert": "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----"}, "cert", "invalid certificate"),
        ({"key": "foo"}, "key", "invalid key: there is no private key in PEM form"),
        ({"key": "small"}, "key", "only RSA keys of 2048 to 8192 bits"),
        ({"cert": "ec", "key": "other"}, "@entity", "certificate does not match key"),
        ({"cert": "ec", "key": "ec", "cert_alt": "rsa"}, "@entity", "all or none of these fields must be set: 'cert_alt', 'key_alt'"),
        ({"cert": "ec", "key": "ec", "cert_alt": "rsa", "key_alt": "ec"}, "@entity", "alternative certificate does not match key"),
        ({"cert": "ec", "key": "ec", "cert_alt": "other", "key_alt": "other"}, "@entity", DIFFERENT),
        ({"cert": "key of ec", "key": "ec"}, "cert", "belongs into the field 'key'"),
        ({"cert": "ec", "key": "ec", "snis": ["a.test", "b.test", "a.test"]}, "snis", "a.test is duplicated"),
        ({"cert": "ec", "key": "ec", "snis": [f"{n}.test" for n in range(1001)]}, "snis", "at most 1000 names"),
        ({"cert": "ec", "key": "ec", "snis": ["*.a.*"]}, "snis", "only one wildcard must be specified"),
        ({"cert": "ec", "key": reference(str(uuid4()), "key")}, "key", "send the key itself"),
    ],
)  # fmt: skip
def test_wrong_certificates_are_refused_by_field(
    gateway: Gateway, pairs: dict[str, Certificate], body: Json, field: str, words: str
) -> None:
    given = {}
    for name, value in body.items():
        made = pairs.get(str(value).removeprefix("key of "))
        private = name.startswith("key") or str(value).startswith("key of ")
        given[name] = value if made is None else made.private if private else made.cert
    found = gateway.post("/certificates", 400, **given)
    assert field in found["fields"] and words in str(found["fields"][field]), found
    assert gateway.call("GET", "/certificates")["data"] == []
    assert gateway.call("GET", "/snis")["data"] == []


@pytest.mark.parametrize("fault", ["critical", "algorithms", "unique id"])
def test_a_certificate_that_workers_cannot_serve_is_refused_with_the_repair(
    gateway: Gateway, pairs: dict[str, Certificate], tmp_path: Path, fault: str
) -> None:
    wrong, before = unservable(tmp_path / "wrong", fault), list(gateway.publisher.calls)
    for field, body in (("cert", pair(wrong)), ("cert_alt", {**pair(pairs["rsa"]), **alt(wrong)})):
        found = gateway.post("/certificates", 400, **body, snis=["a.test"])
        assert found["code"] == 2 and found["name"] == "schema violation" and set(found["fields"]) == {field}
        assert found["fields"][field].startswith("invalid certificate: the first certificate ")
        assert ": have it issued " in found["fields"][field]
        assert gateway.call("POST", "/schemas/certificates/validate", 400, json=body)["fields"] == found["fields"]
    assert gateway.call("GET", "/certificates")["data"] == gateway.call("GET", "/snis")["data"] == []
    assert gateway.publisher.calls == before
    made = gateway.post("/certificates", **pair(pairs["ec"], snis=["a.test"]))
    gateway.call("PATCH", f"/certificates/{made['id']}", 400, json=pair(wrong))
    gateway.call("PUT", "/certificates/a.test", 400, json=pair(wrong))
    assert gateway.call("GET", "/certificates")["data"] == [made]


def test_a_certificate_of_an_earlier_version_that_workers_cannot_serve_stays_and_can_be_replaced(
    gateway: Gateway, pairs: dict[str, Certificate], tmp_path: Path
) -> None:
    made = gateway.post("/certificates", **pair(pairs["ec"], snis=["a.test"]))
    wrong = unservable(tmp_path / "wrong", "critical").cert
    gateway.close()
    with sqlite3.connect(tmp_path / "store.db") as store:
        store.execute("UPDATE certificates SET body = json_set(body, '$.cert', ?)", [wrong])
    store.close()
    gateway.open()
    (kept,) = gateway.call("GET", "/certificates")["data"]
    assert (kept["cert"], kept["id"]) == (wrong, made["id"])
    assert gateway.post("/consumers", username="alice")["username"] == "alice"
    again = gateway.call("PUT", "/certificates/a.test", 400, json={"cert": wrong, "key": pairs["ec"].private})
    assert set(again["fields"]) == {"cert"}
    assert gateway.call("PATCH", "/certificates/a.test", json=pair(pairs["other"]))["cert"] == pairs["other"].cert
    assert served(gateway) == [(["a.test"], [pairs["other"].private])]


def test_a_reference_sent_back_keeps_the_key_and_publishes_nothing(
    gateway: Gateway, pairs: dict[str, Certificate]
) -> None:
    made = gateway.post("/certificates", **pair(pairs["rsa"], snis=["a.test"]), **alt(pairs["ec"]))
    path, before = f"/certificates/{made['id']}", list(gateway.publisher.calls)
    for body in (made, {**made, **pair(pairs["rsa"])}):
        assert gateway.call("PUT", path, 200, json=body) == made
    assert gateway.call("PATCH", path, json={}) == made
    assert gateway.call("POST", "/schemas/certificates/validate", 200, json=made)
    assert gateway.publisher.calls == before
    assert gateway.call("PATCH", path, json={"tags": ["t"]})["tags"] == ["t"]
    assert served(gateway) == [(["a.test"], [pairs["rsa"].private, pairs["ec"].private])]
    wrong = gateway.call("PATCH", path, 400, json={"cert": pairs["other"].cert})
    assert wrong["fields"]["@entity"] == ["certificate does not match key"]
    for key in (reference(str(uuid4()), "key"), reference(made["id"], "key_alt"), "{vault://env/KEY}"):
        assert "key" in gateway.call("PUT", path, 400, json={**made, "key": key})["fields"]
    changed = gateway.call("PATCH", path, json=pair(pairs["other"], cert_alt=None, key_alt=None))
    assert (changed["key"], changed["cert"], changed["key_alt"]) == (made["key"], pairs["other"].cert, None)
    assert served(gateway) == [(["a.test"], [pairs["other"].private])]


def test_keys_are_shown_where_the_setting_says_so(showing: Gateway, pairs: dict[str, Certificate]) -> None:
    events: list[tuple[str, Json]] = []
    showing.close()
    showing.log = lambda event, /, **facts: events.append((event, facts))
    showing.open()
    made = showing.post("/certificates", **pair(pairs["rsa"]), **alt(pairs["ec"]))
    assert (made["key"], made["key_alt"]) == (pairs["rsa"].private, pairs["ec"].private)
    assert showing.call("GET", "/certificates")["data"] == [made]
    assert events[-1][0] == "keys_shown" and events[-1][1].items() >= {"path": "/certificates", "keys": 2}.items()
    showing.close()
    hidden = Gateway(showing.data).open()
    assert hidden.call("GET", f"/certificates/{made['id']}")["key"] == reference(made["id"], "key")
    hidden.close()


def test_a_put_by_name_makes_the_name(gateway: Gateway, pairs: dict[str, Certificate]) -> None:
    made = gateway.call("PUT", "/certificates/n1.test", 200, json=pair(pairs["ec"], snis=["n2.test"]))
    assert made["snis"] == ["n1.test", "n2.test"]
    again = gateway.call("PUT", "/certificates/n2.test", 200, json=pair(pairs["ec"], snis=["n2.test"]))
    assert (again["id"], again["snis"]) == (made["id"], ["n2.test"])
    assert gateway.call("PUT", f"/certificates/{made['id']}", 200, json=pair(pairs["ec"]))["snis"] == []
    assert served(gateway) == []
    gateway.call("PATCH", f"/certificates/{made['id']}", json={"snis": ["n3.test"]})
    assert gateway.call("PATCH", "/certificates/n3.test", json={"tags": ["a"]})["snis"] == ["n3.test"]
    gateway.call("PATCH", "/certificates/absent.test", 404, json={"tags": ["a"]})


def test_a_name_belongs_to_one_certificate(gateway: Gateway, pairs: dict[str, Certificate]) -> None:
    one = gateway.post("/certificates", **pair(pairs["ec"], snis=["a.test"]))
    taken = gateway.post("/certificates", 400, **pair(pairs["rsa"], snis=["b.test", "a.test"]))
    assert taken["fields"] == {"snis": f"a.test already associated with existing certificate '{one['id']}'"}
    assert gateway.call("GET", "/snis/b.test", 404)
    other = gateway.post("/certificates", **pair(pairs["rsa"]))
    clash = gateway.post("/snis", 409, name="a.test", certificate={"id": other["id"]})
    assert (clash["code"], clash["fields"]) == (5, {"name": "a.test"})
    gateway.post("/certificates/a.test/snis", 409, name="a.test")
    moved = gateway.call("PATCH", "/snis/a.test", json={"certificate": {"id": other["id"]}})
    assert moved["certificate"] == {"id": other["id"]}
    assert served(gateway) == [(["a.test"], [pairs["rsa"].private])]
    missing = gateway.post("/snis", 400, name="c.test", certificate={"id": str(uuid4())})
    assert missing["code"] == 4


def test_names_of_one_certificate_are_looked_up_at_once(gateway: Gateway, pairs: dict[str, Certificate]) -> None:
    taken = gateway.post("/certificates", **pair(pairs["ec"], snis=["taken.test"]))
    asked: list[str] = []

    def note(*arguments: Any) -> None:
        asked.append(arguments[2])

    with only_here(sa.Engine, "before_cursor_execute", note):
        names = [*(f"{n}.test" for n in range(999)), "taken.test"]
        refused = gateway.post("/certificates", 400, **pair(pairs["rsa"], snis=names))
    assert refused["fields"]["snis"].endswith(f"already associated with existing certificate '{taken['id']}'")
    assert sum("FROM snis" in query for query in asked) == 1


@contextlib.contextmanager
def only_here(target: Any, name: str, listener: Callable[..., None]) -> Iterator[None]:
    """Listens to events of SQLAlchemy."""
    sa.event.listen(target, name, listener)
    try:
        yield
    finally:
        sa.event.remove(target, name, listener)


@pytest.mark.parametrize("name", ["a.test", "*.a.test", "a.*", "*", "A.Test", "sni1", "a_b.test"])
def test_names_of_every_form_are_kept_as_given(gateway: Gateway, pairs: dict[str, Certificate], name: str) -> None:
    made = gateway.post("/certificates", **pair(pairs["ec"], snis=[name]))
    path = f"/snis/{quote(name, safe='')}"
    sni = gateway.call("GET", path)
    assert (sni["name"], sni["certificate"]["id"]) == (name, made["id"])
    assert served(gateway)[0][0] == [name.lower()]
    gateway.call("DELETE", path, 204)
    assert served(gateway) == [] and gateway.call("GET", f"/certificates/{made['id']}")["snis"] == []


def test_names_that_differ_in_letter_case_are_one_name(gateway: Gateway, pairs: dict[str, Certificate]) -> None:
    made = gateway.post("/certificates", **pair(pairs["ec"], snis=["Shop.test"]))
    other = gateway.post("/certificates", **pair(pairs["rsa"]))
    for name in ("shop.test", "SHOP.test"):
        assert gateway.post("/snis", 409, name=name, certificate={"id": other["id"]})["code"] == 5
        assert gateway.call("PATCH", f"/certificates/{other['id']}", 400, json={"snis": [name]})["fields"][
            "snis"
        ].endswith(f"already associated with existing certificate '{made['id']}'")
        assert gateway.call("GET", f"/snis/{name}")["name"] == "Shop.test"
        assert gateway.call("GET", f"/certificates/{name}")["id"] == made["id"]
    twice = gateway.call("PATCH", f"/certificates/{made['id']}", 400, json={"snis": ["a.test", "A.test"]})
    assert twice["fields"]["snis"] == "A.test is duplicated"
    before = gateway.call("GET", "/snis/shop.test")
    changed = gateway.call("PATCH", f"/certificates/{made['id']}", json={"snis": ["shop.TEST"]})
    after = gateway.call("GET", "/snis/shop.test")
    assert (changed["snis"], after["name"], after["id"]) == (["shop.TEST"], "shop.TEST", before["id"])
    assert served(gateway)[0][0] == ["shop.test"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("*.a.*", "only one wildcard must be specified"),
        ("a.*.b", "wildcard must be leftmost or rightmost character"),
        ("*a.test", "wildcard must be leftmost or rightmost character"),
        ("1.2.3.4", "must not be an IP"),
        ("::1", "must not be an IP"),
        ("a.test:443", "must not have a port"),
        ("a b", "invalid value: a b"),
        ("a.test.", "invalid value: a.test."),
        ("", "length must be at least 1"),
    ],
)
def test_wrong_names_are_refused(gateway: Gateway, pairs: dict[str, Certificate], name: str, words: str) -> None:
    made = gateway.post("/certificates", **pair(pairs["ec"]))
    assert gateway.post("/snis", 400, name=name, certificate={"id": made["id"]})["fields"] == {"name": words}


def test_a_deleted_certificate_takes_its_names_and_one_in_use_stays(
    gateway: Gateway, pairs: dict[str, Certificate]
) -> None:
    made = gateway.post("/certificates", **pair(pairs["ec"], snis=["a.test", "b.test"]))
    link = {"id": made["id"]}
    service = gateway.post("/services", name="s", url="https://far.test", client_certificate=link)
    assert service["client_certificate"] == link
    assert gateway.call("GET", "/services/s/client_certificate") == made
    assert [s["id"] for s in gateway.call("GET", f"/certificates/{made['id']}/services")["data"]] == [service["id"]]
    kept = gateway.call("DELETE", f"/certificates/{made['id']}", 400)
    assert (kept["code"], kept["fields"]) == (4, {"@referenced_by": "services"})
    assert gateway.call("GET", "/certificates/a.test") == made
    gateway.call("PATCH", "/services/s", json={"client_certificate": None})
    gateway.call("DELETE", "/certificates/a.test", 204)
    gateway.call("DELETE", "/certificates/a.test", 404)
    assert gateway.call("GET", "/snis")["data"] == [] and served(gateway) == []


def test_a_service_shows_its_certificate_and_trusts_its_authorities(
    gateway: Gateway, pairs: dict[str, Certificate]
) -> None:
    authorities = [gateway.post("/ca_certificates", cert=pairs[kind].cert)["id"] for kind in ("other", "rsa")]
    own = gateway.post("/certificates", **pair(pairs["ec"]))["id"]
    gateway.post("/services", name="plain", url="https://far.test")
    gateway.post(
        "/services", name="s", url="https://far.test", ca_certificates=authorities, client_certificate={"id": own}
    )
    plain, service = gateway.publisher.policy["services"]
    assert "tls" not in plain
    assert service["tls"]["ca"] == pairs["other"].cert + pairs["rsa"].cert
    assert service["tls"]["cert"] == pairs["ec"].cert
    assert gateway.publisher.unseal(service["tls"]["key"]).decode() == pairs["ec"].private
    gateway.call("PATCH", f"/certificates/{own}", json=pair(pairs["other"]))
    assert gateway.publisher.policy["services"][1]["tls"]["cert"] == pairs["other"].cert
    used = gateway.call("DELETE", f"/ca_certificates/{authorities[0]}", 400)
    assert (used["code"], used["name"]) == (19, "referenced by others")
    assert used["message"].startswith(f"ca certificate {authorities[0]} is still referenced by services (id = ")
    gateway.call("PATCH", "/services/s", json={"ca_certificates": None, "client_certificate": None})
    gateway.call("DELETE", f"/ca_certificates/{authorities[0]}", 204)
    assert "tls" not in gateway.publisher.policy["services"][1]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"url": "https://h", "client_certificate": {"id": str(uuid4())}}, "client_certificate", "id"),
        ({"url": "https://h", "ca_certificates": [str(uuid4())]}, "ca_certificates", "there is no CA certificate"),
        ({"url": "https://h", "ca_certificates": ["x"]}, "ca_certificates", "expected a valid UUID"),
        ({"url": "https://h", "tls_verify_depth": 2}, "tls_verify_depth", "not supported"),
        ({"url": "http://h", "ca_certificates": [str(uuid4())]}, "ca_certificates", "value must be null"),
        ({"url": "http://h", "client_certificate": {"id": str(uuid4())}}, "@entity", "failed conditional validation"),
    ],
)
def test_wrong_certificates_of_services_are_refused(gateway: Gateway, body: Json, field: str, words: str) -> None:
    found = gateway.post("/services", 400, **body)
    assert field in found["fields"] and words in str(found["fields"][field]), found


def test_ca_certificates_are_known_by_their_digest(gateway: Gateway, pairs: dict[str, Certificate]) -> None:
    made = gateway.post("/ca_certificates", cert=pairs["rsa"].cert, tags=["a"])
    assert set(made) == {"id", "created_at", "updated_at", "cert", "cert_digest", "tags"}
    assert len(made["cert_digest"]) == 64
    path = f"/ca_certificates/{made['id']}"
    assert gateway.call("GET", path) == made and gateway.call("GET", "/ca_certificates?tags=a")["data"] == [made]
    clash = gateway.post("/ca_certificates", 409, cert=pairs["rsa"].cert)
    assert clash["fields"] == {"cert_digest": made["cert_digest"]}
    assert gateway.call("PUT", path, 200, json=made) == made
    changed = gateway.call("PATCH", path, json={"cert": pairs["ec"].cert})
    assert changed["cert_digest"] != made["cert_digest"]
    gateway.call("GET", "/ca_certificates/name", 404)
    gateway.call("DELETE", path, 204)


@pytest.mark.parametrize(
    ("names", "field", "words"),
    [
        ([], "cert", "required field missing"),
        (["bar"], "cert", "invalid certificate"),
        (["rsa", "ec"], "@entity", "please submit only one certificate at a time"),
        (["leaf"], "@entity", 'it is missing the "CA" basic constraint'),
        ([ENDED], "@entity", '"Not After" time is in the past'),
        (
            ["rsa", "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n"],
            "cert",
            "must hold certificates only",
        ),
    ],
)
def test_wrong_ca_certificates_are_refused(
    gateway: Gateway, pairs: dict[str, Certificate], names: list[str], field: str, words: str
) -> None:
    text = "".join(pairs[name].cert if name in pairs else name for name in names)
    found = gateway.post("/ca_certificates", 400, **({"cert": text} if names else {}))
    assert field in found["fields"] and words in str(found["fields"][field]), found


def test_forms_and_schemas_know_certificates(gateway: Gateway, pairs: dict[str, Certificate]) -> None:
    form = {"cert": pairs["ec"].cert, "key": pairs["ec"].private, "snis[]": ["a.test", "b.test"]}
    assert gateway.call("POST", "/certificates", 201, data=form)["snis"] == ["a.test", "b.test"]
    for name in ("certificates", "snis", "ca_certificates", "tags"):
        assert gateway.call("GET", f"/schemas/{name}")["fields"]
    gateway.call("PATCH", "/snis/a.test", json={"tags": ["shop"]})
    assert [one["entity_name"] for one in gateway.call("GET", "/tags/shop")["data"]] == ["snis"]
