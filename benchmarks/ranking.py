"""How supernets rank, by the way they were trained and the steps of adaptation: the tables of docs/ranking.md.

    python benchmarks/ranking.py --supernets DIR [--probes DIR ...] [--adapt 0 40] [--alone 40]
        [--adapt-rate 2e-3] [--adapt-keep 1 0.5] [--strategies uniform fair sandwich split_batch] [--seeds 0 1]

`--probes` holds the outcomes of probes that `nas rank` trained alone (`RUN/ranking/probes`, of several seeds where there are
several: their mean is the truth, and their agreement with each other the most that can be asked of a score); those of
benchmarks/results/ranking_probes unless others are given. `--supernets` holds a run of `nas train` in each folder. What is
there is scored, and kept in `ranking/` of each run, so that another call goes on where this one was stopped; what is missing
of the wanted strategies and seeds is told with the command that trains it. Supernets that an earlier call scored on the same
images and probes, and that are gone since, stay in the tables. For each number of steps, networks with fresh weights are
trained alone so long and scored too: what a supernet adds must show beside that.
Writes benchmarks/results/ranking.json and the tables between the marks in docs/ranking.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from ranking_table import command, label, markdown

from nas.errors import NasError
from nas.files import read_json, to_json, write_text
from nas.predictors.environment import environment
from nas.results.pipeline import SearchRun
from nas.results.ranking.agreement import agreement, lead
from nas.results.ranking.kept import KeptScores
from nas.results.ranking.outcomes import TrainedProbe, ceiling, counts_of_seeds, read_outcomes
from nas.results.ranking.probes import most_similar
from nas.results.ranking.scores import SCORES, alone_scores, baseline_scores, higher_is_better, inherited_scores
from nas.results.run import Run
from nas.supernet.adaptation import RATE, Adaptation
from nas.supernet.checkpoint import read_progress
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.strategies import Draw, training_strategy
from nas.supernet.training import trained_epochs

RESULTS = Path(__file__).parent / "results" / "ranking.json"
PROBES = Path(__file__).parent / "results" / "ranking_probes"
DOCS = Path(__file__).parent.parent / "docs" / "ranking.md"
BEGIN, END = "<!-- figures: python benchmarks/ranking.py -->", "<!-- end of figures -->"
Columns = Mapping[str, Sequence[float]]
Row = dict[str, Any]


def trained_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs in a folder whose supernet is trained to the end, and the commands that go on with the others."""
    found, left = [], []
    for path in sorted(folder.glob("*/config.yaml")):
        run = Run.open(path.parent)
        done, wanted = trained_epochs(run.checkpoint), run.config().training.epochs
        if done >= wanted:
            found.append(run)
        else:
            left.append(f"nas train --resume {run.path}    # {done} of {wanted} epochs")
    return found, left


def passes_a_step(recipe: TrainingRecipe, run: Run) -> float:
    """How often an image goes through a network in a step, on average over a training."""
    space, plan, steps = run.config().search_space(), training_strategy(recipe.strategy).plan, 50
    plans = (plan(Draw(space, 0, step, steps, recipe.networks)) for step in range(steps))
    return sum(lesson.rows[1] - lesson.rows[0] for each in plans for lesson in each.lessons) / steps


