"""Certificates, SNIs and CA certificates of a file: found faults with their places, declared, compared and dumped; no key is ever shown."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigw.cli.yaml_writer import to_yaml
from aigw.config import ConfigErrors, read_text
from aigw.entities.certificate import reference
from conftest import Gateway
from tests.support.certificates import Certificate, certificate, unservable

Json = dict[str, Any]
YAML = {"Content-Type": "application/yaml"}
OWN, CA = "6f4c1f9a-3c6e-4c52-9c55-51c8b1a2f001", "6f4c1f9a-3c6e-4c52-9c55-51c8b1a2f002"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    folder = tmp_path_factory.mktemp("made")
    return {name: certificate(folder / name, kind=kind) for name, kind in (("ec", "ec"), ("rsa", "rsa"), ("new", "ec"))}


def whole(made: dict[str, Certificate]) -> Json:
    """A file as decK writes it, with a second pair and an SNI outside of its certificate."""
    ec, rsa = made["ec"], made["rsa"]
    return {
        "_format_version": "3.0",
        "certificates": [
            {"id": OWN, "cert": rsa.cert, "key": rsa.private, "cert_alt": ec.cert, "key_alt": ec.private, "tags": ["a"],
             "snis": [{"name": "a.test"}, {"name": "*.b.test", "tags": ["b"]}]},
            {"cert": ec.cert, "key": ec.private},
        ],
        "snis": [{"name": "c.test", "certificate": OWN}],
        "ca_certificates": [{"id": CA, "cert": ec.cert}, {"cert": rsa.cert}],
        "services": [{"name": "s", "url": "https://far.test", "client_certificate": OWN, "ca_certificates": [CA]}],
    }  # fmt: skip


def load(gateway: Gateway, file: Json, expect: int | None = 201) -> Any:
    return gateway.call("POST", "/config", expect, content=yaml.safe_dump(file, width=10_000), headers=YAML)


def served(gateway: Gateway) -> list[tuple[list[str], list[str]]]:
    found = (gateway.publisher.policy or {}).get("certificates", [])
    return [(one["names"], [gateway.publisher.unseal(p["key"]).decode() for p in one["pairs"]]) for one in found]


def test_a_file_is_in_force_and_a_dump_gives_it_back(gateway: Gateway, made: dict[str, Certificate]) -> None:
    load(gateway, whole(made))
    keys = [made["rsa"].private, made["ec"].private]
    assert served(gateway) == [(["*.b.test", "a.test", "c.test"], keys)]
    assert gateway.publisher.policy["services"][0]["tls"]["ca"] == made["ec"].cert
    dumped = yaml.safe_load(gateway.client.get("/config").text)
    first = next(one for one in dumped["certificates"] if one["id"] == OWN)
    assert (first["key"], first["key_alt"]) == (reference(OWN, "key"), reference(OWN, "key_alt"))
    assert first["snis"] == [{"name": "*.b.test", "tags": ["b"]}, {"name": "a.test"}, {"name": "c.test"}]
    assert dumped["services"][0]["client_certificate"] == OWN and dumped["services"][0]["ca_certificates"] == [CA]
    assert {one["cert"] for one in dumped["ca_certificates"]} == {made["ec"].cert, made["rsa"].cert}
    changes = gateway.call("POST", "/config/diff", content=yaml.safe_dump(dumped), headers=YAML)["changes"]
    assert changes == []
    before = gateway.publisher.policy
    load(gateway, dumped)
    assert gateway.publisher.policy == before and yaml.safe_load(gateway.client.get("/config").text) == dumped


def test_entities_of_the_file_are_read_only(gateway: Gateway, made: dict[str, Certificate]) -> None:
    load(gateway, whole(made))
    gateway.call("PATCH", f"/certificates/{OWN}", 409, json={"tags": ["x"]})
    for path in ("/snis/a.test", f"/certificates/{OWN}", f"/ca_certificates/{CA}"):
        gateway.call("DELETE", path, 400 if path.startswith("/ca") else 409)
    added = gateway.post(f"/certificates/{OWN}/snis", name="d.test")
    assert served(gateway)[0][0] == ["*.b.test", "a.test", "c.test", "d.test"]
    load(gateway, {"_format_version": "3.0"})
    assert gateway.call("GET", f"/snis/{added['id']}", 404)
    assert served(gateway) == [] and gateway.call("GET", "/certificates")["data"] == []


def test_a_changed_key_is_told_and_not_shown(gateway: Gateway, made: dict[str, Certificate]) -> None:
    file = {
        "certificates": [{"id": OWN, "cert": made["ec"].cert, "key": made["ec"].private, "snis": [{"name": "a.test"}]}]
    }
    load(gateway, file)
    file["certificates"][0] |= {"cert": made["new"].cert, "key": made["new"].private}
    (change,) = gateway.call("POST", "/config/diff", content=yaml.safe_dump(file), headers=YAML)["changes"]
    assert (change["kind"], change["action"]) == ("certificate", "updated")
    fields = {one["field"]: (one["before"], one["after"]) for one in change["fields"]}
    assert fields["key"] == ("***", "***") and fields["cert"][0] != fields["cert"][1]
    load(gateway, file)
    history = gateway.call("GET", "/config/history")
    lines = history["data"][0]["lines"]
    assert len(lines) == 1 and "key changed" in lines[0] and "BEGIN" not in lines[0]
    assert served(gateway) == [(["a.test"], [made["new"].private])]
    told = json.dumps(history)
    assert "PRIVATE" not in told and made["new"].private.splitlines()[1] not in told


def test_keys_of_references_come_back_in_the_dump(
    gateway: Gateway, made: dict[str, Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIR_KEY", made["ec"].private)
    chain = f"${{file:{made['ec'].chain}}}"
    load(gateway, {"certificates": [{"cert": chain, "key": "${PAIR_KEY}", "snis": [{"name": "a.test"}]}]})
    dumped = yaml.safe_load(gateway.client.get("/config").text)
    assert dumped["certificates"][0]["key"] == "${PAIR_KEY}"
    assert served(gateway) == [(["a.test"], [made["ec"].private])]


def test_a_reference_needs_a_stored_key(gateway: Gateway, made: dict[str, Certificate]) -> None:
    file = {"certificates": [{"id": OWN, "cert": made["ec"].cert, "key": reference(OWN, "key")}]}
    found = load(gateway, file, 400)
    (error,) = found["errors"]
    assert "leads to no key in the store" in error["message"] and error["path"] == "certificates[0].key"
    kept = gateway.post("/certificates", cert=made["ec"].cert, key=made["ec"].private)
    file["certificates"][0] |= {"key": reference(kept["id"], "key"), "snis": [{"name": "a.test"}]}
    load(gateway, file)
    assert served(gateway) == [(["a.test"], [made["ec"].private])]
    file["certificates"][0]["cert"] = made["new"].cert
    assert "certificate does not match key" in json.dumps(load(gateway, file, 400))


def test_keys_of_the_file_are_never_shown(tmp_path: Path, made: dict[str, Certificate]) -> None:
    gateway = Gateway(tmp_path, shows_keys=True).open()
    try:
        load(gateway, {"certificates": [{"id": OWN, "cert": made["ec"].cert, "key": made["ec"].private}]})
        assert gateway.call("GET", f"/certificates/{OWN}")["key"] == reference(OWN, "key")
        assert "PRIVATE" not in gateway.client.get("/certificates").text + gateway.client.get("/config").text
    finally:
        gateway.close()


def test_a_dump_has_certificates_as_lines(gateway: Gateway, made: dict[str, Certificate]) -> None:
    load(gateway, whole(made))
    dumped = gateway.call("GET", "/config")
    text = to_yaml(dumped)
    assert "    cert: |\n      -----BEGIN CERTIFICATE-----\n" in text
    assert yaml.safe_load(text) == dumped


def errors(file: Json | str, folder: Path = Path()) -> str:
    text = file if isinstance(file, str) else yaml.safe_dump(file, width=10_000)
    with pytest.raises(ConfigErrors) as found:
        read_text("f.yaml", text.encode(), {}, folder)
    shown = found.value.rendered()
    assert "PRIVATE KEY" not in shown
    return shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": None}, "certificates[0].key: required field missing"),
        ({"cert": "bar"}, "certificates[0].cert: invalid certificate: there is no certificate in PEM form"),
        ({"key": "foo"}, "certificates[0].key: invalid key: there is no private key in PEM form"),
        ({"key": "other"}, "certificates[0]: certificate does not match key"),
        ({"id": "x"}, "certificates[0].id: expected a valid UUID"),
        ({"snis": [{"name": "*.*"}]}, "snis[0].name: only one wildcard"),
        ({"snis": [{"name": "a.test"}, {"name": "a.test"}]}, "the name 'a.test' stands twice: first in line"),
        ({"snis": ["a.test"]}, "snis[0]: expected a record"),
        ({"keys": "x"}, "unknown field"),
    ],
)
def test_faults_of_a_certificate_are_told_with_their_place(
    made: dict[str, Certificate], change: Json, words: str
) -> None:
    item = {"cert": made["ec"].cert, "key": made["ec"].private, **change}
    item["key"] = made["new"].private if item["key"] == "other" else item["key"]
    shown = errors({"certificates": [{k: v for k, v in item.items() if v is not None}]})
    assert words in shown and shown.startswith("f.yaml:"), shown
    assert all(line not in shown for line in made["ec"].private.splitlines()[1:-1])


def test_a_certificate_that_workers_cannot_serve_is_a_finding_with_its_place(
    gateway: Gateway, made: dict[str, Certificate], tmp_path: Path
) -> None:
    wrong = unservable(tmp_path / "wrong", "critical")
    item = {"id": OWN, "cert": wrong.cert, "key": wrong.private}
    words = "certificates[0].cert: invalid certificate: the first certificate has a critical extension that the gateway does not know"
    for one in (item, {**item, "key": reference(OWN, "key")}):
        shown = errors({"certificates": [one]})
        assert re.match(r"f\.yaml:\d+:\d+: ", shown) and words in shown, shown
    load(gateway, {"certificates": [{"id": OWN, "cert": made["ec"].cert, "key": made["ec"].private}]})
    (error,) = load(gateway, {"certificates": [item]}, 400)["errors"]
    assert (error["path"], error["line"] > 0) == ("certificates[0].cert", True)
    assert gateway.call("GET", f"/certificates/{OWN}")["cert"] == made["ec"].cert


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"snis": [{"name": "a", "certificate": OWN}]}, f"snis[0].certificate: there is no certificate with the id '{OWN}'"),
        ({"snis": [{"name": "a"}]}, "snis[0].certificate: required field missing"),
        ({"ca_certificates": [{"cert": "x"}]}, "ca_certificates[0].cert: invalid certificate"),
        ({"services": [{"name": "s", "url": "https://h", "client_certificate": OWN}]}, "client_certificate: there is no certificate"),
        ({"services": [{"name": "s", "url": "https://h", "ca_certificates": [OWN]}]}, "there is no CA certificate with the id"),
    ],
)  # fmt: skip
def test_dangling_references_are_told(file: Json, words: str) -> None:
    assert words in errors(file)


def test_certificates_that_stand_twice_are_told(made: dict[str, Certificate]) -> None:
    pair = {"cert": made["ec"].cert, "key": made["ec"].private}
    assert "the certificate stands twice: first in line" in errors({"certificates": [pair, dict(pair)]})
    assert "the certificate stands twice" in errors({"ca_certificates": [{"cert": made["ec"].cert}] * 2})


def test_no_line_of_a_key_is_shown_by_a_file_that_cannot_be_parsed(made: dict[str, Certificate]) -> None:
    key = "".join(f"    {line}\n" for line in made["rsa"].private.splitlines())
    for broken in (
        f"certificates:\n- cert: x\n  key: |\n{key}   }}: [\n",
        f'certificates:\n- key: |\n{key}  key_alt: "{key}',
    ):
        shown = errors(broken)
        assert all(line not in shown for line in made["rsa"].private.splitlines()[1:-1])


def test_an_authority_that_a_service_of_the_admin_api_trusts_stays(
    gateway: Gateway, made: dict[str, Certificate]
) -> None:
    load(gateway, {"ca_certificates": [{"id": CA, "cert": made["ec"].cert}]})
    gateway.post("/services", name="s", url="https://far.test", ca_certificates=[CA])
    refused = load(gateway, {"_format_version": "3.0"}, 400)
    assert f"the CA certificate {CA}" in refused["message"] and "services 's' of the Admin API" in refused["message"]
    gateway.call("DELETE", "/services/s", 204)
    load(gateway, {"_format_version": "3.0"})
    assert gateway.call("GET", "/ca_certificates")["data"] == []


def test_a_certificate_that_a_service_of_the_admin_api_shows_stays(
    gateway: Gateway, made: dict[str, Certificate]
) -> None:
    load(gateway, {"certificates": [{"id": OWN, "cert": made["ec"].cert, "key": made["ec"].private}]})
    gateway.post("/services", name="s", url="https://far.test", client_certificate={"id": OWN})
    assert "references it: remove that first" in load(gateway, {"_format_version": "3.0"}, 400)["message"]


LABEL = st.from_regex(r"[A-Za-z_]([A-Za-z0-9_-]{0,8}[A-Za-z0-9_])?", fullmatch=True)
NAME = st.one_of(
    st.just("*"),
    st.lists(LABEL, min_size=1, max_size=3).map(".".join),
    LABEL.map(lambda label: f"*.{label}"),
    LABEL.map(lambda label: f"{label}.*"),
)


@given(names=st.lists(st.tuples(NAME, st.booleans(), st.booleans()), max_size=5, unique_by=lambda one: one[0]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_set_of_names_comes_back_from_a_dump_and_is_served(
    gateway: Gateway, made: dict[str, Certificate], names: list[tuple[str, bool, bool]]
) -> None:
    """(name, whether it has a tag, whether it stands outside of its certificate)"""
    own = {"id": OWN, "cert": made["ec"].cert, "key": made["ec"].private}
    snis = [({"name": name, **({"tags": ["t"]} if tagged else {})}, apart) for name, tagged, apart in names]
    own["snis"] = [sni for sni, apart in snis if not apart]
    load(gateway, {"certificates": [own], "snis": [{**sni, "certificate": OWN} for sni, apart in snis if apart]}, None)
    wanted = sorted({name.lower() for name, *_ in names})
    assert [found for found, _ in served(gateway)] == ([wanted] if wanted else [])
    (dumped,) = (whole := yaml.safe_load(gateway.client.get("/config").text))["certificates"]
    assert dumped.get("snis", []) == sorted((sni for sni, _ in snis), key=lambda sni: sni["name"])
    before = gateway.publisher.policy
    load(gateway, whole, None)
    assert gateway.publisher.policy == before
