"""Many tiers times many models: disk, memory and the page of metrics grow with the pairs that are called, not with all pairs."""

from pathlib import Path

import pytest

from tests.support.processes import start_upstream
from tests.support.surface import caller, chat, metric, samples, start_configured

MIB = 1 << 20


def memory(pid: int) -> int:
    """The most bytes that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("number", [200])
def test_called_pairs_alone_have_rows(tmp_path: Path, number: int) -> None:
    upstream, url = start_upstream("mock-llm")
    model = {"upstreams": [{"url": f"{url}/v1", "model": "small-chat"}]}
    configuration = {
        "_format_version": "3.0",
        "models": {f"m{n}": model for n in range(number)},
        "tiers": {f"t{n}": {} for n in range(number)},
    }
    gateway = start_configured(tmp_path / "data", configuration, workers=2)
    try:
        called = [(7, 9), (7, number - 1), (number - 1, 9)]
        for tier, one in called:
            who = caller(gateway, f"t{tier}")
            assert [who.post(chat(f"m{one}")).status_code for _ in range(4)] == [200] * 4
        shown = {(has["tier"], has["model"]) for name, has, _ in samples(gateway) if name == "aigw_tokens_total"}
        assert shown == {(f"t{tier}", f"m{one}") for tier, one in called}
        for tier, one in called:
            labels = {"tier": f"t{tier}", "model": f"m{one}", "outcome": "completed"}
            assert metric(gateway, "aigw_model_requests_total", **labels) == 4
            labels = {"aigw_tier": f"t{tier}", "gen_ai_original_model": f"m{one}"}
            assert metric(gateway, "gen_ai_server_request_duration_seconds_count", **labels) == 4
        assert len(samples(gateway)) < 20 * number
        # 40,000 pairs needed 400 MiB of disk while each had rows.
        assert disk(gateway.data) < 64 * MIB
        assert memory(gateway.children()["control"]) < 160 * MIB
    finally:
        assert gateway.process.end() == 0
        upstream.end()
