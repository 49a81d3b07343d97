"""Very many keys: the control process keeps little for each, a changed tier does not read them again, and the bound of a file is a setting."""

import subprocess
import time
from pathlib import Path

import httpx

from tests.support.processes import AIGW, Gateway, start_gateway

MIB = 1 << 20
MANY = 60_000
EACH, FIRST = 512, 24 * MIB
"""Bytes of the control process at rest for each consumer with a key (400 were measured), and for the first large file: what allocators
keep of it."""
PATIENCE_S = 10.0


def memory(pid: int, what: str) -> int:
    """Bytes of a process: `VmRSS` now, `VmHWM` at most since its peak was reset."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what + ":"))


def text(consumers: int, limit: int, head: str = "") -> str:
    people = (
        f"- {{username: c{n}, tier: t, keyauth_credentials: [{{key: key-of-consumer-{n}}}]}}" for n in range(consumers)
    )
    return "\n".join([f"{head}tiers: {{t: {{limits: [{{requests: {limit}, per: day}}]}}}}", "consumers:", *people, ""])


def put(gateway: Gateway, file: Path, content: str) -> None:
    """Change the file, and wait until it is in force."""
    draft = file.with_suffix(".draft")
    draft.write_text(content)
    draft.replace(file)
    gateway.wait_event("config_applied")


def limit_of(gateway: Gateway, consumer: str) -> int:
    answer = httpx.get(f"{gateway.admin}/consumers/{consumer}/limits", trust_env=False).json()
    found: int = answer["data"][0]["limit"]
    return found


def test_control_keeps_little_for_each_key_and_reads_none_again(tmp_path: Path) -> None:
    file = tmp_path / "tiers.yaml"
    file.write_text(text(1, 5))
    gateway = start_gateway(tmp_path / "data", "--config", str(file))
    try:
        control = gateway.children()["control"]
        small, whole = memory(control, "RssAnon"), text(MANY, 5)
        put(gateway, file, whole)
        end = time.monotonic() + PATIENCE_S
        while (rest := memory(control, "RssAnon")) > small + FIRST + MANY * EACH:
            assert time.monotonic() < end, f"{(rest - small) / MANY:.0f} bytes for each consumer"
            time.sleep(0.1)
        rest = memory(control, "VmRSS")
        Path(f"/proc/{control}/clear_refs").write_text("5")  # the peak begins at the present size
        for limit, head in ((6, ""), (7, "# a line more\n")):
            put(gateway, file, text(MANY, limit, head))
            assert (limit_of(gateway, "c0"), limit_of(gateway, f"c{MANY - 1}")) == (limit, limit)
        # The bytes of the file, and twice more of them on their way: a tree of all consumers takes ten times the bytes.
        assert memory(control, "VmHWM") < rest + 3 * len(whole) + 8 * MIB
        refused = httpx.delete(f"{gateway.admin}/consumers/c9", trust_env=False)
        assert refused.status_code == 409 and refused.json()["fields"]["@declared_by"]["line"] == 13
    finally:
        assert gateway.process.end() == 0


def test_the_largest_configuration_is_a_setting(tmp_path: Path) -> None:
    small, large = {"AIGW_MAX_CONFIG_BYTES": str(MIB)}, {"AIGW_MAX_CONFIG_BYTES": str(4 * MIB)}
    file = tmp_path / "tiers.yaml"
    file.write_text(text(15_000, 5) + "#" * MIB)
    for env, code in ((small, 2), (large, 0)):
        done = subprocess.run([*AIGW, "check", str(file)], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert code == 0 or "larger than 1 MiB: set AIGW_MAX_CONFIG_BYTES to more bytes" in done.stderr
    yaml = {"content-type": "application/yaml"}
    for env, status, tail in ((small, 400, ""), (small, 413, "#" * 2 * MIB), (large, 201, "")):
        gateway = start_gateway(tmp_path / f"{status}", env=env)
        try:
            content = (text(1, 5) + "#" * (MIB + 1) + tail).encode()
            answer = httpx.post(
                f"{gateway.admin}/config", content=content, headers=yaml, timeout=PATIENCE_S, trust_env=False
            )
            assert answer.status_code == status, answer.text
            assert status != 400 or "AIGW_MAX_CONFIG_BYTES" in answer.json()["message"]
        finally:
            assert gateway.process.end() == 0
    few = start_gateway(tmp_path / "nodes", env=small)
    try:
        content = b"tiers: {t: {}}\n_info: {select_tags: [" + b",".join([b"a"] * 70_000) + b"]}\n"
        answer = httpx.post(f"{few.admin}/config", content=content, headers=yaml, timeout=PATIENCE_S, trust_env=False)
        assert answer.status_code == 400 and "keys and values" in answer.json()["message"]
    finally:
        assert few.process.end() == 0
