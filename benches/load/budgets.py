"""The cost of budgets: `python -m benches.load.budgets --rounds 12 --seconds 2`.

Each load in a tier with budgets runs in turns with the load that it is like, on one gateway with one worker; the order changes with
each round, so a change of the machine's speed meets both. Out: CPU per request of both, the median ratio, and one file of results.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from benches.load import report, rig
from benches.load.scenarios import ALL, BUDGETS

BOUNDS = {"V1A": 1.15, "V2B": 1.05, "V3T": 1.10}
"""The highest ratio of each load, as the project promises it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.load.budgets")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    by_name = {load.name: load for load in ALL}
    pairs = [(load, by_name[load.like]) for load in BUDGETS]
    costs: dict[str, list[tuple[float, float]]] = {load.name: [] for load in BUDGETS}
    servers: list[rig.Server] = []
    with tempfile.TemporaryDirectory(prefix="aigw-budgets-") as name:
        folder = Path(name)
        try:
            mock, upstream = rig.start_mock()
            servers.append(mock)
            gateway, keys = rig.start_gateway(upstream, folder, loads=ALL)
            servers.append(gateway)
            rig.write_requests(folder, keys)
            for pair in pairs:
                for load in pair:
                    rig.run(gateway, load, folder, 1)
            for round_ in range(options.rounds):
                for pair in pairs:
                    found = {
                        load.name: rig.run(gateway, load, folder, options.seconds).cpu_us_per_request
                        for load in (pair if round_ % 2 == 0 else pair[::-1])
                    }
                    costs[pair[0].name].append((found[pair[0].name], found[pair[1].name]))
        except rig.BenchError as error:
            sys.stderr.write(f"budgets: {error}\n")
            return 1
        finally:
            for server in reversed(servers):
                server.end()
    for load, like in pairs:
        ratios = [a / b for a, b in costs[load.name]]
        sys.stdout.write(
            f"{load.name}: {median(a for a, _ in costs[load.name]):.1f} us, {like.name}"
            f" {median(b for _, b in costs[load.name]):.1f} us, ratio {median(ratios):.3f}"
            f" ({min(ratios):.3f}-{max(ratios):.3f}), bound {BOUNDS[load.name]}\n"
        )
    command = f"python -m benches.load.budgets --rounds {options.rounds} --seconds {options.seconds:g}"
    path = report.keep("budgets", command, {"bounds": BOUNDS, "cpu_us_per_request": costs})
    sys.stdout.write(f"written to {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
