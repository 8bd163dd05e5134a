"""How well latencies are predicted for networks that were never seen: ours, the plain table, MACs alone, and the noise floor.

    python benchmarks/latency_predictor.py --space tiny --target cpu:eager
    python benchmarks/latency_predictor.py --space mobile --target cpu:onnxruntime

Profiles the target (or goes on with the table of an earlier run), measures the held-out networks in `--sessions` in all, and
writes the comparison with hardware and versions to benchmarks/results/. What a network takes is the geometric mean of all
sessions, later ones told at the level of the first, as companions tell later groups of a profile; one row holds ours against
the first session alone, and one each later session as it was. All go on where they were stopped, and nothing that a table holds
is measured again.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.files import write_json, write_text
from nas.predictors.assessment import Assessment, assess
from nas.predictors.cost import cost
from nas.predictors.environment import environment
from nas.predictors.export_pool import ExportPool
from nas.predictors.interleaving import Effort
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_profile import GROUP, MEASURED, profile
from nas.predictors.latency_table import HELD_OUT, TRAIN, LatencyTable, NetworkTime
from nas.predictors.network_profile import NetworkProfile
from nas.predictors.profile_cost import NETWORK_SECONDS, ROUNDS
from nas.predictors.samples import unrecorded
from nas.predictors.target import Target
from nas.predictors.timings import Array
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.presets import load_space
from nas.search_spaces.space import SearchSpace

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run the benchmark and print its table."""
    options = arguments()
    target, space = Target.parse(options.target), load_space(options.space)
    name = f"latency_predictor-{space.name}-{re.sub(r'[^0-9A-Za-z=._]+', '-', str(target))}"
    path = Path(options.table or RESULTS / f"{name}.table.json")
    started = time.perf_counter()
    table = profile(
        space, target, path, num_classes=options.classes, seed=options.seed, train=options.train, held_out=options.held_out,
        seconds=options.seconds,
    )  # fmt: skip
    profiled = time.perf_counter() - started
    predictor = LatencyPredictor.fit(table)
    report = {
        "space": space.name,
        "target": str(target),
        "seed": options.seed,
        "profile_seconds": table.spent,
        "networks_per_second": speed(predictor, space.sample),
        "batch_per_second": batch_speed(predictor, space.sample),
        "shares": predictor.shares,
        "cross_validated_mape": predictor.scores,
        "node_times": len(table.nodes),
        "training_networks": len(list(table.of_role(TRAIN))),
        "held_out": {
            method: item.to_mapping() for method, item in compare(space, table, predictor, path, options.sessions).items()
        },
        "environment": environment(target.runtime),
    }
    write_json(RESULTS / f"{name}.json", report)
    write_text(RESULTS / f"{name}.md", markdown(report))
    print(json.dumps(report, indent=1) if options.json else markdown(report) + f"\nprofiled in {profiled:.0f} s")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--target", default="cpu:eager")
    parser.add_argument("--train", type=int, help="networks to learn from (default: as many as a profile of the target takes)")
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument(
        "--sessions", type=int, default=2, help="of measuring the held-out networks, that of the profile included"
    )
    parser.add_argument("--seconds", type=float, help="time budget of the profile")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", help="latency table to go on with (default: beside the results)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def compare(
    space: SearchSpace, table: LatencyTable, predictor: LatencyPredictor, path: Path, sessions: int = 2
) -> dict[str, Assessment]:
    """The assessment of every method on the held-out networks, against the geometric mean of so many sessions of measuring."""
    train, held_out = list(table.of_role(TRAIN)), list(table.of_role(HELD_OUT))
    stem, later = path.name.replace(".table.json", ""), []
    for number in range(1, sessions):
        file = path.with_name(f"{stem}.again{number if number > 1 else ''}.json")
        later.append(measured_again(space, held_out, table, file, number))
    held_out = [item for item in held_out if all(item.architecture.digest in one.networks for one in later)]
    architectures = [item.architecture for item in held_out]
    first, others = table.latency(held_out), [told_as(table, one, held_out) for one in later]
    measured = np.exp(np.mean(np.log([first, *(again / np.median(again / first) for again in others)]), 0))
    plain = np.array([sum(table_times(predictor, architecture)) for architecture in architectures])
    known = [item.architecture for item in train]
    macs = macs_regression(known, table.latency(train).tolist(), architectures)
    return {
        "ours": predictor.assess(architectures, measured.tolist()),
        "ours, first session alone": predictor.assess(architectures, first.tolist()),
        "plain additive table": banded(plain, measured),
        "MACs only (regression)": banded(macs, measured),
        "first session, of all (noise floor)": banded(first, measured),
        **{f"session {number}, of the first": banded(again, first) for number, again in enumerate(others, 2)},
    }


