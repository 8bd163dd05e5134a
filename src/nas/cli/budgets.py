"""Budgets and objectives as people write them on a command line: `--budget-latency 5ms@cpu:onnxruntime`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from nas.cli.options import quantity
from nas.errors import UsageError
from nas.quantities import parse_bytes, parse_count, parse_energy, parse_time


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """So many seconds, on a target or, without one, on that of the run."""

    seconds: float
    target: str | None = None

    @property
    def metric(self) -> str:
        """What the budget limits."""
        return "latency" if self.target is None else f"latency@{self.target}"


def parse_latency(text: str) -> LatencyBudget:
    """The budget of `5ms` or `5ms@TARGET`. Raises UsageError."""
    time, at, target = text.partition("@")
    if at and not target.strip():
        raise UsageError(f"cannot read {text!r}: no target follows the @; write it as '5ms@cpu:onnxruntime'")
    return LatencyBudget(parse_time(time), target.strip() if at else None)


def _option(parse: Any, metavar: str, words: str) -> Any:
    return typer.Option(parser=quantity(parse, metavar), metavar=metavar, help=words)


Latencies = Annotated[
    list[Any] | None, _option(parse_latency, "TIME[@TARGET]", "Upper limit, e.g. 5ms, or 5ms@cpu:onnxruntime; one a target.")
]
Params = Annotated[list[Any] | None, _option(parse_count, "COUNT", "Upper limit, e.g. 5M.")]
Macs = Annotated[list[Any] | None, _option(parse_count, "COUNT", "Upper limit, e.g. 0.3G.")]
Memory = Annotated[list[Any] | None, _option(parse_bytes, "BYTES", "Upper limit of an inference's peak, e.g. 64MiB.")]
Energy = Annotated[list[Any] | None, _option(parse_energy, "ENERGY", "Upper limit of an inference, e.g. 5mJ.")]


def budgets_of(latencies: Sequence[LatencyBudget] | None, others: Mapping[str, Sequence[float] | None]) -> dict[str, float]:
    """The budgets by metric. Raises UsageError where one is given twice."""
    found: dict[str, float] = {}
    for budget in latencies or ():
        if budget.metric in found:
            where = "" if budget.target is None else f" for {budget.target}"
            raise UsageError(f"--budget-latency is given twice{where}; keep one, or name another target by 5ms@TARGET")
        found[budget.metric] = budget.seconds
    for name, limits in others.items():
        if limits and len(limits) > 1:
            raise UsageError(f"--budget-{name} is given twice; keep one")
        found.update((name, limit) for limit in limits or ())
    return found


def own_target(names: Sequence[str], default: str) -> str:
    """What `latency` means where no --target says it: the first target that budgets or objectives name, if all name one."""
    latencies = [name for name in names if name.partition("@")[0] == "latency"]
    return default if not latencies or "latency" in latencies else latencies[0].partition("@")[2]
