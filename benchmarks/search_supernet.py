"""The strategies on a real supernet: hypervolume of accuracy and latency over evaluations, against random.

    nas train --space tiny --data parquet:DIR --train-images 10000 --validation-images 5000 --epochs 30 --out runs/super
    python benchmarks/search_supernet.py --run runs/super [--seeds 5] [--evaluations 300] [--images 256] [--strategies ...]

A member's accuracy is the supernet's on `--images` validation images (extracted, calibrated and scored as in a search), its
latency that of the predictor fitted to `--table`. Loop, archive and strategies are those of `nas search`; nothing has a
budget. A score depends on the member alone, so all runs share one file of scores in `--out`, and a benchmark that was stopped
goes on where it was. `--report` plays nothing and writes what there is: benchmarks/results/search_supernet.json and a plot.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from safetensors import safe_open
from scipy.stats import t as student

import nas.search.strategy as strategies
from nas.predictors.environment import environment
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_table import LatencyTable
from nas.results.plots import plot
from nas.results.run import Run
from nas.search.archive import MEMORY, Archive
from nas.search.evaluation import SupernetEvaluator
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.pareto import hypervolume_2d
from nas.search.types import Problem
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.space import SearchSpace
from nas.supernet.checkpoint import load_checkpoint
from nas.supernet.data import load_data
from nas.supernet.supernet import Supernet

RESULTS = Path(__file__).parent / "results"
TABLE = RESULTS / "latency_predictor-tiny-cpu-eager-threads=1-batch=1-precision=fp32.table.json"
ORDER = ["random", "nsga2", "bo", "evolution", "local_search", "tpe", "surrogate", "bananas", "nsga3", "boshnas", "gp"]
CALIBRATION = 64
PROBED = 1000
BANDS = 3
SHOWN = (50, 100, 200, 300)

Array = NDArray[np.float64]
Point = tuple[float, float]


class Scores:
    """An evaluator that keeps what it found in a file of JSON lines, whose first line says of what the scores are."""

    def __init__(self, path: Path, about: Mapping[str, Any], evaluator: SupernetEvaluator) -> None:
        self.path, self.evaluator = path, evaluator
        self.known: dict[str, dict[str, float]] = {}
        lines = whole_lines(path)
        if lines and lines[0] != about:
            raise SystemExit(f"{path} holds scores of {lines[0]}, not of {about}; choose another --out")
        if not lines:
            append(path, dict(about))
        for line in lines[1:]:
            self.known[line.pop("digest")] = line

    def __call__(self, text: str) -> Mapping[str, float]:
        """Accuracy, loss and sizes of an architecture given as JSON."""
        digest = Architecture.from_json(text).digest
        if digest not in self.known:
            self.known[digest] = dict(self.evaluator(text))
            append(self.path, {"digest": digest, **self.known[digest]})
        return self.known[digest]


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON lines; what a killed process left unfinished is cut off."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


@dataclass(frozen=True)
class Bench:
    """What is searched: the space, the scores of its members, their latencies, and the worst point that counts."""

    space: SearchSpace
    evaluator: Scores
    predictor: LatencyPredictor
    reference: Point
    about: dict[str, Any]

    def latency(self, architecture: Architecture) -> float:
        """The predicted latency in seconds, to nine digits, which are the same in every process."""
        return float(f"{self.predictor.predict([architecture]).mean[0]:.9g}")

    def play(self, name: str, seed: int, evaluations: int) -> list[Point]:
        """Minus the accuracy and the latency of each candidate, in order."""
        problem = Problem(self.space, lambda one: {"latency": self.latency(one)}, None, ("accuracy", "latency"))
        with Archive(MEMORY, self.space, problem.objectives) as archive:
            found = strategies.create(name, problem, seed)
            run_search(problem, found, archive, LocalExecutor(self.evaluator), evaluations=evaluations)
            return [(-trial.metrics["accuracy"], trial.metrics["latency"]) for trial in archive.trials()]


def prepare(options: argparse.Namespace) -> Bench:
    """Read the run's supernet and data, and the latency table."""
    torch.set_num_threads(1)
    run = Run.open(options.run)
    config = run.config()
    space = config.search_space()
    data = load_data(config.data, max(space.resolutions), config.train_images, config.validation_images)
    supernet = Supernet(space, len(data.classes), data.in_channels, unshared=config.training.unshared)
    with safe_open(str(run.checkpoint), framework="pt") as file:
        identity = file.metadata()["identity"]
    _, averages = load_checkpoint(run.checkpoint, supernet, None, identity)
    supernet.load_state_dict(averages, strict=False)
    few = replace(data, train=data.train.take(spread(len(data.train), CALIBRATION)), validation=data.validation.take(
        spread(len(data.validation), options.images)))  # fmt: skip
    about = {"weights": identity, "data": config.data, "images": options.images, "calibration": CALIBRATION}
    table = LatencyTable.load(options.table)
    predictor = LatencyPredictor.fit(table)
    rng = random.Random("reference")
    slowest = predictor.predict([space.sample(rng) for _ in range(PROBED)]).mean.max()
    reference = (-1.0 / len(data.classes), float(f"{slowest:.6g}"))
    scores = Scores(options.out / "scores.jsonl", about, SupernetEvaluator(supernet.eval(), few, 1))
    return Bench(space, scores, predictor, reference, {**about, "target": str(table.target), "reference": reference})


