"""`nas profile`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import app
from nas.cli.display import reporter
from nas.cli.options import AgentSecretFile, Json, Seed, Space, TargetOption, require_not_beside, write, write_json
from nas.errors import NasError

if TYPE_CHECKING:
    from nas.predictors.latency_table import LatencyTable


@app.command()
def profile(
    context: typer.Context,
    target: TargetOption = "cpu:eager,threads=1,batch=1",
    space: Space = "tiny",
    out: Annotated[Path | None, typer.Option(help="The table's file (default: latency/SPACE-TARGET.json).")] = None,
    in_channels: Annotated[int, typer.Option(min=1, help="Channels of the images.")] = 1,
    num_classes: Annotated[int, typer.Option(min=1, help="Classes of the head.")] = 10,
    networks: Annotated[
        int | None,
        typer.Option(min=8, help="Networks to learn from (default: 40; cpu:onnxruntime in fp32: 22, chosen for their nodes)."),
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(min=2, help="Random networks to assess the predictor on (default: 20; cpu:onnxruntime in fp32: 10)."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Time for what is missing (default: by target).")] = None,
    active: Annotated[
        bool, typer.Option("--active", help="Choose networks to learn from by what they tell of operators and sizes.")
    ] = False,
    known: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Inherit node times from this table of another target; 20 networks are enough then."),
    ] = None,
    energy: Annotated[
        bool, typer.Option("--energy", help="Count the energy of some of the networks too, where this machine has a meter.")
    ] = False,
    seed: Seed = 0,
    agent_secret_file: AgentSecretFile = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Only tell whether two tables of one target agree.", metavar="A B")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a target and fit its latency predictor; a table that exists is gone on with, or extended by larger numbers.

    `nas search --latency-table FILE` takes the table instead of profiling again. Every raw sample is kept beside the table, in
    FILE.samples.jsonl.gz.
    """
    if compare is not None:
        others = [name for name in context.params if name not in ("compare", "as_json")]
        require_not_beside(context, "--compare measures nothing", others)
        _compare(*compare, as_json=as_json)
        return
    from nas.predictors.latency_profile import profile as measure_space
    from nas.predictors.latency_table import LatencyTable
    from nas.predictors.meter import meter_of
    from nas.predictors.profile_cost import profile_cost
    from nas.predictors.target import Target
    from nas.search_spaces.presets import load_space

    chosen, wanted = load_space(space), Target.parse(target)
    wanted.require()
    meter = meter_of(wanted) if energy else None
    path = out or Path("latency") / f"{chosen.name}-{re.sub(r'[^0-9A-Za-z=._]+', '-', str(wanted))}.json"
    present = LatencyTable.load(path, wanted) if path.exists() else None
    tables = [LatencyTable.load(other) for other in known or ()]
    cost = profile_cost(
        chosen, wanted, train=networks, held_out=held_out, seconds=seconds, table=present, inherits=bool(tables), meter=meter
    )
    talk = reporter()
    before = "" if present is None else f", which has {len(present.networks)} networks already"
    if present is not None and present.ancestry and not tables:
        before += f" and keeps the node times inherited from {', '.join(present.ancestry)}"
    talk.note(f"profiling {chosen.name} on {wanted} into {path}{before}, {cost}")
    if meter is not None:
        talk.note(f"energy is counted by {meter.name}: {meter.counts}")
    try:
        with talk.phase("Latency profile") as step:
            table = measure_space(
                chosen,
                wanted,
                path,
                in_channels=in_channels,
                num_classes=num_classes,
                seed=seed,
                train=networks,
                held_out=held_out,
                seconds=seconds,
                active=active,
                known=tables,
                energy=energy,
                progress=step,
            )
    except KeyboardInterrupt:
        raise NasError(f"stopped; what was measured is kept in {path}: the same command goes on with it") from None
    _tell(table, path, as_json=as_json)


def _tell(table: LatencyTable, path: Path, *, as_json: bool) -> None:
    """Fit the predictor, and print how good it is and what else a reader should know."""
    from nas.predictors.energy_predictor import EnergyPredictor, can_predict
    from nas.predictors.latency_predictor import LatencyPredictor
    from nas.predictors.remarks import remarks

    predictor = LatencyPredictor.fit(table)
    held = list(table.of_role("held-out"))
    found = predictor.assess([item.architecture for item in held], table.latency(held).tolist())
    energies = EnergyPredictor.fit(predictor).assessment() if can_predict(table) else None
    told = remarks(table)
    if as_json:
        counts = {"nodes": len(table.nodes), "networks": len(table.networks), "seconds": table.spent}
        assessed = {} if energies is None else energies.to_mapping()
        counted = {"networks": len(table.energies), **assessed} if table.energies else None
        notes = {"energy": counted, "refused": table.refused, "remarks": told}
        write_json({"table": str(path), "target": str(table.target), **counts, **notes, **found.to_mapping()})
        return
    write(f"{path}: {len(table.nodes)} node times, {len(table.networks)} networks on {table.target}")
    write(
        f"on {found.n} held-out networks: mean error {found.mape:.1%}, within 10 % {found.within_10:.0%}, "
        f"Spearman {found.spearman:.3f}, 90 % interval covers {found.coverage_90:.0%}"
    )
    if table.energies:
        meter = next(iter(table.energies.values())).meter
        worth = "too few to tell how good a prediction is"
        if energies is not None:
            worth = (
                f"on {energies.n} held-out ones: mean error {energies.mape:.1%}, within 10 % {energies.within_10:.0%}, "
                f"Spearman {energies.spearman:.3f}, 90 % interval covers {energies.coverage_90:.0%}"
            )
        write(f"energy of {len(table.energies)} networks, counted by {meter}; {worth}")
    for text in told:
        write(text)


def _compare(first: Path, second: Path, *, as_json: bool) -> None:
    """Print whether two tables agree; exit code 1 where they do not."""
    from nas.predictors.agreement import compare as agreement
    from nas.predictors.latency_table import LatencyTable

    found = agreement(LatencyTable.load(first), LatencyTable.load(second))
    if as_json:
        write_json(found.to_mapping())
    else:
        for text in found.lines():
            write(text)
    if not found.agree:
        raise typer.Exit(1)
