"""The tables of docs/ranking.md: supernets and how they rank, other scores, and the commands that give them."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from statistics import fmean
from typing import Any

from nas.results.config import SearchConfig
from nas.supernet.recipe import TrainingRecipe

_OPTIONS = {"strategy": "--strategy", "epochs": "--epochs", "batch": "--batch", "augment": "--augment", "unshared": "--unshare"}
Row = Mapping[str, Any]


def changed(recipe: TrainingRecipe) -> dict[str, Any]:
    """The fields of a recipe that are not at their defaults, without the seed."""
    usual = TrainingRecipe()
    found = {field.name: getattr(recipe, field.name) for field in fields(recipe) if field.name != "seed"}
    return {name: value for name, value in found.items() if value != getattr(usual, name)}


def label(recipe: TrainingRecipe) -> str:
    """A recipe in short: its strategy, and what else is not as usual."""
    others = ", ".join(f"{name}={value}" for name, value in changed(recipe).items() if name != "strategy")
    return f"{recipe.strategy} ({others})" if others else recipe.strategy


def command(config: SearchConfig, name: str) -> str:
    """The command that trains a supernet; where the data lie is left open."""
    source, colon, _ = config.data.partition(":")
    recipe = config.training
    words = ["nas", "train", "--space", str(config.space["name"]), "--data", f"{source}:DIR" if colon else source]
    for option, value in (("--train-images", config.train_images), ("--validation-images", config.validation_images)):
        words += [option, str(value)] if value is not None else []
    told = {"strategy": recipe.strategy, "epochs": recipe.epochs, "batch": recipe.batch, **changed(recipe)}
    for field, value in told.items():
        words += [_OPTIONS[field], str(value)] if field in _OPTIONS else ["--set", f"{field}={value}"]
    return shlex.join([*words, "--seed", str(recipe.seed), "--threads", str(config.threads), "--out", f"runs/ranking/{name}"])


def interval(found: Mapping[str, float], name: str) -> str:
    """A figure with its 95 % interval."""
    return f"{found[name]:.2f} ({found[f'{name}_low']:.2f} to {found[f'{name}_high']:.2f})"


def ahead(found: Mapping[str, Any]) -> str:
    """The difference to the best other score, with its interval."""
    return f"{found['difference']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f}), {found['over']}"


def started(steps: int, keep: float) -> str:
    """So many steps, and from what share of the inherited weights where it is not all of them."""
    return str(steps) if keep == 1 else f"{steps} from {keep:g}"


def supernet_lines(rows: Sequence[Row]) -> list[str]:
    """A row for each supernet, number of steps and score."""
    names = ("supernet", "seed", "training, CPU min", "steps", "a network, CPU s", "score", "tau (95 %)", "rho (95 %)")
    lines = [
        f"| {' | '.join((*names, 'tau, similar MACs', 'ahead of the best other there (paired 95 %)'))} |",
        "|" + "---|" * 10,
    ]
    for row in rows:
        minutes = f"{row['training_seconds'] / 60:.0f}{'' if row['training_clock'] == 'cpu' else ' (wall)'}"
        for score, found in row["scores"].items():
            cells = [
                row["label"],
                row["seed"],
                minutes,
                started(row["steps"], row["adapt_keep"]),
                f"{row['scoring_seconds']:.1f}",
                score,
            ]
            cells += [interval(found["all"], "tau"), interval(found["all"], "rho"), f"{found['similar']['tau']:.2f}"]
            lines.append(f"| {' | '.join(map(str, [*cells, ahead(found['lead'])]))} |")
    return lines


def mean_lines(rows: Sequence[Row]) -> list[str]:
    """What several seeds of one recipe give on average, of those that have several."""
    groups: dict[tuple[str, int, float, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for score, found in row["scores"].items():
            groups[row["label"], row["steps"], row["adapt_keep"], score].append((found["all"]["tau"], found["similar"]["tau"]))
    several = {key: pairs for key, pairs in groups.items() if len(pairs) > 1}
    if not several:
        return []
    lines = ["| supernet | steps | score | seeds | mean tau | from, to | mean tau, similar MACs |", "|" + "---|" * 7]
    for (name, steps, keep, score), pairs in several.items():
        taus, alike = zip(*pairs, strict=True)
        span = f"{min(taus):.2f}, {max(taus):.2f}"
        means = f"{len(taus)} | {fmean(taus):.2f} | {span} | {fmean(alike):.2f}"
        lines.append(f"| {name} | {started(steps, keep)} | {score} | {means} |")
    return lines


def baseline_lines(baselines: Mapping[str, Row], alone: Sequence[Row] = ()) -> list[str]:
    """The scores that need no supernet; those of networks that were trained alone for some steps are no baselines."""
    lines = ["| other score | tau (95 %) | rho (95 %) | tau, similar MACs |", "|---|---|---|---|"]
    trained = {
        f"{score} of fresh weights after {row['steps']} steps, {row['scoring_seconds']:.1f} CPU s a network": found
        for row in alone
        for score, found in row["scores"].items()
    }
    for name, found in sorted({**baselines, **trained}.items(), key=lambda item: -item[1]["all"]["tau"]):
        told = interval(found["all"], "tau"), interval(found["all"], "rho"), f"{found['similar']['tau']:.2f}"
        lines.append(f"| {name} | {' | '.join(told)} |")
    return lines


def probe_line(about: Mapping[str, Any]) -> str:
    """How many probes there are, how they span the space, and how far training alone agrees with itself."""
    seeds = f"{about['fewest_seeds']}" if about["fewest_seeds"] == about["most_seeds"] else "{fewest_seeds} to {most_seeds}"
    told = f"{about['probes']} probes, the dearest with {about['macs_span']:.1f} times the MACs of the cheapest, "
    told += f"{seeds.format(**about)} seeds each; {about['similar']} of them have similar MACs. "
    if about["ceiling"] is None:
        return told + "With one seed a probe nothing tells how far training alone agrees with itself."
    tau = interval(about["ceiling"], "tau")
    return (
        told + f"Two trainings of the same probes with different seeds agree by tau {tau} on {about['ceiling']['n']} of them."
    )


def markdown(found: Mapping[str, Any]) -> str:
    """All of it."""
    rows = sorted(found["rows"], key=lambda row: (row["label"], row["seed"], row["steps"], -row["adapt_keep"]))
    rows = sorted(rows, key=lambda row: row["label"].endswith("†"))  # last, what code of before has trained
    commands = dict.fromkeys(row["command"] for row in rows)
    console = ["```console", *(f"$ {one}" for one in commands), "```"]
    parts = (
        [probe_line(found["probes"])],
        supernet_lines(rows),
        mean_lines(rows),
        baseline_lines(found["baselines"], found["alone"]),
        console,
    )
    return "\n\n".join("\n".join(part) for part in parts if part)
