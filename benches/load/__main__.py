"""Runs the loads: `python -m benches.load --rounds 7 --seconds 5 [--only W1]`. Exit code 1 for an invalid run."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benches.load import report, rig
from benches.load.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.load")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--only", help="one load, and no result files: W0 to W3, V1 to V3, V3U")
    options = parser.parse_args()
    loads = [load for load in SCENARIOS if options.only in (None, load.name)]
    if len(os.sched_getaffinity(0)) < 2:
        sys.stderr.write("bench: two cores are needed: one for the server, one for client and mock\n")
        return 1
    servers: list[rig.Server] = []
    pairs: report.Pairs = {load.name: [] for load in loads}
    with tempfile.TemporaryDirectory(prefix="aigw-bench-") as name:
        folder = Path(name)
        try:
            mock, upstream = rig.start_mock()
            servers.append(mock)
            nginx = rig.start_nginx(upstream, folder)
            servers.append(nginx)
            gateway, keys = rig.start_gateway(upstream, folder)
            servers.append(gateway)
            rig.write_requests(folder, keys)
            for load in loads:  # warm up: pools, memory, and the first call of each key, which W2 admits
                rig.run(nginx, load, folder, 1)
                rig.run(gateway, load, folder, 1)
            for round_ in range(options.rounds):
                for load in loads:
                    order = (nginx, gateway) if round_ % 2 == 0 else (gateway, nginx)
                    found = {server.name: rig.run(server, load, folder, options.seconds) for server in order}
                    pairs[load.name].append((found["nginx"], found["gateway"]))
                    a, b = found["nginx"].cpu_us_per_request, found["gateway"].cpu_us_per_request
                    sys.stderr.write(
                        f"round {round_ + 1} {load.name}: nginx {a:.1f} us, aigw {b:.1f} us, ratio {b / a:.2f}\n"
                    )
        except rig.BenchError as error:
            sys.stderr.write(f"bench: {error}\n")
            return 1
        finally:
            for server in reversed(servers):
                server.end()
    if options.only is None:
        path = report.write(pairs, f"make bench ROUNDS={options.rounds} SECONDS={options.seconds:g}")
        sys.stdout.write(f"{path.read_text()}\nwritten to {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
