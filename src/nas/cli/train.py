"""`nas train`, `nas rank`: a supernet, and how far its ranking can be trusted."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import app
from nas.cli.display import reporter
from nas.cli.options import (
    Adapt,
    AdaptKeep,
    AdaptRate,
    Compile,
    Data,
    Device,
    Json,
    MemoryFormat,
    Seed,
    Space,
    TrainImages,
    ValidationImages,
    given_of,
    require_resume_alone,
    threads_of_each,
    write,
    write_json,
)
from nas.errors import NasError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from nas.results.config import SearchConfig
    from nas.results.pipeline import SearchRun
    from nas.supernet.recipe import TrainingRecipe

Ray = Annotated[str | None, typer.Option(help="Work on Ray: local, auto, or an address.", metavar="ADDRESS")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of a worker (default: all cores, shared by the workers).")
]


@app.command()
def train(
    context: typer.Context,
    space: Space = "tiny",
    data: Data = "digits",
    train_images: TrainImages = None,
    validation_images: ValidationImages = None,
    strategy: Annotated[str, typer.Option(help="How networks are drawn and taught: `nas train --strategies` lists all.")] = (
        "sandwich"
    ),
    strategies: Annotated[bool, typer.Option("--strategies", help="List the training strategies with their sources.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a step, of all workers together.")] = None,
    augment: Annotated[
        str | None, typer.Option(help="Any of move, shift, flip, crop, randaugment, erase, mixup, cutmix, with commas.")
    ] = None,
    unshare: Annotated[
        str | None, typer.Option(help="Weights that choices do not share: any of norms, operators, widths, with commas.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="catalog:NAME=FILE, timm:NAME or timm:NAME=FILE.")] = None,
    memory_format: MemoryFormat = "auto",
    init: Annotated[
        str | None, typer.Option(help="Start from published weights: catalog:NAME=FILE, timm:NAME or timm:NAME=FILE.")
    ] = None,
    fields: Annotated[
        list[str] | None, typer.Option("--set", help="Any other field of the recipe, e.g. ema=0.99.", metavar="NAME=VALUE")
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: the next free one below runs/).")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the training in this folder.", metavar="RUN")] = None,
    ray: Ray = None,
    workers: Annotated[int, typer.Option(min=1, help="Ray workers that share each batch.")] = 1,
    threads: Threads = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train a supernet. `nas search --supernet RUN` searches it, `nas rank RUN` tells how far its ranking can be trusted.

    Stopped at any moment, --resume goes on where it was. `torchrun -m nas train --out RUN ...` trains on several workers.
    """
    from nas.results.run import Run

    if strategies:
        _list_strategies(as_json)
        return
    if resume is None:
        given = {"strategy": strategy, "epochs": epochs, "batch": batch, "augment": augment, "teacher": teacher, "seed": seed}
        given |= {"init": init, "unshared": unshare, "memory_format": memory_format}
        recipe = _recipe({name: value for name, value in given.items() if value is not None}, fields or [])
        config = _config(space, data, recipe, ray, workers, threads)
        config = replace(config, train_images=train_images, validation_images=validation_images, device=device)
        run = _train(config, out, fresh=True)
    else:
        require_resume_alone(context)
        config = Run.open(resume).config()
        run = _train(replace(config, device=device) if given_of(context, ["device"]) else config, resume, fresh=False)
    if run.first:
        _tell(run, as_json)


