"""The plots of a report, each as SVG text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nas.errors import UsageError
from nas.files import replacing
from nas.results.draw import to_svg
from nas.results.front import axes_of, hypervolume, pareto
from nas.results.metrics import of_target
from nas.results.report_data import CandidatePoint, TrainingPoint
from nas.search.types import format_metric

DOT, _FAINT, FRONT, _BUDGET, _STAR = "#4878a8", "#c3c9d1", "#c8553d", "#7a7a7a", "#f2b134"
_SCREENED = "#b9d3ea"
_CHECKPOINTS = 100
_NEAR = 1.5
_KINDS = (".png", ".svg", ".pdf")
_STYLE = {
    "svg.fonttype": "path",
    "svg.hashsalt": "nas",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e9ed",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def front_plot(candidates: Sequence[CandidatePoint], budget: float | None, winner: str | None, metric: str = "latency") -> str:
    """Accuracy over a metric, a predicted latency or a size: all candidates, the front, the budget, the winner by digest."""
    return plot(lambda axes: paint_front(axes, candidates, budget, winner, metric), 7.4, 4.2)


def paint_front(
    axes: Axes, candidates: Sequence[CandidatePoint], budget: float | None, winner: str | None, metric: str
) -> None:
    """See `front_plot`. What was scored on few images is shown apart, and is no part of the front."""
    full = [c for c in candidates if c.full]
    for part, colour, label in (
        ([c for c in candidates if not c.full], _SCREENED, "scored on few images"),
        ([c for c in full if not c.feasible], _FAINT, "over a budget"),
        ([c for c in full if c.feasible], DOT, "within the budgets"),
    ):
        xs, ys = [c.value(metric) for c in part], [c.accuracy for c in part]
        if part:
            axes.scatter(xs, ys, s=14, color=colour, alpha=0.75, linewidths=0, label=f"{label} ({len(part)})")
    front = [full[i] for i in pareto([(c.value(metric), c.accuracy) for c in full])]
    xs, ys = [c.value(metric) for c in front], [c.accuracy for c in front]
    axes.step(xs, ys, where="post", color=FRONT, linewidth=1.3, label=f"Pareto front ({len(front)})")
    axes.scatter(xs, ys, s=18, color=FRONT, linewidths=0, zorder=3)
    if budget:
        # A budget far beyond all candidates would press them into a corner.
        near = budget <= _NEAR * max((c.value(metric) for c in candidates), default=budget)
        label = f"budget {format_metric(metric, budget)}" + ("" if near else ", far to the right")
        axes.axvline(budget if near else math.nan, color=_BUDGET, linestyle="--", linewidth=1.1, label=label)
    for chosen in [c for c in candidates if c.digest == winner][:1]:
        at = [chosen.value(metric)], [chosen.accuracy]
        axes.scatter(*at, s=190, marker="*", color=_STAR, edgecolors="#22262b", linewidths=0.8, zorder=4, label="winner")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_metric(metric, value) if value else "0"))
    axes.set_xlabel(f"predicted {metric}" if of_target(metric) else metric)
    axes.set_ylabel("accuracy on validation data")
    axes.legend(loc="lower right")


def latency_plot(held_out: Sequence[tuple[float, float]]) -> str:
    """Predicted against measured latency of held-out networks, with the diagonal and a band of 10 %."""

    def paint(axes: Axes) -> None:
        scale, unit = time_axis([value for pair in held_out for value in pair])
        measured, predicted = [m / scale for _, m in held_out], [p / scale for p, _ in held_out]
        low, high = min(measured + predicted) * 0.92, max(measured + predicted) * 1.08
        axes.fill_between([low, high], [0.9 * low, 0.9 * high], [1.1 * low, 1.1 * high], color="#e3ebf3", label="within 10 %")
        axes.plot([low, high], [low, high], color=_BUDGET, linewidth=1)
        axes.scatter(
            measured, predicted, s=20, color=DOT, alpha=0.85, linewidths=0, label=f"held-out networks ({len(held_out)})"
        )
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_aspect("equal")
        axes.set_xlabel(f"measured ({unit})")
        axes.set_ylabel(f"predicted ({unit})")
        axes.legend(loc="upper left")

    return plot(paint, 4.6, 4.4)


def progress_plot(candidates: Sequence[CandidatePoint], budget: float | None) -> str:
    """The best accuracy within the budgets, and the hypervolume of the front, after each evaluation."""
    ordered = sorted(candidates, key=lambda c: c.number)
    counts = sorted({max(1, round((i + 1) * len(ordered) / _CHECKPOINTS)) for i in range(_CHECKPOINTS)})
    reference = (budget or max(c.latency for c in ordered), min(c.accuracy for c in ordered))
    volumes = [hypervolume([(c.latency, c.accuracy) for c in ordered[:n] if c.full], reference) for n in counts]
    chosen = [c.accuracy if c.feasible and c.full else -math.inf for c in ordered]
    best = [value if value > -math.inf else math.nan for value in itertools.accumulate(chosen, max)]

    def paint(axes: Axes) -> None:
        lines = axes.step(range(1, len(best) + 1), best, where="post", color=FRONT, label="best accuracy within the budgets")
        axes.set_xlabel("evaluations")
        axes.set_ylabel("accuracy on validation data")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        right = axes.twinx()
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        top = max(volumes) or 1.0
        lines += right.plot(counts, [v / top for v in volumes], color=DOT, label="hypervolume (of its final value)")
        right.set_ylim(0, 1.05)
        axes.legend(handles=lines, loc="lower right")

    return plot(paint, 7.4, 3.2)


def training_plot(rows: Sequence[TrainingPoint]) -> str:
    """Loss and accuracy of the supernet over its epochs."""

    def paint(axes: Axes) -> None:
        lines = axes.plot([r.epoch for r in rows], [r.loss for r in rows], color=FRONT, label="loss")
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        known = [(r.epoch, r.accuracy) for r in rows if r.accuracy is not None]
        if known:
            right = axes.twinx()
            right.grid(visible=False)
            right.spines["right"].set_visible(True)
            right.set_ylabel("accuracy")
            lines += right.plot(*zip(*known, strict=True), color=DOT, label="accuracy on validation data")
        axes.legend(handles=lines, loc="center right")

    return plot(paint, 7.4, 3.0)


def save_fronts(
    path: Path, candidates: Sequence[CandidatePoint], objectives: Sequence[str], budgets: Mapping[str, float]
) -> None:
    """Draw accuracy over each other objective, or over the latency, one plot above the other, as PNG, SVG or PDF.

    Raises UsageError for another kind of file or where there is nothing to draw, FileError where it cannot be written.
    """
    if path.suffix not in _KINDS:
        raise UsageError(f"cannot draw {path}: the file ends in one of {', '.join(_KINDS)}")
    if not candidates:
        raise UsageError("there is no candidate to draw yet; wait for the search")
    shown = [name for name in axes_of(objectives) if name not in ("accuracy", "loss")] or ["latency"]
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.4, 4.2 * len(shown)), layout="constrained")
        for axes, name in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
            paint_front(axes, candidates, budgets.get(name), None, name)
        with replacing(path) as scratch:
            figure.savefig(scratch, dpi=150)


def time_axis(seconds: Sequence[float]) -> tuple[float, str]:
    """The unit for an axis of these times: its length in seconds and its name."""
    largest = max(seconds)
    return (1.0, "s") if largest >= 1 else (1e-3, "ms") if largest >= 1e-3 else (1e-6, "µs")


def plot(paint: Callable[[Axes], None], width: float, height: float) -> str:
    """What `paint` draws on axes of so many inches, as SVG."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.add_subplot())
        return to_svg(figure)
