"""What a run may limit or optimise: the names of metrics, and those that are known without evaluating anything.

`latency` is that of the run's own target, `latency@TARGET` that of another one; so are `energy` and `energy@TARGET`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nas.errors import UnknownNameError, UsageError
from nas.predictors.memory import peak_memory
from nas.predictors.target import Target
from nas.search.types import format_metric
from nas.search_spaces.architecture import Architecture

LATENCY, ENERGY = "latency", "energy"
PLACED = (LATENCY, ENERGY)
"""What is of a target: measured on it, predicted, and verified."""
BUDGETS = (*PLACED, "params", "macs", "memory")
OBJECTIVES = ("accuracy", "loss", *BUDGETS)


def canonical(name: str, own: Target, what: str, known: Iterable[str]) -> str:
    """The name of a metric as a run writes it: `latency@TARGET` with all parts of the target, `latency` for the run's `own`.

    Raises UsageError for a target of a size, for one that cannot be read, and for the energy of one elsewhere, where nothing
    counts it, UnknownNameError with the nearest name for a metric that is none.
    """
    kind, at, place = name.partition("@")
    if kind not in known:
        raise UnknownNameError(what, kind, known)
    if at and kind not in PLACED:
        raise UsageError(f"{what} {name!r}: only a latency or an energy has a target; write {kind!r}")
    target = Target.parse(place) if at else own
    if kind == ENERGY and target.place:
        raise UsageError(f"{what} energy: agents count no energy, and {target} is one's; take a target of this machine")
    return named(kind, target, own)


def named(kind: str, target: Target, own: Target) -> str:
    """What a run whose own target is `own` calls the latency or the energy of a target, or a metric that has none."""
    return kind if target == own or kind not in PLACED else f"{kind}@{target}"


def of_target(metric: str) -> bool:
    """Whether a metric, or the upper bound of one, is told by the measurements of a target."""
    return metric.partition("@")[0].removesuffix("_upper") in PLACED


def canonical_budgets(budgets: Mapping[str, float], own: Target) -> dict[str, float]:
    """The budgets under their canonical names. Raises UsageError where two of them limit the same."""
    found: dict[str, float] = {}
    for name, limit in budgets.items():
        metric = canonical(name, own, "budget", BUDGETS)
        if metric in found:
            both = " and ".join(format_metric(metric, value) for value in (found[metric], limit))
            kind, _, place = metric.partition("@")
            raise UsageError(f"{kind} on {place or own} has two budgets, {both}; keep one")
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
    """Budgets as a summary tells them: `latency 5 ms on cpu:eager, energy 2 mJ on cpu:onnxruntime, params 5M`."""
    found = []
    for name, limit in budgets.items():
        kind, _, place = name.partition("@")
        where = f" on {place or own}" if kind in PLACED else ""
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
