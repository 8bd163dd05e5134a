"""`nas profile`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import app
from nas.cli.display import reporter
from nas.cli.options import AgentSecretFile, Json, Seed, Space, TargetOption, write, write_json
from nas.errors import NasError


@app.command()
def profile(
    target: TargetOption = "cpu:eager,threads=1,batch=1",
    space: Space = "tiny",
    out: Annotated[Path | None, typer.Option(help="The table's file (default: latency/SPACE-TARGET.json).")] = None,
    in_channels: Annotated[int, typer.Option(min=1, help="Channels of the images.")] = 1,
    num_classes: Annotated[int, typer.Option(min=1, help="Classes of the head.")] = 10,
    networks: Annotated[int, typer.Option(min=8, help="Random networks to learn from.")] = 40,
    held_out: Annotated[int, typer.Option(min=2, help="Random networks to assess the predictor on.")] = 20,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Time budget (default: by target).")] = None,
    seed: Seed = 0,
    agent_secret_file: AgentSecretFile = None,
    as_json: Json = False,
) -> None:
    """Measure a target and fit its latency predictor; a table that exists is gone on with.

    `nas search --latency-table FILE` takes the table instead of profiling again.
    """
    from nas.predictors.latency_predictor import LatencyPredictor
    from nas.predictors.latency_profile import profile as measure_space
    from nas.predictors.latency_profile import profile_estimate
    from nas.predictors.target import Target
    from nas.quantities import format_duration
    from nas.search_spaces.presets import load_space

    chosen, wanted = load_space(space), Target.parse(target)
    wanted.require()
    path = out or Path("latency") / f"{chosen.name}-{re.sub(r'[^0-9A-Za-z=._]+', '-', str(wanted))}.json"
    talk = reporter()
    expected = profile_estimate(chosen, wanted) if seconds is None else seconds
    talk.note(f"profiling {chosen.name} on {wanted} into {path}, about {format_duration(expected)}")
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
                progress=step,
            )
    except KeyboardInterrupt:
        raise NasError(f"stopped; what was measured is kept in {path}: the same command goes on with it") from None
    predictor = LatencyPredictor.fit(table)
    held = list(table.of_role("held-out"))
    found = predictor.assess([item.architecture for item in held], [item.measurement.median for item in held])
    if as_json:
        write_json({"table": str(path), "target": str(wanted), "nodes": len(table.nodes), **found.to_mapping()})
        return
    write(f"{path}: {len(table.nodes)} node times, {len(table.networks)} networks on {wanted}")
    write(
        f"on {found.n} held-out networks: mean error {found.mape:.1%}, within 10 % {found.within_10:.0%}, "
        f"Spearman {found.spearman:.3f}, 90 % interval covers {found.coverage_90:.0%}"
    )
