"""`nas search`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import app
from nas.cli.budgets import Energies, Latencies, Macs, Memory, Params, budgets_of, own_target
from nas.cli.display import reporter
from nas.cli.options import (
    Adapt,
    AdaptKeep,
    AdaptRate,
    AgentSecretFile,
    Compile,
    Data,
    Device,
    Json,
    MemoryFormat,
    Seed,
    Space,
    TargetOption,
    given_of,
    require_not_beside,
    threads_of_each,
    write,
    write_json,
)
from nas.errors import NasError, UsageError

if TYPE_CHECKING:
    from nas.results.config import SearchConfig
    from nas.results.summary import Outcome

_PLAIN = (
    "data",
    "strategy",
    "evaluations",
    "seed",
    "ray",
    "workers",
    "device",
    "storage",
    "screen",
    "screen_by",
    "promote",
    "adapt",
    "adapt_rate",
    "adapt_keep",
    "accept_noise",
)
_RESUMED = "--resume takes everything from the run's config.yaml (nas search --from RUN starts from a run with other options)"


@app.command()
def search(
    context: typer.Context,
    budget_latency: Latencies = None,
    budget_params: Params = None,
    budget_macs: Macs = None,
    budget_memory: Memory = None,
    budget_energy: Energies = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            help="What to trade off, e.g. accuracy,latency,macs or accuracy,latency@cpu:onnxruntime.", metavar="NAMES"
        ),
    ] = None,
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
    screen: Annotated[
        int | None,
        typer.Option(help="Judge by so many validation images first; score on all of them only the best.", metavar="IMAGES"),
    ] = None,
    screen_by: Annotated[
        str,
        typer.Option(help="What these images tell: loss, accuracy, or a zero-cost proxy (naswot, snip ...).", metavar="SCORE"),
    ] = "loss",
    promote: Annotated[float, typer.Option(help="Share of the screened candidates to score on all images.")] = 0.25,
    adapt: Adapt = 0,
    adapt_rate: AdaptRate = 2e-3,
    adapt_keep: AdaptKeep = 1.0,
    epochs: Annotated[int | None, typer.Option(help="Epochs of supernet training.")] = None,
    finetune_epochs: Annotated[int | None, typer.Option(help="Epochs of training the winner alone.")] = None,
    memory_format: MemoryFormat = "auto",
    compile: Compile = "auto",
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: the next free one below runs/).")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.", metavar="RUN")] = None,
    origins: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Start from this run: its request, supernet, tables and candidates.", metavar="RUN"),
    ] = None,
    latency_table: Annotated[
        list[Path] | None, typer.Option(help="A table of `nas profile`, instead of profiling; one a target.")
    ] = None,
    supernet: Annotated[
        Path | None,
        typer.Option(help="Search the supernet of this run, its space and data, instead of training one.", metavar="RUN"),
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Evaluate on Ray: local, auto, or an address.", metavar="ADDRESS")] = None,
    workers: Annotated[int, typer.Option(help="Ray workers.")] = 1,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of training and of a worker (default: all cores, shared by the workers).")
    ] = None,
    device: Device = "cpu",
    storage: Annotated[
        str | None,
        typer.Option(
            help="A database instead of a journal file: sqlite:///x.db, postgresql://user@host/name (no run keeps a password).",
            metavar="URL",
        ),
    ] = None,
    accept_noise: Annotated[bool, typer.Option(help="Believe measurements on a busy machine.")] = False,
    agent_secret_file: AgentSecretFile = None,
    as_json: Json = False,
) -> None:
    """Search, train, verify and export a backbone inside the budgets.

    Exit codes: 0 found and verified (but for an energy that nothing counts here, which is told), 2 bad usage, 3 no
    architecture meets the budgets, 1 any other error.
    """
    from nas.results.api import new_folder
    from nas.results.run import Run

    if resume is not None:
        beside = ("resume", "device", "accept_noise", "storage", "as_json")
        require_not_beside(context, _RESUMED, [name for name in context.params if name not in beside])
        config = Run.open(resume).config()
        if given_of(context, ["device"]):
            config = replace(config, device=device)
        if storage is not None:
            config = _with_password(config, storage)
        outcome = _run(resume, replace(config, accept_noise=config.accept_noise or accept_noise))
    else:
        others = {"params": budget_params, "macs": budget_macs, "memory": budget_memory}
        placed = [*(budget_latency or ()), *(budget_energy or ())]
        config = _config(context, budgets_of(placed, others), origins or [])
        if supernet is not None:
            require_not_beside(context, "--supernet takes them from its run", ("space", "data", "epochs", "origins"))
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


def _with_password(config: SearchConfig, storage: str) -> SearchConfig:
    """The config with its storage told again, password and all. Raises UsageError for another storage than the run's."""
    from nas.search.storage import same, shown

    told = replace(config, storage=storage)
    if config.storage is None or told.storage is None or not same(config.storage, told.storage):
        place = "a journal of its own" if config.storage is None else config.storage
        raise UsageError(
            f"the run keeps its candidates in {place}, not in {shown(storage)}: --storage beside --resume tells the password "
            "alone; leave it away, or start a new run"
        )
    return told


