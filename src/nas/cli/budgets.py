"""Budgets and objectives as people write them on a command line: `--budget-latency 5ms@cpu:onnxruntime`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from nas.cli.options import quantity
from nas.errors import UsageError
from nas.quantities import parse_bytes, parse_count, parse_energy, parse_time


@dataclass(frozen=True, slots=True)
class PlacedBudget:
    """So many seconds or joules, on a target or, without one, on that of the run."""

    kind: str
    limit: float
    target: str | None = None

    @property
    def metric(self) -> str:
        """What the budget limits."""
        return self.kind if self.target is None else f"{self.kind}@{self.target}"


_EXAMPLES = {"latency": "5ms", "energy": "5mJ"}


def _placed(kind: str, parse: Callable[[str], float]) -> Callable[[str], PlacedBudget]:
    """Reads `5ms` or `5ms@TARGET`. The reader raises UsageError."""

    def read(text: str) -> PlacedBudget:
        amount, at, target = text.partition("@")
        if at and not target.strip():
            raise UsageError(f"cannot read {text!r}: no target follows the @; write it as '{_EXAMPLES[kind]}@cpu:onnxruntime'")
        return PlacedBudget(kind, parse(amount), target.strip() if at else None)

    return read


def _option(parse: Any, metavar: str, words: str) -> Any:
    return typer.Option(parser=quantity(parse, metavar), metavar=metavar, help=words)


Latencies = Annotated[
    list[Any] | None,
    _option(_placed("latency", parse_time), "TIME[@TARGET]", "Upper limit, e.g. 5ms, or 5ms@cpu:onnxruntime; one a target."),
]
Energies = Annotated[
    list[Any] | None,
    _option(
        _placed("energy", parse_energy),
        "ENERGY[@TARGET]",
        "Upper limit of a run beyond rest, e.g. 5mJ, or 5mJ@cuda; one a target. A meter must count it (docs/latency.md).",
    ),
]
Params = Annotated[list[Any] | None, _option(parse_count, "COUNT", "Upper limit, e.g. 5M.")]
Macs = Annotated[list[Any] | None, _option(parse_count, "COUNT", "Upper limit, e.g. 0.3G.")]
Memory = Annotated[list[Any] | None, _option(parse_bytes, "BYTES", "Upper limit of an inference's peak, e.g. 64MiB.")]


def budgets_of(placed: Sequence[PlacedBudget], others: Mapping[str, Sequence[float] | None]) -> dict[str, float]:
    """The budgets by metric. Raises UsageError where one is given twice."""
    found: dict[str, float] = {}
    for budget in placed:
        if budget.metric in found:
            where, unit = "" if budget.target is None else f" for {budget.target}", _EXAMPLES[budget.kind]
            raise UsageError(f"--budget-{budget.kind} is given twice{where}; keep one, or name another target by {unit}@TARGET")
        found[budget.metric] = budget.limit
    for name, limits in others.items():
        if limits and len(limits) > 1:
            raise UsageError(f"--budget-{name} is given twice; keep one")
        found.update((name, limit) for limit in limits or ())
    return found


def own_target(names: Sequence[str], default: str) -> str:
    """What `latency` means where no --target says it: the first target that budgets or objectives name, if all name one."""
    placed = [name.partition("@") for name in names if name.partition("@")[0] in _EXAMPLES]
    return placed[0][2] if placed and all(at for _, at, _ in placed) else default
