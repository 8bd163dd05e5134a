"""How long the commands that only tell something take, against an empty Python process, all run in turn.

    python benchmarks/startup.py [--rounds 11]

Writes benchmarks/results/startup.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from nas.predictors.environment import environment

RESULTS = Path(__file__).parent / "results" / "startup.json"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "nas --help": ["-m", "nas", "--help"],
    "nas operators": ["-m", "nas", "operators"],
    "nas catalog": ["-m", "nas", "catalog"],
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.rounds):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - began)
    found = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in found.items():
        print(f"{name:<16} {seconds:.3f} s")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"median_seconds": found, "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