def banded(predicted: Array, measured: Array) -> Assessment:
    """The assessment of a method without intervals: 10 % either way stands for them."""
    return assess(predicted, measured, predicted * 0.9, predicted * 1.1)


def table_times(predictor: LatencyPredictor, architecture: Architecture) -> list[float]:
    """The uncorrected times of an architecture's nodes."""
    found = predictor.nodes_of(architecture)
    return [item.seconds for item in predictor.times(found)]


def macs_regression(known: list[Architecture], seconds: list[float], new: list[Architecture]) -> Array:
    """log T = a + b log MACs, fitted on the training networks."""

    def logs(items: list[Architecture]) -> Array:
        return np.log([cost(item).macs for item in items])

    slope, offset = np.polyfit(logs(known), np.log(seconds), 1)
    return np.exp(offset + slope * logs(new))


def measured_again(
    space: SearchSpace, held_out: list[NetworkTime], table: LatencyTable, path: Path, number: int
) -> LatencyTable:
    """The held-out networks measured for the `number`th time more, as at first; the file holds those measured so far."""
    again = (
        LatencyTable.load(path, table.target)
        if path.exists()
        else replace(
            table, nodes={}, networks={}, refused=dict(table.refused), energies={}, factors={}, seed=table.seed + number
        )
    )
    left = [(item.architecture, HELD_OUT) for item in held_out if item.architecture.digest not in again.networks]
    with ExportPool(table.target, table.num_classes, table.in_channels) as exports:
        session = NetworkProfile(space, again, unrecorded, exports)
        for start in range(0, len(left), GROUP):
            session.measure(left[start : start + GROUP], Effort(MEASURED * NETWORK_SECONDS, ROUNDS))
            again.save(path)
    return again


def told_as(table: LatencyTable, later: LatencyTable, networks: list[NetworkTime]) -> Array:
    """The latencies of a later session, told at the anchor of the first table and at the factor by which that one's medians
    exceed its quiet times."""
    later.tell_at(table.anchor or later.anchor or 1.0)
    quiet = [item.measurement.quiet or item.measurement.median for item in networks]
    factor = float(np.median(table.latency(networks) / quiet))
    again = [later.networks[item.architecture.digest].measurement for item in networks]
    return factor * np.array([item.quiet or item.median for item in again])


def speed(predictor: LatencyPredictor, sample: Any, number: int = 1000) -> float:
    """Architectures a second that are predicted one by one, the way a search asks."""
    drawn = [sample(random.Random(f"speed:{index}")) for index in range(number)]
    start = time.perf_counter()
    for architecture in drawn:
        predictor.predict([architecture])
    return number / (time.perf_counter() - start)


def batch_speed(predictor: LatencyPredictor, sample: Any, number: int = 4000) -> float:
    """Architectures a second that are predicted in one batch, once as many others have been."""
    others, drawn = ([sample(random.Random(f"{name}:{index}")) for index in range(number)] for name in ("before", "batch"))
    predictor.predict(others)
    start = time.perf_counter()
    predictor.predict(drawn)
    return number / (time.perf_counter() - start)


def markdown(report: dict[str, Any]) -> str:
    """The report as a table for people."""
    lines = [
        f"# Latency prediction: space `{report['space']}`, target `{report['target']}`",
        "",
        f"{report['node_times']} node times, {report['training_networks']} training networks, profiled in "
        f"{report['profile_seconds']:.0f} s; corrections by how much they count: "
        f"{', '.join(f'{name} {share:.0%}' for name, share in report['shares'].items())}; "
        f"{report['networks_per_second']:.0f} new architectures a second one by one, "
        f"{report['batch_per_second']:.0f} in batches.",
        "",
        "| method | MAPE | within 5 % | within 10 % | Spearman | Kendall | 90 % interval covers |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, row in report["held_out"].items():
        covers = f"{row['coverage_90']:.0%}" if method.startswith("ours") else "-"
        lines.append(
            f"| {method} | {row['mape']:.1%} | {row['within_5']:.0%} | {row['within_10']:.0%} | {row['spearman']:.3f} "
            f"| {row['kendall']:.3f} | {covers} |"
        )
    environment_text = ", ".join(f"{key} {value}" for key, value in report["environment"].items())
    return "\n".join([*lines, "", f"{report['held_out']['ours']['n']} held-out networks. {environment_text}.", ""])


if __name__ == "__main__":
    main()
