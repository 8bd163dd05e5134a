"""What screening spares: the best accuracy after the same cost, with cheap scores first and without.

    python benchmarks/screening_scores.py --run runs/super --out runs/screening       # the table, see there
    python benchmarks/search_screening.py --scores runs/screening/scores.jsonl

Plays `nas search`'s loop, archive, strategies and screening on the members of the table. Scored in full means on all images of
the table, and the accuracy that counts is that one. Cost is told in full scores of an average member, by images and by
processor seconds (extraction, proxy, calibration and scoring, as each member's were measured). Writes
benchmarks/results/search_screening.json and goes on from what is there of the same table.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau
from screening_table import ACCURACY, COSTS, COUNTS, FULL, LOSS, Array, Table, Way
from search_supernet import RESULTS, interval

from nas.predictors.environment import environment

SEEDS = {"random": 20, "evolution": 10, "bo": 5}
"""Searches by each strategy; all but random search without a budget play the ways of `FEWER` alone."""
FEWER = ("full", "loss of 64", "accuracy of 64", "naswot")
PROMOTED = (0.25, 0.5)
FEW = (32, 64, 128)


def ways(table: Table) -> list[Way]:
    """Everything that is compared."""
    scored = [Way(name, few, PROMOTED[0]) for name in (ACCURACY, LOSS) for few in FEW]
    looser = [Way(name, FEW[1], PROMOTED[1]) for name in (ACCURACY, LOSS)]
    return [Way(FULL), *scored, *looser, *(Way(name, 0, PROMOTED[0]) for name in (*COUNTS, *table.proxies("inherited")))]


def ranks(table: Table) -> list[dict[str, Any]]:
    """How each cheap score ranks all members: Kendall's tau with the accuracy, the share of the best tenth it promotes.

    Behind them, proxies with inherited and with fresh weights on the members that have both.
    """
    both = sum(bool(row["fresh"]) for row in table.rows)
    found = [(way, "inherited", len(table.rows)) for way in ways(table) if way.promote == PROMOTED[0]]
    found += [(Way(name), "inherited", both) for name in table.proxies("inherited")]
    found += [(Way(name), "fresh", both) for name in table.proxies("fresh")]
    return [ranked(table, *one) for one in found]


def ranked(table: Table, way: Way, weights: str, members: int) -> dict[str, Any]:
    """One cheap score against the accuracy, on the first so many members."""
    values, seconds = (found[:members] for found in table.cheap(way, weights))
    truth = table.accuracy[:members]
    best = np.argsort(-truth, kind="stable")[: max(1, len(truth) // 10)]
    kept = np.argsort(-values, kind="stable")[: math.ceil(PROMOTED[0] * len(values))]
    name = str(way) if way.few or way.name in COUNTS else f"{way.name}, {weights} weights"
    share = float(seconds.mean() / table.full_seconds.mean())
    return {
        "score": name, "members": members, "tau": float(kendalltau(values, truth)[0]),
        "kept": float(np.isin(best, kept).mean()), "cost": share,
    }  # fmt: skip


def compared(table: Table, strategy: str, share: float, seeds: int) -> list[dict[str, Any]]:
    """The ways by one strategy: the best accuracy at each cost, and the lead over scoring everything in full."""
    units = {"images": float(table.images), "seconds": float(table.full_seconds.mean())}
    rows: list[dict[str, Any]] = []
    plain: dict[str, Array] = {}
    for way in ways(table):
        if (strategy != "random" or share < 1.0) and (str(way) not in FEWER or way.promote == PROMOTED[1]):
            continue
        curves = [table.play(way, strategy, seed, share) for seed in range(seeds)]
        row: dict[str, Any] = {"way": str(way), "promote": way.promote}
        row["candidates"] = float(np.mean([len(one.best) for one in curves]))
        row["full"] = float(np.mean([one.full for one in curves]))
        for unit, price in units.items():
            steps = np.arange(1, COSTS[-1] + 1)
            found = np.array([[one.at(getattr(one, unit), cost * price) for cost in steps] for one in curves])
            known = plain.setdefault(unit, found)
            reached = steps[found.mean(0) >= known.mean(0)[-1]]
            row[unit] = {
                "best": {str(cost): interval(found[:, cost - 1]) for cost in COSTS},
                "lead": {str(cost): interval((found - known)[:, cost - 1]) for cost in COSTS},
                "reaches": int(reached[0]) if len(reached) else None,
            }
        rows.append(row)
        print(strategy, share, row["way"], way.promote, row["seconds"]["lead"], flush=True)
    return rows


def printed(written: Mapping[str, Any]) -> str:
    """The tables of the documentation."""
    lines = ["| cheap score | members | tau | of the best tenth kept | cost |", "|---|---|---|---|---|"]
    for one in written["ranks"]:
        lines += [f"| {one['score']} | {one['members']} | {one['tau']:.2f} | {one['kept']:.0%} | {one['cost']:.1%} |"]
    for name, rows in written["runs"].items():
        head = " | ".join(f"at {cost}" for cost in COSTS)
        lines += [
            "",
            name,
            "",
            f"| screened by | promoted | candidates, full | {head} | lead at {COSTS[1]} | as full at {COSTS[-1]} |",
        ]
        lines.append("|---" * (5 + len(COSTS)) + "|")
        for row in rows:
            found = row["seconds"]
            best = " | ".join(f"{100 * mean:.2f}" for mean, _ in found["best"].values())
            lead = "{:+.2f} ± {:.2f}".format(*(100 * value for value in found["lead"][str(COSTS[1])]))
            counts = f"{row['candidates']:.0f}, {row['full']:.0f}"
            lines.append(
                f"| {row['way']} | {row['promote']:.0%} | {counts} | {best} | {lead} | {found['reaches'] or 'not reached'} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Play what is asked for and not in the results yet, and write down each strategy when it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, default=Path("runs/screening/scores.jsonl"))
    parser.add_argument("--strategies", nargs="+", default=list(SEEDS))
    parser.add_argument("--seeds", type=int, help="instead of each strategy's own number")
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.5], help="of members that meet a budget on MACs")
    options = parser.parse_args()
    table, path = Table(options.scores), RESULTS / "search_screening.json"
    written = {"about": about(table), "ranks": ranks(table), "runs": {}, "environment": environment()}
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if known.get("about") == written["about"]:
        written["runs"] = known["runs"]
    for strategy in options.strategies:
        for share in options.shares:
            name = f"{strategy}, {share:.0%} of the members feasible"
            if name not in written["runs"]:
                written["runs"][name] = compared(table, strategy, share, options.seeds or SEEDS.get(strategy, 5))
            path.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(printed(written))


def about(table: Table) -> dict[str, Any]:
    """What the table is of, and what a member's parts take."""
    known = {name: value for name, value in table.about.items() if name not in ("space", "data")}
    parts = {part: float(table.seconds(part).mean()) for part in table.rows[0]["seconds"]}
    accuracies = {"best": float(table.accuracy.max()), "deviation": float(table.accuracy.std())}
    return {**known, "members": len(table.rows), "seconds": parts, **accuracies}


if __name__ == "__main__":
    main()
