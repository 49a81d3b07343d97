"""Stores of older revisions: a migration keeps their entities, and these belong to the Admin API."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from aigw.control.store import tables
from aigw.control.store.database import Store
from conftest import Gateway

CONSUMER, KEY, SERVICE = (f"{i}0000000-0000-4000-8000-000000000001" for i in (1, 2, 3))


def at_revision(path: Path, revision: str) -> None:
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_a_store_of_the_first_release_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    at_revision(path, "0001")
    old = sqlite3.connect(path)
    with old:
        old.execute("INSERT INTO meta VALUES ('store_id', '00000000-0000-4000-8000-00000000000a')")
        old.executemany(
            "INSERT INTO row_numbers (kind, id, n) VALUES (?, ?, ?)",
            [("consumers", CONSUMER, 7), ("keyauth_credentials", KEY, 3), ("services", SERVICE, 1)],
        )
        old.execute("INSERT INTO columns (n, kind, key) VALUES (4, 'dense', 'requests:-,-:consumer:minute')")
        body = f'{{"id":"{CONSUMER}","created_at":1,"updated_at":1,"username":"bob","custom_id":null,"tags":["x"]}}'
        old.execute("INSERT INTO consumers VALUES (?, 7, 'bob', NULL, ?)", (CONSUMER, body))
        old.execute("INSERT INTO tags VALUES ('consumers', ?, 'x')", (CONSUMER,))
        body = (
            f'{{"id":"{KEY}","created_at":1,"consumer":{{"id":"{CONSUMER}"}},"key":null,"key_hint":"...","tags":null,'
            '"ttl":null}'
        )
        old.execute("INSERT INTO keyauth_credentials VALUES (?, 3, ?, ?, 0, ?)", (KEY, CONSUMER, b"h" * 32, body))
    old.close()

    gateway = Gateway(tmp_path).open()
    try:
        assert gateway.publisher.store_id == "00000000-0000-4000-8000-00000000000a"
        assert gateway.publisher.consumers == {7: (7, CONSUMER, "bob", None, [], 0, [])}
        assert gateway.publisher.credentials == {3: (3, KEY, 7, b"h" * 32, 0)}
        assert gateway.call("GET", "/consumers?tags=x")["data"][0]["username"] == "bob"
        gateway.post("/consumer_groups", name="gold")
        gateway.post("/consumers/bob/consumer_groups", group="gold")
        assert gateway.publisher.consumers[7].tier == 1
        gateway.call("PATCH", "/consumers/bob", json={"custom_id": "c"})
        bob = gateway.publisher.consumers[7]
        assert (bob.custom_id, bob.refs, bob.tier) == ("c", [], 1)
        gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 1})
        assert 4 in gateway.publisher.columns
    finally:
        gateway.close()
    Store(path).close()


def test_of_server_names_that_differ_in_letter_case_the_oldest_stays(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    at_revision(path, "0006")
    old = sqlite3.connect(path)
    with old:
        old.execute("INSERT INTO certificates VALUES ('c', '{}', NULL)")
        for key, name, made in (("1", "a.test", 2), ("2", "A.test", 1), ("3", "B.test", 3)):
            body = f'{{"id":"{key}","created_at":{made},"name":"{name}"}}'
            old.execute("INSERT INTO snis (id, name, certificate, body) VALUES (?, ?, 'c', ?)", (key, name, body))
            old.execute("INSERT INTO tags VALUES ('snis', ?, 'x')", (key,))
    at_revision(path, "0007")
    assert old.execute("SELECT id, name FROM snis ORDER BY id").fetchall() == [("2", "a.test"), ("3", "b.test")]
    assert old.execute("SELECT id FROM tags ORDER BY id").fetchall() == [("2",), ("3",)]
    old.close()
