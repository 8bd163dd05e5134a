"""`ranking.html`: what a ranking found, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from nas.files import write_text
from nas.quantities import format_count
from nas.results.plots import DOT, FRONT, plot
from nas.results.ranking.scores import ACCURACY
from nas.results.report import CSS

if TYPE_CHECKING:
    from nas.results.ranking.agreement import Agreement, Bias
    from nas.results.ranking.ranking import RankingOutcome


def write_ranking_report(path: Path, outcome: RankingOutcome, space: str, data: str, strategy: str) -> None:
    """Write the page atomically. Raises FileError where it cannot be written."""
    first = next(iter(outcome.agreements.values()))
    write_text(
        path,
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Ranking of {escape(space)}</title><style>{CSS}</style>"
        f"<h1>How far the supernet's ranking can be trusted</h1><p class='soft'>{first.n} networks of {escape(space)} on "
        f"{escape(data)}, supernet trained by {escape(strategy)}; the dearest has {outcome.span:.0f} times the MACs of the "
        f"cheapest; ranked by {escape(outcome.how)}</p>"
        f"<div class='cards'>{_card('Kendall', first.tau, first.tau_low, first.tau_high)}"
        f"{_card('Spearman', first.rho, first.rho_low, first.rho_high)}</div>"
        f"<figure>{scores_plot(outcome.rows, _accuracy(outcome))}</figure><h2>Against other scores</h2>{_agreements(outcome)}"
        f"<p>Ahead of the best other score among networks of similar MACs: {escape(str(outcome.lead))}{_ceiling(outcome)}</p>"
        f"<h2>Favoured and punished operators</h2><p class='soft'>Places, as shares of all networks, by which the supernet "
        f"ranks networks of an operator higher (+) or lower (-) than training alone, with 95 % intervals</p>"
        f"{_biases('family', outcome.family_biases)}{_biases('operator', outcome.biases)}"
        f"<h2>Networks</h2>{_networks(outcome.rows, _accuracy(outcome))}</html>",
    )


def scores_plot(rows: Sequence[Mapping[str, Any]], inherited: str) -> str:
    """Accuracy with inherited weights, of that name, over accuracy after training alone, dots as large as their MACs."""

    def paint(axes: Axes) -> None:
        most = max(row["macs"] for row in rows)
        sizes = [12 + 90 * row["macs"] / most for row in rows]
        xs, ys = [row["accuracy"] for row in rows], [row[inherited] for row in rows]
        axes.scatter(xs, ys, s=sizes, color=DOT, alpha=0.7, linewidths=0, label="area: MACs")
        axes.axline((min(xs), min(xs)), slope=1.0, color=FRONT, linewidth=0.8, linestyle="--", label="equal")
        axes.set_xlim(min(xs) - 0.02, max(xs) + 0.02)
        axes.set_ylim(min(ys) - 0.02, max(ys) + 0.02)
        axes.set_xlabel("accuracy after training alone")
        axes.set_ylabel("accuracy with the supernet's weights")
        axes.legend(loc="lower right")

    return plot(paint, 6.4, 4.6)


def _ceiling(outcome: RankingOutcome) -> str:
    """How far training alone agrees with itself, where that is known."""
    most = outcome.ceiling
    told = "; training alone agrees with itself, with other seeds, by"
    return "" if most is None else f"{told} {most.tau:.2f} [{most.tau_low:.2f}, {most.tau_high:.2f}]"


def _accuracy(outcome: RankingOutcome) -> str:
    """The name of the accuracy with inherited weights among the scores."""
    first = next(iter(outcome.agreements))
    return first if outcome.score == ACCURACY else f"{first}:{ACCURACY}"


def _card(name: str, value: float, low: float, high: float) -> str:
    return f"<div class='card'><b>{value:.2f}</b><span>{name}, 95 % interval {low:.2f} to {high:.2f}</span></div>"


def _agreements(outcome: RankingOutcome) -> str:
    def cells(found: Agreement) -> str:
        return (
            f"<td class='n'>{found.tau:.2f} [{found.tau_low:.2f}, {found.tau_high:.2f}]</td><td class='n'>{found.rho:.2f}</td>"
        )

    rows = "".join(
        f"<tr><td>{escape(name)}</td>{cells(found)}{cells(outcome.similar[name])}</tr>"
        for name, found in outcome.agreements.items()
    )
    alike = next(iter(outcome.similar.values())).n
    head = "<th class='n'>Kendall</th><th class='n'>Spearman</th>"
    return (
        f"<table><tr><th>score</th>{head}<th class='n'>Kendall, {alike} of similar MACs</th><th class='n'>Spearman</th></tr>"
        f"{rows}</table>"
    )


def _biases(what: str, biases: Sequence[Bias]) -> str:
    rows = "".join(
        f"<tr><td>{escape(bias.name)}</td><td class='n'>{bias.shift:+.2f}</td>"
        f"<td class='n'>{bias.low:+.2f} to {bias.high:+.2f}</td><td class='n'>{bias.networks}</td></tr>"
        for bias in biases
    )
    head = f"<th>{what}</th><th class='n'>shift</th><th class='n'>interval</th><th class='n'>networks</th>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _networks(rows: Sequence[Mapping[str, Any]], inherited: str) -> str:
    found = "".join(
        f"<tr><td><code>{row['digest']}</code></td><td class='n'>{format_count(row['macs'])}</td>"
        f"<td class='n'>{format_count(row['params'])}</td><td class='n'>{row['accuracy']:.2%}</td>"
        f"<td class='n'>{row[inherited]:.2%}</td></tr>"
        for row in rows
    )
    head = "<th>network</th>" + "".join(f"<th class='n'>{name}</th>" for name in ("MACs", "parameters", "alone", "inherited"))
    return f"<table><tr>{head}</tr>{found}</table>"
