"""Whether accepted networks keep their promise: accepted under a budget by prediction and verification, measured again later.

    python benchmarks/contract.py accept --table TABLE --budget 4ms     # until 30 networks are accepted
    python benchmarks/contract.py again                                 # an hour or a day later, in a process of its own

Candidates are random members of the table's space whose predicted upper bound lies just under the budget, as those of a search
do. One is accepted where the upper end of the 95 % interval of its median, measured as exported, is under the budget too. Both
phases go on where they were stopped; the second may be run as often as one likes.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nas.files import read_json, write_json, write_text
from nas.predictors.environment import environment
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.target import Target
from nas.predictors.timings import Speed
from nas.quantities import format_time, parse_time
from nas.results.verification import measure_network
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.presets import load_space

RESULTS = Path(__file__).parent / "results"
WANTED, NEAR, CONFIDENCE = 30, 0.75, 0.95
BATCH, DRAWS = 64, 10_000
VERSION = 6
"""Of a report: how its times are told."""


def main() -> None:
    """Run a phase and print how the accepted networks do."""
    options = arguments()
    path = Path(options.out)
    if options.phase == "accept":
        accept(path, Path(options.table), options.budget, options.number)
    else:
        again(path)
    report = read_json(path, "contract")
    text = markdown(report)
    write_text(path.with_suffix(".md"), text)
    print(text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("phase", choices=["accept", "again"])
    parser.add_argument(
        "--table", default=str(RESULTS / "latency_predictor-tiny-cpu-eager-threads=1-batch=1-precision=fp32.table.json")
    )
    parser.add_argument("--budget", help="for example 4ms (default: the median of the table's training networks)")
    parser.add_argument("--number", type=int, default=WANTED, help="networks to accept")
    parser.add_argument("--out", default=str(RESULTS / "contract.json"))
    return parser.parse_args()


def accept(path: Path, table_path: Path, budget: str | None, number: int) -> None:
    """Measure candidates as exported until enough are accepted, and write each one down."""
    table = LatencyTable.load(table_path)
    predictor = LatencyPredictor.fit(table)
    known = table.latency(list(table.of_role(TRAIN))).tolist()
    fresh = {
        "space": table.space,
        "target": str(table.target),
        "in_channels": table.in_channels,
        "num_classes": table.num_classes,
        "speed": None if table.speed is None else asdict(table.speed),
        "version": VERSION,
        "budget": float(np.median(known)) if budget is None else parse_time(budget),
        "environment": environment(table.target.runtime),
        "networks": {},
    }
    report = known_report(path) if path.exists() else fresh
    networks = report["networks"]
    for architecture, predicted, upper in candidates(predictor, table.space, report["budget"]):
        if sum(item["accepted"] for item in networks.values()) >= number:
            return
        if architecture.digest in networks:
            continue
        found = measured(architecture, report)
        networks[architecture.digest] = {
            "architecture": architecture.to_mapping(),
            "predicted": predicted,
            "upper": upper,
            "measurement": found,
            "accepted": found["high"] <= report["budget"],
            "again": [],
        }
        write_json(path, report)
    accepted = sum(item["accepted"] for item in networks.values())
    if accepted < number:
        raise SystemExit(
            f"only {accepted} of {number} networks were accepted: no other of {DRAWS} random "
            f"members of {table.space} has its predicted bound between {format_time(NEAR * report['budget'])} and "
            f"{format_time(report['budget'])}; name another --budget or a smaller --number"
        )


def candidates(predictor: LatencyPredictor, space: str, budget: float) -> Iterator[tuple[Architecture, float, float]]:
    """Of DRAWS random members those whose predicted upper bound is under the budget and near it, with prediction and bound
    (seconds)."""
    drawn = load_space(space)
    for start in range(0, DRAWS, BATCH):
        members = [drawn.sample(random.Random(f"contract:{start + index}")) for index in range(BATCH)]
        means, uppers = predictor.predict(members).mean, predictor.upper(members, CONFIDENCE)
        for member, mean, upper in zip(members, means, uppers, strict=True):
            if NEAR * budget <= upper <= budget:
                yield member, float(mean), float(upper)


def known_report(path: Path) -> dict[str, Any]:
    """The report of a file. Exits where its times were told otherwise than today's."""
    report: dict[str, Any] = read_json(path, "contract")
    if report.get("version") != VERSION:
        raise SystemExit(f"{path} has times as version {report.get('version')} told them, not {VERSION}; name another --out")
    return report


def again(path: Path) -> None:
    """Measure every accepted network once more than any has been so far, and write each measurement down."""
    report = known_report(path)
    accepted = [item for item in report["networks"].values() if item["accepted"]]
    least = min((len(item["again"]) for item in accepted), default=0)
    for item in accepted:
        if len(item["again"]) == least:
            item["again"].append(measured(Architecture.from_mapping(item["architecture"]), report))
            write_json(path, report)


def measured(architecture: Architecture, report: dict[str, Any]) -> dict[str, Any]:
    """A network with fresh weights, exported and measured as a search verifies its candidates; and when that began."""
    began = datetime.now(UTC).isoformat(timespec="seconds")
    classes, channels = report["num_classes"], report["in_channels"]
    network, target = build(architecture, classes, channels).eval(), Target.parse(report["target"])
    speed = None if report["speed"] is None else Speed(**report["speed"])
    return {"at": began, **measure_network(network, target, classes, channels, speed=speed).to_mapping()}


def markdown(report: dict[str, Any]) -> str:
    """How many were accepted, and of those, how many were under the budget whenever they were measured again."""
    budget, items = report["budget"], list(report["networks"].values())
    accepted = [item for item in items if item["accepted"]]
    lines = [
        f"# The contract: space `{report['space']}`, target `{report['target']}`, budget {format_time(budget)}",
        "",
        f"{len(items)} candidates whose predicted 95 % bound was under the budget were measured as exported; {len(accepted)} "
        "had the upper end of their interval under it and were accepted.",
        "",
        "| measured again | begun | networks | median under the budget | interval under the budget | largest median / budget |",
        "|---|---|---|---|---|---|",
    ]
    for session in range(max((len(item["again"]) for item in accepted), default=0)):
        found = [item["again"][session] for item in accepted if len(item["again"]) > session]
        under = sum(one["median"] <= budget for one in found)
        safe = sum(one["high"] <= budget for one in found)
        worst = max(one["median"] for one in found) / budget
        lines.append(f"| {session + 1} | {min(one['at'] for one in found)} | {len(found)} | {under} | {safe} | {worst:.3f} |")
    told = ", ".join(f"{key} {value}" for key, value in report["environment"].items())
    return "\n".join([*lines, "", f"{told}.", ""])


if __name__ == "__main__":
    main()