def missing(runs: Sequence[Run], rows: Sequence[Row], strategies: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Commands for the wanted supernets that are not there: as the first one, and with as many passes of an image."""
    first = runs[0].config()
    known = {(run.config().training.strategy, run.config().training.seed) for run in runs}
    known |= {(row["strategy"], row["seed"]) for row in rows}
    passes, found = first.training.epochs * passes_a_step(first.training, runs[0]), []
    for strategy, seed in product(strategies, seeds):
        if (strategy, seed) not in known:
            recipe = replace(first.training, strategy=strategy, seed=seed)
            recipe = replace(recipe, epochs=max(1, round(passes / passes_a_step(recipe, runs[0]))))
            found.append(command(replace(first, training=recipe), f"{strategy}-{seed}"))
    return found


def agreements(scores: Sequence[float], others: Columns, truth: Sequence[float], alike: Sequence[int]) -> dict[str, Any]:
    """The agreement on all probes and on those of similar MACs, and how far it is ahead of the best other score there."""

    def few(values: Sequence[float]) -> list[float]:
        return [values[i] for i in alike]

    found: dict[str, Any] = {"all": agreement(scores, truth).to_mapping()}
    found["similar"] = agreement(few(scores), few(truth)).to_mapping()
    if others:
        found["lead"] = lead(few(scores), {name: few(values) for name, values in others.items()}, few(truth)).to_mapping()
        found["lead_all"] = lead(scores, others, truth).to_mapping()
    return found


def scored_by(scores: KeptScores, probes: Sequence[TrainedProbe], what: str) -> dict[str, dict[str, float]]:
    """What all probes reach, by digest; `what` names it on the screen."""
    found = {}
    for probe in probes:
        found[probe.architecture.digest] = scores(probe.architecture)
        print(f"{what}: {len(found)}/{len(probes)}", file=sys.stderr, flush=True)
    return found


def compared(networks: Mapping[str, Mapping[str, float]], probes: Sequence[TrainedProbe], others: Columns) -> dict[str, Any]:
    """Of networks by digest: what scoring one costs, how either of their scores ranks, and what they reached."""
    found = [networks[probe.architecture.digest] for probe in probes]
    truth, alike = [probe.truth for probe in probes], most_similar(list(others["macs"]))
    return {
        "scoring_seconds": sum(one["cpu_seconds"] for one in found) / len(found),
        "scores": {
            score: agreements([higher_is_better(one, score) for one in found], others, truth, alike) for score in SCORES
        },
        "networks": dict(networks),
    }


def row(run: Run, probes: Sequence[TrainedProbe], others: Columns, steps: int, rate: float, keep: float) -> Row:
    """How one supernet ranks after so many steps from a share of its weights, and what it and the scores cost."""
    config = run.config()
    adaptation = Adaptation.of(config.training, steps, rate, keep)
    scores = inherited_scores(SearchRun(run.path, config), adaptation, run.path / "ranking")
    found = scored_by(scores, probes, f"{run.path.name}, {steps} steps from {keep:g} of the weights")
    history = read_progress(run.checkpoint)["history"]
    clock = "cpu" if all("cpu_seconds" in epoch for epoch in history) else "wall"
    return {
        "run": run.path.name,
        "label": label(config.training),
        "strategy": config.training.strategy,
        "seed": config.training.seed,
        "data": config.data_fingerprint,
        "command": command(config, run.path.name),
        "training_clock": clock,
        "training_seconds": sum(epoch["cpu_seconds" if clock == "cpu" else "seconds"] for epoch in history),
        "steps": steps,
        "adapt_rate": rate if steps else None,
        "adapt_keep": keep,
        **compared(found, probes, others),
    }


def alone(run: Run, probes: Sequence[TrainedProbe], others: Columns, steps: int, rate: float) -> Row:
    """How fresh weights rank after so many steps of training, on the images and by the recipe of a run."""
    config = run.config()
    adaptation = Adaptation.of(config.training, steps, rate)
    scores = alone_scores(SearchRun(run.path, config).data, adaptation, run.path.parent)
    found = scored_by(scores, probes, f"fresh weights, {steps} steps")
    about = {"data": config.data_fingerprint, "steps": steps, "adapt_rate": rate}
    return {**about, **compared(found, probes, others)}


def kept(part: str, same: Sequence[str], data: str, probes: Sequence[TrainedProbe]) -> list[Row]:
    """The rows of an earlier call, out of a part of its results, that are of the same images and of all these probes; of those
    that agree in the fields `same` the last."""
    earlier = read_json(RESULTS, "earlier results").get(part, []) if RESULTS.exists() else []
    wanted = {probe.architecture.digest for probe in probes}
    fit = (one for one in earlier if one.get("data") == data and wanted <= one["networks"].keys())
    return list({tuple(one[field] for field in same): one for one in fit}.values())


def comparable(runs: Sequence[Run], probes: Sequence[TrainedProbe]) -> list[Run]:
    """The runs on the data of the first one, whose spaces hold all probes; the others are named."""
    found, data = [], runs[0].config().data_fingerprint
    for run in runs:
        config = run.config()
        space = config.search_space()
        if config.data_fingerprint == data and all(space.contains(probe.architecture) for probe in probes):
            found.append(run)
        else:
            print(f"{run.path} is left out: it has other images, or its space lacks some of the probes", file=sys.stderr)
    return found


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Score what is there. Raises NasError where there is nothing to compare."""
    probes = read_outcomes(options.probes)
    runs, left = trained_runs(options.supernets)
    runs = comparable(runs, probes) if runs else []
    if not runs:
        raise NasError(
            f"no supernet to score lies in {options.supernets}: `nas train --out {options.supernets}/NAME` trains one"
        )
    first, rate = runs[0].config(), options.adapt_rate
    known = baseline_scores(SearchRun(runs[0].path, first).data, 0, options.supernets)
    each = [known(probe.architecture) for probe in probes]
    others = {name: [one[name] for one in each] for name in each[0]}
    alike, truth = most_similar(others["macs"]), [probe.truth for probe in probes]
    ways = [(steps, keep) for steps in options.adapt for keep in (options.adapt_keep if steps else [1.0])]
    rows = [row(run, probes, others, steps, rate, keep) for run, (steps, keep) in product(runs, ways)]
    alone_for = options.adapt if options.alone is None else options.alone
    fresh = [alone(runs[0], probes, others, steps, rate) for steps in alone_for if steps]
    rows = merged("rows", ("command", "steps", "adapt_rate", "adapt_keep"), rows, first.data_fingerprint, probes, others)
    fresh = merged("alone", ("steps", "adapt_rate"), fresh, first.data_fingerprint, probes, others)
    for text in [*left, *missing(runs, rows, options.strategies, options.seeds)]:
        print(f"missing: {text}", file=sys.stderr)
    most = ceiling(probes)
    about = {
        **counts_of_seeds(probes),
        "similar": len(alike),
        "macs_span": max(others["macs"]) / max(1.0, min(others["macs"])),
        "ceiling": None if most is None else most.to_mapping(),
        "networks": {probe.architecture.digest: dict(probe.accuracies) for probe in probes},
    }
    return {
        "probes": about,
        "baselines": {name: agreements(values, {}, truth, alike) for name, values in others.items()},
        "alone": fresh,
        "rows": rows,
        "environment": environment(),
    }


def merged(
    part: str, same: Sequence[str], new: Sequence[Row], data: str, probes: Sequence[TrainedProbe], others: Columns
) -> list[Row]:
    """The new rows, and those of earlier calls that none of them is in place of, compared with what the probes reach now."""
    replaced = {tuple(one[field] for field in same) for one in new}
    old = [one for one in kept(part, same, data, probes) if tuple(one[field] for field in same) not in replaced]
    return [*new, *({**one, **compared(one["networks"], probes, others)} for one in old)]


def write(found: Mapping[str, Any]) -> None:
    """The JSON file, and the tables between the marks of the page."""
    write_text(RESULTS, to_json(found) + "\n")
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    write_text(DOCS, f"{before}{BEGIN}\n{markdown(found)}\n{END}{after}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--probes", nargs="+", type=Path, default=[PROBES])
    parser.add_argument("--supernets", type=Path, required=True)
    parser.add_argument("--adapt", nargs="+", type=int, default=[0, 40])
    parser.add_argument("--alone", nargs="*", type=int, help="steps for which fresh weights are trained (default: as --adapt)")
    parser.add_argument("--adapt-rate", type=float, default=RATE)
    parser.add_argument(
        "--adapt-keep", nargs="+", type=float, default=[1.0], help="shares of the weights that steps begin with"
    )
    parser.add_argument("--strategies", nargs="+", default=["uniform", "fair", "sandwich", "split_batch"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    found = study(parser.parse_args(arguments))
    write(found)
    print(markdown(found))


if __name__ == "__main__":
    try:
        main()
    except NasError as error:
        sys.exit(f"error: {error}")
