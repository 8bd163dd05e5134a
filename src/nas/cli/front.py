"""`nas front`: the trade-off of one run, or of several together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import app
from nas.cli.budgets import Energies, Latencies, Macs, Memory, Params, budgets_of
from nas.cli.options import Json, write, write_json


@app.command()
def front(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, finished or not; `latency` is that of the first one's target.")
    ],
    objectives: Annotated[
        str | None, typer.Option(help="What to trade off, e.g. accuracy,macs (default: as the first run).", metavar="NAMES")
    ] = None,
    budget_latency: Latencies = None,
    budget_params: Params = None,
    budget_macs: Macs = None,
    budget_memory: Memory = None,
    budget_energy: Energies = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it as PNG, SVG or PDF.", metavar="FILE")] = None,
    as_json: Json = False,
) -> None:
    """Print the candidates that no other beats in all objectives, within the budgets of the first run or those given here.

    Candidates of all runs compete. What was scored on few images alone takes no part.
    """
    from nas.results.fronts import joint_front
    from nas.results.metrics import split_objectives
    from nas.results.run import Run

    placed = [*(budget_latency or ()), *(budget_energy or ())]
    limits = budgets_of(placed, {"params": budget_params, "macs": budget_macs, "memory": budget_memory})
    found = joint_front([Run.open(run) for run in runs], split_objectives(objectives) if objectives else (), limits or None)
    if plot is not None:
        from nas.results.plots import save_fronts

        save_fronts(plot, found.points(), found.objectives, found.budgets.limits)
    if found.supernets > 1:
        typer.echo(
            f"the accuracies come from {found.supernets} supernets, or adaptations of one, and are compared as they are",
            err=True,
        )
    if as_json:
        write_json(found.to_mapping())
        return
    for line in found.lines():
        write(line)
