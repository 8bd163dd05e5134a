"""What a run may limit or optimise: the names of metrics, and those that are known without evaluating anything.

`latency` is that of the run's own target; `latency@TARGET` that of another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nas.errors import UnknownNameError, UsageError
from nas.predictors.memory import peak_memory
from nas.predictors.target import Target
from nas.search.types import format_metric
from nas.search_spaces.architecture import Architecture

LATENCY = "latency"
BUDGETS = (LATENCY, "params", "macs", "memory", "energy")
OBJECTIVES = ("accuracy", "loss", *BUDGETS)


def canonical(name: str, own: Target, what: str, known: Iterable[str]) -> str:
    """The name of a metric as a run writes it: `latency@TARGET` with all parts of the target, `latency` for the run's `own`.

    Raises UsageError for energy, which nothing here measures, for a target of anything but a latency and for a target that
    cannot be read, UnknownNameError with the nearest name for a metric that is none.
    """
    kind, at, place = name.partition("@")
    if kind not in known:
        raise UnknownNameError(what, kind, known)
    if kind == "energy":
        raise UsageError(f"{what} energy: a search does not measure the energy of networks; take the latency, MACs or memory")
    if not at:
        return kind
    if kind != LATENCY:
        raise UsageError(f"{what} {name!r}: only a latency has a target; write {kind!r}")
    target = Target.parse(place)
    return LATENCY if target == own else f"{LATENCY}@{target}"


def canonical_budgets(budgets: Mapping[str, float], own: Target) -> dict[str, float]:
    """The budgets under their canonical names. Raises UsageError where two of them limit the same."""
    found: dict[str, float] = {}
    for name, limit in budgets.items():
        metric = canonical(name, own, "budget", BUDGETS)
        if metric in found:
            both = " and ".join(format_metric(metric, value) for value in (found[metric], limit))
            raise UsageError(
                f"latency on {own if metric == LATENCY else metric.partition('@')[2]} has two budgets, {both}; keep one"
            )
        found[metric] = limit
    return found


def canonical_objectives(objectives: Iterable[str], own: Target) -> tuple[str, ...]:
    """The objectives under their canonical names. Raises UsageError for none, a repeated one, or none that tells quality."""
    found = [canonical(name, own, "objective", OBJECTIVES) for name in objectives]
    for name in found:
        if found.count(name) > 1:
            raise UsageError(f"objective {name!r} is given twice; keep one")
    if not {"accuracy", "loss"} & set(found):
        raise UsageError(
            f"the objectives {', '.join(found) or '(none)'} leave out how good a network is; write accuracy first, "
            f"e.g. {','.join(['accuracy', *found] if found else ['accuracy', LATENCY])}"
        )
    return tuple(found)


def budgets_told(budgets: Mapping[str, float], own: str) -> str:
    """Budgets as a summary tells them: `latency 5 ms on cpu:eager, latency 2 ms on cpu:onnxruntime, params 5M`."""
    found = []
    for name, limit in budgets.items():
        kind, _, place = name.partition("@")
        where = f" on {place or own}" if kind == LATENCY else ""
        found.append(f"{kind} {format_metric(name, limit)}{where}")
    return ", ".join(found) or "none"


def split_objectives(text: str) -> list[str]:
    """The names in `accuracy,latency@cpu:onnxruntime,threads=2,macs`: a part with `=` belongs to the target before it."""
    found: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if "=" in part and found:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def memory(architecture: Architecture, target: Target, num_classes: int, in_channels: int) -> float:
    """Bytes at the worst moment of an inference on a target, by the graph: see `nas.predictors.memory.peak_memory`."""
    return float(
        peak_memory(
            architecture, num_classes=num_classes, in_channels=in_channels, batch=target.batch, precision=target.precision,
            runtime=target.runtime,
        )
    )  # fmt: skip