def _with_supernet(config: SearchConfig, run: Path) -> SearchConfig:
    """The config with the space, the data and the training of another run, whose checkpoint it takes."""
    from nas.results.run import Run

    other = Run.open(run).config()
    return replace(
        config, space=other.space, data=other.data, train_images=other.train_images,
        validation_images=other.validation_images, data_fingerprint=other.data_fingerprint, training=other.training,
        supernet=str(run),
    )  # fmt: skip


def _config(context: typer.Context, budgets: dict[str, float], origins: list[Path]) -> SearchConfig:
    """The request of a command line, or, with origins, of the first of them with what the command line changes."""
    from nas.results.config import SearchConfig, require_adapted, require_screened, versions
    from nas.results.continuation import continued
    from nas.results.run import Run
    from nas.results.targets import tables_by_metric

    base = Run.open(origins[0]).config() if origins else None
    fields = {**_changes(context, budgets, base), "command": shlex.join(["nas", *sys.argv[1:]])}
    if base is not None:
        fields["origins"] = tuple(str(path) for path in origins)
        config = continued(Run(origins[0]), fields)
    else:
        config = SearchConfig(**{"threads": threads_of_each(context.params["workers"]), "versions": versions(), **fields})
    require_screened(given_of(context, ["promote", "screen_by"]), config.screen)
    require_adapted(given_of(context, ["adapt_rate", "adapt_keep"]), config.adapt)
    tables = tables_by_metric(context.params["latency_table"] or [], config.latencies())
    return replace(config, latency_tables={**config.latency_tables, **tables}) if tables else config


def _changes(context: typer.Context, budgets: dict[str, float], base: SearchConfig | None) -> dict[str, Any]:
    """The fields of a request that the command line gives; the space and the recipes, where `base` is None, in any case."""
    from nas.results.config import strategy_for
    from nas.results.metrics import split_objectives
    from nas.search.strategy import single
    from nas.search_spaces.presets import load_space

    options = context.params
    given = given_of(context, options)
    found = {name: options[name] for name in (*_PLAIN, "threads") if name in given}
    if base is None or "space" in given:
        found["space"] = load_space(options["space"]).to_mapping()
    objectives = split_objectives(options["objectives"]) if "objectives" in given else []
    if "target" in given:
        found["target"] = options["target"]
    else:
        found["target"] = own_target([*budgets, *objectives], options["target"] if base is None else base.target)
    if objectives:
        found["objectives"] = tuple(objectives)
        if len(objectives) > 1 and (base is None or single(base.strategy)):
            found.setdefault("strategy", strategy_for(objectives))
    if budgets or base is None:
        found["budgets"] = budgets
    return found | _recipes(options, given, base)


def _recipes(options: dict[str, Any], given: list[str], base: SearchConfig | None) -> dict[str, Any]:
    """How the supernet and the winner are trained; of a run that is started from a supernet only a new length makes another."""
    from nas.supernet.finetune import FinetuneRecipe
    from nas.supernet.recipe import TrainingRecipe

    training = TrainingRecipe(seed=options["seed"]) if base is None else base.training
    finetuning = FinetuneRecipe(seed=options["seed"]) if base is None else base.finetuning
    if "seed" in given:
        finetuning = replace(finetuning, seed=options["seed"])
    if "epochs" in given:
        training = replace(training, epochs=options["epochs"])
    if "finetune_epochs" in given:
        finetuning = replace(finetuning, epochs=options["finetune_epochs"])
    if "memory_format" in given:
        training = replace(training, memory_format=options["memory_format"])
        finetuning = replace(finetuning, memory_format=options["memory_format"])
    if "compile" in given:
        finetuning = replace(finetuning, compile=options["compile"])
    return {"training": training, "finetuning": finetuning}


def _print(outcome: Outcome) -> None:
    for name, text in outcome.lines():
        write(f"  {name:<10} {text}")
