"""The tests of Kong's Go client, by group. In: the Admin API's URL. Out: a result for each test: `ok`, `skipped: reason`, `failed: reason`, or
`expected: reason` for a test that needs a part of Kong that aigw does not have. Each test is a process: a panic ends one test only."""

import os
import re
import subprocess
from collections.abc import Iterator
from typing import Final

import httpx2 as httpx

from tests.compat.kong.tools import Tools

GROUPS: Final = {
    "info": ("information_service", "client:TestRoot|TestRootJSON|TestListeners"),
    "status": ("client:TestKongStatus",),
    "services": ("service_service",),
    "routes": ("route_service",),
    "consumers": ("consumer_service",),
    "key-auth": ("key_auth_service",),
    "acl": ("acl_service",),
    "plugins": ("plugin_service",),
    "tags": ("tag_service",),
    "consumer groups": ("consumer_group", "consumer_group_consumer"),
    "upstreams": ("upstream_service", "upstream_node_health_service"),
    "targets": ("target_service",),
    "certificates": ("certificate_service", "ca_certificate_service"),
    "snis": ("sni_service",),
    "schemas": ("schema_service",),
    "errors": ("error",),
}
"""Group -> files of the client's tests, or `file:Test|Test`."""
PLUGINS: Final = "it makes plugins that aigw does not have: basic-auth, request-transformer, http-log"
BODY: Final = "it sets key_in_body of key-auth: aigw reads no keys in bodies"
LACKING: Final = {
    "TestRoutesRoute": "it makes a route for TLS streams (snis, destinations): aigw proxies HTTP only",
    "TestPluginsService": BODY,
    "TestPluginsWithInstanceNameService": BODY,
    "TestPluginListEndpoint": PLUGINS,
    "TestPluginListAllForEntityEndpoint": PLUGINS,
    "TestFillPluginDefaults": PLUGINS,
    "TestFillPluginDefaultsArbitraryMap": PLUGINS,
    "TestUpstreamWithUseSrvName": "it sets use_srv_name: aigw takes no ports from DNS",
    "TestUpstreamWithActiveUnHealthyInterval": "it sets active health checks: aigw checks passively",
}
"""Tests that must fail, with the reason."""
TIMEOUT_S: Final = 60
COLLECTIONS: Final = (
    "plugins", "key-auths", "acls", "routes", "services", "consumers", "consumer_groups", "snis", "certificates", "ca_certificates",
    "upstreams",
)  # fmt: skip


def run(tools: Tools, admin: str, wanted: str = "") -> Iterator[tuple[str, str, str]]:
    """(group, test, result) of every test."""
    for group in GROUPS:
        for name in names(tools, group) if wanted in ("", group) else ():
            empty(admin)
            yield group, name, _result(tools, admin, name)


def names(tools: Tools, group: str) -> Iterator[str]:
    """The tests of a group, in the order of the sources."""
    for part in GROUPS[group]:
        file, _, own = part.partition(":")
        source = (tools.sources / f"{file}_test.go").read_text(encoding="utf-8")
        found = re.findall(r"^func (Test\w+)\(", source, re.MULTILINE)
        yield from (name for name in found if not own or name in own.split("|"))


def empty(admin: str) -> None:
    """Delete all entities: a failed test leaves some."""
    for collection in COLLECTIONS:
        answer = httpx.get(f"{admin}/{collection}?size=1000", trust_env=False)
        for entity in answer.json()["data"] if answer.status_code == 200 else ():
            httpx.delete(f"{admin}/{collection}/{entity['id']}", trust_env=False)


def _result(tools: Tools, admin: str, name: str) -> str:
    done = subprocess.run(
        [str(tools.tests), "-test.v", f"-test.timeout={TIMEOUT_S}s", f"-test.run=^{name}$"],
        cwd=tools.sources, env={**os.environ, "KONG_ADMIN_URL": admin}, capture_output=True, text=True, timeout=2 * TIMEOUT_S, check=False,
    )  # fmt: skip
    text = done.stdout + done.stderr
    ended = re.search(rf"^--- (PASS|SKIP): {name} ", text, re.MULTILINE)
    if ended and done.returncode == 0 and name in LACKING:
        return "failed: it passes now: take it off LACKING"
    if ended and done.returncode == 0:
        reason = re.search(r"\.go:\d+: (.*)", text)
        return "ok" if ended[1] == "PASS" else f"skipped: {reason[1] if reason else 'it says no reason'}"
    known = LACKING.get(name)
    if known is not None:
        return f"expected: {known}"
    why = re.search(r"(?:panic: |Error:\s+)(.*(?:\n\s+\t.*){0,3})", text)
    return f"failed: {' '.join((why[1] if why else text[-300:]).split())[:300]}"
