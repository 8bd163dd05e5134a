"""The figures of docs/search-benchmark.md, out of a folder that `nas bench search --out` wrote.

    nas bench search --tables DIR --seeds 20 --out OUT
    python benchmarks/search.py OUT

Prints a table in Markdown and writes benchmarks/results/search.json: of each task and strategy the fraction of the optimum, the
median evaluations to the target, duplicates, and the regret after 50 and 100 evaluations, each with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "search.json"


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    reached = row["median_evaluations_to_target"]
    regret = [f"{row['regret'][n][0]:.3g} ± {row['regret'][n][1]:.2g}" if n in row["regret"] else "" for n in ("50", "100")]
    cells = [
        row["table"], row["objective"], row["budget"] or "", row["strategy"], str(row["seeds"]),
        f"{row['fraction_of_optimum']:.4f} ± {row['fraction_interval']:.4f}", "-" if reached is None else f"{reached:g}",
        *regret, str(row["duplicates"]),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    rows = json.loads((parser.parse_args().folder / "summary.json").read_text(encoding="utf-8"))
    print("| table | objective | budget | strategy | seeds | of the optimum | to target | regret at 50 | at 100 | duplicates |")
    print("|" + "---|" * 10)
    for row in rows:
        print(line(row))
    RESULTS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
