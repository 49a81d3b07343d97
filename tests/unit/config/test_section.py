"""A file around a known section of consumers: it reads as the whole file does, whatever stands before and behind."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigw.config import ConfigErrors, File, Known, Section, read_text, section

NAMES = [f"c{n}" for n in range(3)]
CONSUMERS = "consumers:\n" + "".join(
    f"- {{username: {name}, tier: {tier}, keyauth_credentials: [{{key: key-of-consumer-{name}}}]}}\n"
    for name, tier in zip(NAMES, ("free", "pro", "free"), strict=True)
)
FIRST = f"tiers: {{free: {{}}, pro: {{}}}}\n{CONSUMERS}"
PIECES = [
    "tiers: {free: {}, pro: {}}\n",
    "tiers:\n  free: {limits: [{requests: 5, per: day}]}\n  pro: {}\n  new: {}\n",
    "tiers: {free: {}}\n",
    "tiers: {free: {}, pro: {}, wrong: {limit: 1}}\n",
    "tiers: {free: {}, pro: {allow: {models: [none]}}}\n",
    "default_tier: free\n",
    "default_tier: gold\n",
    "plugins: [{name: acl, consumer: c1, config: {allow: [g]}}]\n",
    "plugins: [{name: rate-limiting, consumer: c1, config: {minute: 5}}]\n",
    "plugins: [{name: rate-limiting, consumer: nobody, config: {minute: 5}}]\n",
    "services:\n- {name: s, host: h, routes: [{name: r, paths: [/r]}]}\n",
    "models: {m: {upstreams: [{url: 'http://127.0.0.1:1/v1', api_key: '${KEY}'}]}}\n",
    "- {username: late}\n",
    "  - {username: late}\n",
    "# consumers:\n",
    "\n",
    "consumers: []\n",
    "x: |\n  text\n",
    "_info: {select_tags: ['\n",
    "']}\n",
    "_info: {select_tags: [a,\n",
    "]}\n",
    "{\n",
    "}\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n---\n",
    "_info: &a {}\n",
    "v1: *a\n",
    "? ",
    "  ",
]


@pytest.fixture(autouse=True)
def any_length() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(section, "AT_LEAST", 1)
        yield


def whole(text: str) -> File:
    return read_text("f.yaml", text.encode(), {"KEY": "of-the-fleet"})


def known(found: Section) -> Known:
    return Known(found.length, found.nodes, found.tiers, found.digest.__eq__, NAMES.__contains__)


def around(text: str) -> File:
    first = whole(FIRST).section
    assert first is not None
    return read_text("f.yaml", text.encode(), {"KEY": "of-the-fleet"}, known=known(first))


def said(read: "type[object] | object", text: str) -> object:
    """Everything that a file says except its consumers, or everything that is wrong with it."""
    try:
        file: File = read(text)  # type: ignore[operator]
    except ConfigErrors as error:
        return [finding.as_dict() for finding in error.findings], error.rendered()
    assert file.section is None or (
        text.encode()[: text.find("\nconsumers:") + 1].count(b"\n") + 1 == file.section.line
    )
    return replace(file, consumers=None, document=None, section=None, keeps_consumers=False)  # type: ignore[arg-type]


def test_a_file_with_the_same_section_is_read_around_it() -> None:
    file = around(
        f"tiers: {{free: {{limits: [{{requests: 5, per: day}}]}}, pro: {{}}}}\n\n{CONSUMERS}default_tier: free\n"
    )
    assert file.keeps_consumers and file.consumers.count("consumers") == 0 and file.default_tier == "free"
    assert file.section is not None and (file.section.line, file.section.tiers) == (3, ("free", "pro"))


@pytest.mark.parametrize(
    "text",
    [
        FIRST.replace("key-of-consumer-c1", "key-of-consumer-cx"),
        FIRST.replace("consumers:", "consumers: # known\n"),
        FIRST + "- {username: late}\n",
        f"tiers: {{free: {{}}}}\n{CONSUMERS}consumer_groups: [{{name: pro}}]\ndefault_tier: free\n".replace(
            "pro}]", "gold}]"
        ),
    ],
)
def test_another_section_is_read_whole(text: str) -> None:
    assert said(around, text) == said(whole, text)
    with suppress(ConfigErrors):
        assert not around(text).keeps_consumers


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=4), st.lists(st.sampled_from(PIECES), max_size=4))
@example(["tiers: {free: {}, pro: {}}\n"], ["  - {username: late}\n"])
@example(["tiers: {free: {}, pro: {}}\n", "_info: {select_tags: ['\n"], ["']}\n"])
@example(["tiers: {free: {}}\n"], [])
@example(["tiers: {free: {}, pro: {}}\n"], ["plugins: [{name: rate-limiting, consumer: c1, config: {minute: 5}}]\n"])
@example(["tiers: {free: {}, pro: {}}\n", "_info: &a {}\n"], ["v1: *a\n"])
def test_every_file_reads_as_the_whole(head: list[str], tail: list[str]) -> None:
    text = "".join([*head, CONSUMERS, *tail])
    assert said(around, text) == said(whole, text)


@pytest.mark.parametrize(
    "consumers",
    [
        CONSUMERS.replace("key-of-consumer-c1", "'${KEY}'"),
        CONSUMERS.replace("key-of-consumer-c1", "short"),
        CONSUMERS.replace("tier: pro", "tier: pro, plugins: [{name: rate-limiting, config: {minute: 5}}]"),
        CONSUMERS.replace("tier: pro", "tier: &t pro"),
        CONSUMERS.replace("tier: pro", "tier: !!str pro"),
        CONSUMERS.replace("key-of-consumer-c1", '"\\x24{KEY}"'),
    ],
)
def test_a_section_that_says_more_than_its_consumers_is_not_known(consumers: str) -> None:
    assert whole(FIRST).section is not None
    assert whole(FIRST.replace(CONSUMERS, consumers)).section is None


def test_json_has_no_section() -> None:
    text = json.dumps({"tiers": {"free": {}}, "consumers": [{"username": "a", "tier": "free"}]}, indent=0)
    assert whole(text).section is None


def test_small_sections_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(section, "AT_LEAST", len(CONSUMERS) + 1)
    assert whole(FIRST).section is None