def spread(total: int, count: int) -> torch.Tensor:
    """`count` numbers below `total` at equal steps."""
    return torch.linspace(0, total - 1, min(count, total)).round().long()


def curve(points: Sequence[Point], reference: Point) -> list[float]:
    """The hypervolume below the reference after each evaluation, as a share of the box of accuracy 1 and latency 0."""
    box = (reference[0] + 1.0) * reference[1]
    return [hypervolume_2d(points[: count + 1], reference) / box for count in range(len(points))]


def interval(values: Array) -> tuple[float, float]:
    """The mean of a few values and half of its 95 % interval by Student's t; NaN where one value tells no spread."""
    if len(values) < 2:
        return float(values.mean()) if len(values) else math.nan, math.nan
    reach = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(reach)


def report(options: argparse.Namespace) -> None:
    """Print the table, write the results and the plot, of all whole runs there are."""
    lines = whole_lines(options.out / "runs.jsonl")
    about, runs = lines[0], [line for line in lines[1:] if line["evaluations"] == options.evaluations]
    reference = (about["reference"][0], about["reference"][1])
    front = curve([tuple(point) for run in runs for point in run["points"]], reference)[-1]  # type: ignore[misc]
    curves: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        curves.setdefault(run["strategy"], {})[run["seed"]] = curve([(p[0], p[1]) for p in run["points"]], reference)
    rows = {name: row(found, curves.get("random", {}), front) for name, found in curves.items()}
    shown = [step for step in SHOWN if step <= options.evaluations]
    print(
        f"| strategy | seeds | {' | '.join(f'at {n}' for n in shown)} | over random at the end |\n{'|---' * (len(shown) + 3)}|"
    )
    for name, found in sorted(rows.items(), key=lambda pair: -pair[1]["share"][-1][0]):
        cells = [f"{found['share'][n - 1][0]:.3f} ± {found['share'][n - 1][1]:.3f}" for n in shown]
        lead = "{:+.3f} ± {:.3f}".format(*found["lead"])
        print(f"| {name} | {found['seeds']} | {' | '.join(cells)} | {lead} |")
    steps = {str(n): n for n in shown}
    plain = {name: {**found, "share": {key: found["share"][n - 1] for key, n in steps.items()}} for name, found in rows.items()}
    about["data"] = Path(about["data"]).name  # of a path of this machine, its last part
    written = {"about": about, "evaluations": options.evaluations, "front_of_all": front, "strategies": plain}
    written["environment"] = environment()
    known = json.loads(json.dumps(written), parse_constant=lambda _: None)
    (RESULTS / "search_supernet.json").write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (RESULTS / "search_supernet.svg").write_text(painted(rows), encoding="utf-8")


def row(found: Mapping[int, list[float]], randoms: Mapping[int, list[float]], front: float) -> dict[str, Any]:
    """Shares of the hypervolume of everything found by anyone, and the lead over random with the same seeds."""
    shares = np.array([found[seed] for seed in sorted(found)]) / front
    paired = [found[seed][-1] - randoms[seed][-1] for seed in sorted(found) if seed in randoms]
    return {
        "seeds": len(shares),
        "share": [interval(column) for column in shares.T],
        "lead": interval(np.array(paired) / front),
        "final": shares[:, -1].tolist(),
    }


def painted(rows: Mapping[str, dict[str, Any]]) -> str:
    """Means over evaluations, the first few with their intervals, as SVG."""

    def paint(axes: Axes) -> None:
        for number, (name, found) in enumerate(sorted(rows.items(), key=lambda pair: -pair[1]["share"][-1][0])):
            middle, half = np.array(found["share"]).T
            steps = np.arange(1, len(middle) + 1)
            (line,) = axes.plot(steps, middle, linewidth=1.3, label=name, linestyle="-" if number < 8 else "--")
            if number < BANDS:
                axes.fill_between(steps, middle - half, middle + half, color=line.get_color(), alpha=0.1, linewidth=0)
        axes.set_ylim(0.5, 1.0)
        axes.set_xlabel("evaluations")
        axes.set_ylabel("share of the hypervolume of all")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)

    return plot(paint, 7.0, 4.0)


def main() -> None:
    """Play what is missing, seed by seed, so that a stopped benchmark has some of everything; then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder with a trained supernet")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--out", type=Path, default=Path("runs/search_supernet"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--strategies", nargs="+", default=ORDER)
    parser.add_argument("--report", action="store_true", help="play nothing")
    options = parser.parse_args()
    if not options.report:
        if options.run is None:
            parser.error("--run names the folder of a trained supernet")
        play(options)
    report(options)


def play(options: argparse.Namespace) -> None:
    """All runs that are asked for and not yet there."""
    path, bench = options.out / "runs.jsonl", prepare(options)
    lines = whole_lines(path)
    if not lines:
        append(path, bench.about)
    known = {(run["strategy"], run["seed"], run["evaluations"]) for run in lines[1:]}
    for seed in range(options.seeds):
        for name in options.strategies:
            if (name, seed, options.evaluations) not in known:
                points = bench.play(name, seed, options.evaluations)
                append(path, {"strategy": name, "seed": seed, "evaluations": options.evaluations, "points": points})
                share = curve(points, bench.reference)[-1]
                print(f"{name} {seed}: {share:.4f}, {len(bench.evaluator.known)} scores", flush=True)


if __name__ == "__main__":
    main()