@app.command()
def rank(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A folder of `nas train` or `nas search`.")],
    probes: Annotated[int, typer.Option(min=4, help="Networks to train alone.")] = 24,
    seeds: Annotated[int, typer.Option(min=1, help="Train each so often, with other seeds; the mean is the truth.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each.")] = 12,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    augment: Annotated[
        str, typer.Option(help="Any of move, shift, flip, crop, randaugment, erase, mixup, cutmix, with commas.")
    ] = "move",
    memory_format: MemoryFormat = "auto",
    compile: Compile = "auto",
    seed: Seed = 0,
    ray: Ray = None,
    workers: Annotated[int, typer.Option(min=1, help="Probes trained at once, on Ray.")] = 1,
    threads: Threads = None,
    adapt: Adapt = 0,
    adapt_rate: AdaptRate = 2e-3,
    adapt_keep: AdaptKeep = 1.0,
    score: Annotated[str, typer.Option(help="What the supernet ranks by: accuracy or loss on validation images.")] = "accuracy",
    device: Device = "cpu",
    probes_of: Annotated[
        Path | None, typer.Option(help="Take, and keep, the trained probes in the ranking of this other run on the same data.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train probes alone and compare their order with the supernet's, and with parameters', MACs' and zero-cost proxies'.

    Stopped at any moment, the same command goes on. Writes ranking/ranking.json and ranking/ranking.html in the run's folder.
    """
    from nas.results.config import require_adapted
    from nas.results.pipeline import SearchRun
    from nas.results.ranking.ranking import Ranking, RankOptions
    from nas.results.run import Run
    from nas.supernet.finetune import FinetuneRecipe

    if workers > 1 and ray is None:
        raise UsageError(f"{workers} workers need Ray: add --ray local or an address, or leave --workers away")
    require_adapted(given_of(context, ["adapt_rate", "adapt_keep"]), adapt)
    recipe = FinetuneRecipe(
        epochs=epochs, batch=batch, learning_rate=learning_rate, augment=augment, seed=seed,
        memory_format=memory_format, compile=compile,
    )  # fmt: skip
    if probes_of is not None:
        Run.open(probes_of)
    options = RankOptions(
        probes=probes, recipe=recipe, seed=seed, ray=ray, workers=workers, threads=_threads(threads, workers),
        device=device, probes_of=probes_of, adapt=adapt, adapt_rate=adapt_rate, adapt_keep=adapt_keep, score=score, seeds=seeds,
    )  # fmt: skip
    opened, talk = Run.open(run), reporter()
    try:
        found = Ranking(SearchRun(opened.path, opened.config(), talk), options, talk).run()
    except KeyboardInterrupt:
        raise NasError("stopped; what was trained is kept, the same command goes on with it") from None
    if as_json:
        write_json(found.to_mapping())
        return
    for line in found.lines():
        write(f"  {line}")
    write(f"  plot and tables: {run}/ranking/ranking.html")


def _train(config: SearchConfig, out: Path | None, *, fresh: bool) -> SearchRun:
    """Train in a folder; under `torchrun` every worker does, and the first one makes it."""
    import contextlib

    from nas.progress import Silent
    from nas.results.api import new_folder
    from nas.results.pipeline import SearchRun

    first = "WORLD_SIZE" not in os.environ or os.environ.get("RANK") == "0"
    if out is None and "WORLD_SIZE" in os.environ:
        raise UsageError("several workers train in one folder: give it by --out")
    talk = reporter() if first else Silent()
    made = new_folder(out, config.space["name"]) if fresh and first else contextlib.nullcontext(out or Path())
    with made as folder:
        run = SearchRun(folder, config, talk)
        try:
            run.train_supernet()
        except KeyboardInterrupt:
            if not run.folder.config_path.exists():
                raise NasError("stopped before anything was written; the same command starts again") from None
            raise NasError(f"stopped; `nas train --resume {folder}` goes on from the last checkpoint") from None
    return run


def _recipe(given: dict[str, Any], fields: list[str]) -> TrainingRecipe:
    """The recipe of the options, and of `--set name=value` for its other fields."""
    import dataclasses

    from nas.supernet.pretrained import with_absolute_path
    from nas.supernet.recipe import TrainingRecipe
    from nas.supernet.strategies import training_strategy

    kinds = {field.name: type(getattr(TrainingRecipe(), field.name)) for field in dataclasses.fields(TrainingRecipe)}
    for text in fields:
        name, equals, value = text.partition("=")
        if name not in kinds:
            raise UnknownNameError("field of the recipe", name, kinds)
        if not equals:
            raise UsageError(f"--set {text} gives no value; write --set {name}=VALUE")
        given[name] = _value(name, value, kinds[name])
    training_strategy(str(given["strategy"]))
    given |= {name: with_absolute_path(str(given.get(name, ""))) for name in ("init", "teacher")}
    return TrainingRecipe(**given)


def _value(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{name} is true or false, got {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        raise UsageError(f"{name} must be a number, got {text!r}") from error


def _config(space: str, data: str, recipe: TrainingRecipe, ray: str | None, workers: int, threads: int | None) -> SearchConfig:
    from nas.results.config import SearchConfig, versions
    from nas.search_spaces.presets import load_space

    return SearchConfig(
        space=load_space(space).to_mapping(), data=data, seed=recipe.seed, training=recipe, ray=ray, workers=workers,
        threads=_threads(threads, workers), command=shlex.join(["nas", *sys.argv[1:]]), versions=versions(),
    )  # fmt: skip


def _threads(threads: int | None, workers: int) -> int:
    launched = os.environ.get("WORLD_SIZE", "1")
    workers = max(workers, int(launched) if launched.isdigit() else 1)
    return threads if threads is not None else threads_of_each(workers)


def _list_strategies(as_json: bool) -> None:
    from nas.supernet.strategies import strategy_names, training_strategy

    found = {name: training_strategy(name).cite for name in strategy_names()}
    if as_json:
        write_json(found)
        return
    for name, cite in found.items():
        write(f"{name:<12} {cite}")


def _tell(run: SearchRun, as_json: bool) -> None:
    rows, folder = run.history.rows, run.folder.path
    if as_json:
        write_json({"run": str(folder), "history": rows, "rollbacks": run.history.rollbacks})
        return
    last = rows[-1]
    write(f"  supernet   {run.folder.checkpoint}")
    write(f"  accuracy   {last['largest']:.1%} of a largest, {last['smallest']:.1%} of a smallest network on validation images")
    write(f"  next       nas rank {folder}    nas search --supernet {folder} --budget-latency ...")
