"""`nas search`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import app
from nas.cli.display import reporter
from nas.cli.options import (
    COUNT,
    TIME,
    AgentSecretFile,
    Data,
    Json,
    Seed,
    Space,
    TargetOption,
    require_not_beside,
    require_resume_alone,
    threads_of_each,
    write,
    write_json,
)
from nas.errors import NasError

if TYPE_CHECKING:
    from nas.results.config import SearchConfig
    from nas.results.summary import Outcome


@app.command()
def search(
    context: typer.Context,
    budget_latency: Annotated[float | None, typer.Option(parser=TIME, help="Upper limit, e.g. 5ms.", metavar="TIME")] = None,
    budget_params: Annotated[float | None, typer.Option(parser=COUNT, help="Upper limit, e.g. 5M.", metavar="COUNT")] = None,
    budget_macs: Annotated[float | None, typer.Option(parser=COUNT, help="Upper limit, e.g. 0.3G.", metavar="COUNT")] = None,
    space: Space = "tiny",
    data: Data = "digits",
    target: TargetOption = "cpu:eager,threads=1,batch=1",
    strategy: Annotated[
        str,
        typer.Option(
            help="auto, bo, evolution, nsga2, nsga3, local_search, surrogate, bananas, boshnas, tpe, gp, random, optuna:NAME."
        ),
    ] = "evolution",
    evaluations: Annotated[int, typer.Option(help="Candidates to evaluate.")] = 120,
    epochs: Annotated[int | None, typer.Option(help="Epochs of supernet training.")] = None,
    finetune_epochs: Annotated[int | None, typer.Option(help="Epochs of training the winner alone.")] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: the next free one below runs/).")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.", metavar="RUN")] = None,
    latency_table: Annotated[Path | None, typer.Option(help="A table of `nas profile`, instead of profiling.")] = None,
    supernet: Annotated[
        Path | None,
        typer.Option(help="Search the supernet of this run, its space and data, instead of training one.", metavar="RUN"),
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Evaluate on Ray: local, auto, or an address.", metavar="ADDRESS")] = None,
    workers: Annotated[int, typer.Option(help="Ray workers.")] = 1,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of training and of a worker (default: all cores, shared by the workers).")
    ] = None,
    storage: Annotated[str | None, typer.Option(help="Optuna storage URL instead of a journal file.", metavar="URL")] = None,
    accept_noise: Annotated[bool, typer.Option(help="Believe measurements on a busy machine.")] = False,
    agent_secret_file: AgentSecretFile = None,
    as_json: Json = False,
) -> None:
    """Search, train, verify and export a backbone inside the budgets.

    Exit codes: 0 found and verified, 2 bad usage, 3 no architecture meets the budgets, 1 any other error.
    """
    from nas.results.api import new_folder
    from nas.results.run import Run

    limits = {"latency": budget_latency, "params": budget_params, "macs": budget_macs}
    budgets = {name: limit for name, limit in limits.items() if limit is not None}
    if resume is not None:
        require_resume_alone(context)
        config = Run.open(resume).config()
        outcome = _run(resume, replace(config, accept_noise=config.accept_noise or accept_noise))
    else:
        config = _config(
            space, data, target, budgets, strategy, evaluations, epochs, finetune_epochs, seed, latency_table, ray, workers,
            threads, storage, accept_noise,
        )  # fmt: skip
        if supernet is not None:
            require_not_beside(context, "--supernet takes them from its run", ("space", "data", "epochs"))
            config = _with_supernet(config, supernet)
        with new_folder(out, config.space["name"]) as folder:
            outcome = _run(folder, config)
    if as_json:
        write_json(outcome.to_mapping())
    else:
        _print(outcome)


def _run(folder: Path, config: SearchConfig) -> Outcome:
    from nas.results.pipeline import SearchRun
    from nas.results.run import Run

    try:
        return SearchRun(folder, config, reporter()).run()
    except KeyboardInterrupt:
        if not Run(folder).config_path.exists():
            raise NasError("stopped before anything was written; the same command starts again") from None
        raise NasError(f"stopped; nothing is lost: `nas search --resume {folder}` goes on") from None


def _with_supernet(config: SearchConfig, run: Path) -> SearchConfig:
    """The config with the space, the data and the training of another run, whose checkpoint it takes."""
    from nas.results.run import Run

    other = Run.open(run).config()
    return replace(
        config, space=other.space, data=other.data, train_images=other.train_images,
        validation_images=other.validation_images, data_fingerprint=other.data_fingerprint, training=other.training,
        supernet=str(run),
    )  # fmt: skip


def _config(
    space: str,
    data: str,
    target: str,
    budgets: dict[str, float],
    strategy: str,
    evaluations: int,
    epochs: int | None,
    finetune_epochs: int | None,
    seed: int,
    latency_table: Path | None,
    ray: str | None,
    workers: int,
    threads: int | None,
    storage: str | None,
    accept_noise: bool,
) -> SearchConfig:
    from nas.predictors.target import Target
    from nas.results.config import SearchConfig, versions
    from nas.search_spaces.presets import load_space
    from nas.supernet.finetune import FinetuneRecipe
    from nas.supernet.training import TrainingRecipe

    training, finetuning = TrainingRecipe(seed=seed), FinetuneRecipe(seed=seed)
    return SearchConfig(
        space=load_space(space).to_mapping(),
        data=data,
        target=str(Target.parse(target)),
        budgets=budgets,
        strategy=strategy,
        evaluations=evaluations,
        seed=seed,
        training=training if epochs is None else TrainingRecipe(seed=seed, epochs=epochs),
        finetuning=finetuning if finetune_epochs is None else FinetuneRecipe(seed=seed, epochs=finetune_epochs),
        latency_table=None if latency_table is None else str(latency_table),
        ray=ray,
        workers=workers,
        threads=threads if threads is not None else threads_of_each(workers),
        storage=storage,
        accept_noise=accept_noise,
        command=shlex.join(["nas", *sys.argv[1:]]),
        versions=versions(),
    )


def _print(outcome: Outcome) -> None:
    for name, text in outcome.lines():
        write(f"  {name:<10} {text}")
