"""Compares two checkouts under the same loads: `python -m benches.load.against DIR --rounds 8 --seconds 2`.

DIR is another checkout of this repository with its own `.venv` (`make build` there), such as a worktree of the commit before. Both
gateways run at the same time on one core, each with one worker; the loads alternate between them, and the order changes with each
round, so a change of the machine's speed meets both. Out: CPU per request of both, and the median ratio (this checkout / DIR).
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from benches.load import rig
from benches.load.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.load.against")
    parser.add_argument("other", type=Path, help="another checkout, built")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument(
        "--workers-alone", action="store_true", help="count workers only; control processes run on the other core"
    )
    parser.add_argument("--only", help="comma-separated loads, such as W1,V1")
    parser.add_argument("--tls", action="store_true", help="both gateways take TLS, with one certificate")
    options = parser.parse_args()
    loads = [load for load in SCENARIOS if not options.only or load.name in options.only.split(",")]
    pythons = {"this": sys.executable, "other": str(options.other / ".venv/bin/python")}
    servers: list[rig.Server] = []
    costs: dict[str, dict[str, list[float]]] = {load.name: {"this": [], "other": []} for load in loads}
    with tempfile.TemporaryDirectory(prefix="aigw-against-") as name:
        if options.tls:
            os.environ |= rig.certificate(Path(name))
        try:
            mock, upstream = rig.start_mock()
            servers.append(mock)
            gateways: dict[str, tuple[rig.Server, Path]] = {}
            for which, python in pythons.items():
                folder = Path(name) / which
                folder.mkdir()
                gateway, keys = rig.start_gateway(upstream, folder, python)
                servers.append(gateway)
                rig.write_requests(folder, keys)
                gateways[which] = (gateway, folder)
                if options.tls:
                    gateway.url = gateway.url.replace("http:", "https:")
                if options.workers_alone:
                    gateway.count_workers_alone()
            for load in loads:
                for gateway, folder in gateways.values():
                    rig.run(gateway, load, folder, 1)
            for round_ in range(options.rounds):
                for load in loads:
                    for which in sorted(pythons, reverse=round_ % 2 == 1):
                        gateway, folder = gateways[which]
                        cost = rig.run(gateway, load, folder, options.seconds).cpu_us_per_request
                        costs[load.name][which].append(cost)
        except rig.BenchError as error:
            sys.stderr.write(f"against: {error}\n")
            return 1
        finally:
            for server in reversed(servers):
                server.end()
    for load_name, found in costs.items():
        ratios = [a / b for a, b in zip(found["this"], found["other"], strict=True)]
        sys.stdout.write(
            f"{load_name}: {median(found['this']):.1f} us, other {median(found['other']):.1f} us,"
            f" ratio {median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
