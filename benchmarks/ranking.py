"""Which way of training a supernet ranks best, and at what cost: the table of docs/ranking.md.

    python benchmarks/ranking.py --data parquet:DIR --runs runs/ranking [--strategies uniform sandwich ...] [--seeds 0 1]
        [--passes 60] [--probes 24] [--probe-epochs 12] [--set learning_rate=2e-3]

Every strategy trains about as many networks on as many images: `--passes` counts the times that an image goes through a
network, so a strategy of four networks a step has a quarter of the epochs of one that trains a single network. The probes are
trained once, in the run of the first strategy and seed, and serve all. Each step is a command of `nas`, which is printed; what
is done is not done again. Writes benchmarks/results/ranking.json and ranking.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from nas.predictors.environment import environment
from nas.search_spaces.presets import load_space
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.strategies import Draw, training_strategy

RESULTS = Path(__file__).parent / "results" / "ranking"
SUPERNET = "supernet"


def passes_a_step(strategy: str, space: str) -> float:
    """How often an image goes through a network in a step from the middle of a training."""
    draw = Draw(load_space(space), 0, 5, 10, TrainingRecipe().networks)
    lessons = training_strategy(strategy).plan(draw).lessons
    return sum(lesson.rows[1] - lesson.rows[0] for lesson in lessons)


def nas(*arguments: str) -> str:
    """Run a command of `nas` and return what it prints."""
    print("nas " + shlex.join(arguments), flush=True)
    found = subprocess.run([sys.executable, "-m", "nas", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return found.stdout


def measure(options: argparse.Namespace, strategy: str, seed: int, probes_of: Path) -> dict[str, Any]:
    """Train and rank one supernet, as far as that is not done, and return its row of the table."""
    run = options.runs / f"{strategy}-{seed}"
    epochs = max(1, round(options.passes / passes_a_step(strategy, options.space)))
    sets = [part for text in options.set for part in ("--set", text)]
    train = [
        "train", "--space", options.space, "--data", options.data, "--train-images", str(options.train_images),
        "--validation-images", str(options.validation_images), "--strategy", strategy, "--epochs", str(epochs), "--batch",
        str(options.batch), "--seed", str(seed), "--threads", "1", *sets, "--out", str(run),
    ]  # fmt: skip
    history = nas("train", "--resume", str(run), "--json") if (run / "config.yaml").exists() else nas(*train, "--json")
    rank = ["rank", str(run), "--probes", str(options.probes), "--epochs", str(options.probe_epochs), "--threads", "1"]
    beside = [] if run == probes_of else ["--probes-of", str(probes_of)]
    rank += beside
    found = json.loads(nas(*rank, "--json"))
    seconds = sum(row["seconds"] for row in json.loads(history)["history"])
    return {"strategy": strategy, "seed": seed, "epochs": epochs, "seconds": seconds, "commands": [train, rank], "found": found}


def row_of(measured: dict[str, Any]) -> str:
    """A row of the table: the supernet's tau, and what it is ahead of the best other score where MACs are alike."""
    found = measured["found"]
    alike = {name: one["tau"] for name, one in found["similar_macs"].items()}
    best = max((name for name in alike if name != SUPERNET), key=lambda name: alike[name])
    tau, (low, high) = found["tau"], found["tau_interval"]
    return (
        f"| {measured['strategy']} | {measured['seed']} | {measured['epochs']} | {measured['seconds'] / 60:.0f} | "
        f"{tau:.2f} ({low:.2f} to {high:.2f}) | {found['rho']:.2f} | {alike[SUPERNET]:.2f} | {alike[best]:.2f} {best} |"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The strategies and, below, the other scores on the same probes."""
    head = "| strategy | seed | epochs | minutes | tau (95 %) | rho | tau, similar MACs | best other score there |"
    lines = [head, "|" + "---|" * 8, *(row_of(row) for row in rows), ""]
    others = rows[0]["found"]["agreements"].items()
    lines += ["| score | tau (95 %) | rho |", "|---|---|---|"]
    lines += [
        f"| {name} | {one['tau']:.2f} ({one['tau_low']:.2f} to {one['tau_high']:.2f}) | {one['rho']:.2f} |"
        for name, one in others
        if name != SUPERNET
    ]
    commands = ["nas " + shlex.join(command) for row in rows for command in row["commands"]]
    return "\n".join([*lines, "", "Commands:", "", "```", *commands, "```", ""])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--strategies", nargs="+", default=["uniform", "split_batch", "sandwich", "alpha", "nested"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--passes", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--probes", type=int, default=24)
    parser.add_argument("--probe-epochs", type=int, default=12)
    parser.add_argument("--train-images", type=int, default=10000)
    parser.add_argument("--validation-images", type=int, default=5000)
    parser.add_argument("--set", action="append", default=[], help="another field of the recipe, NAME=VALUE")
    options = parser.parse_args()
    probes_of = options.runs / f"{options.strategies[0]}-{options.seeds[0]}"
    rows = []
    for seed in options.seeds:
        for strategy in options.strategies:
            rows.append(measure(options, strategy, seed, probes_of))
            RESULTS.with_suffix(".md").write_text(table(rows))
            told = {"rows": rows, "environment": environment()}
            RESULTS.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
            print(table(rows), flush=True)


if __name__ == "__main__":
    main()
