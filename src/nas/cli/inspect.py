"""`nas operators`, `nas spaces`, `nas describe`: looking at what there is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import app
from nas.cli.options import Json, Seed, Space, write, write_json

if TYPE_CHECKING:
    from nas.search_spaces.architecture import Architecture


@app.command()
def operators(
    kind: Annotated[str | None, typer.Option(help="token_mixer, channel_mixer, stem, downsample or norm.")] = None,
    as_json: Json = False,
) -> None:
    """List the registered operators with their settings and sources."""
    from nas.errors import UnknownNameError
    from nas.search_spaces.registry import Kind
    from nas.search_spaces.registry import operators as registered

    if kind is not None and kind not in set(Kind):
        raise UnknownNameError("kind of operator", kind, [known.value for known in Kind])
    found = list(registered(Kind(kind) if kind else None))
    if as_json:
        write_json(
            [
                {
                    "name": op.name,
                    "kind": op.kind,
                    "group": op.group,
                    "family": op.family,
                    "settings": {name: list(setting.choices) for name, setting in op.settings.items()},
                    "summary": op.summary,
                    "cite": op.cite,
                }
                for op in found
            ]
        )
        return
    for op in found:
        settings = "; ".join(f"{name} {', '.join(map(str, setting.choices))}" for name, setting in op.settings.items())
        write(f"{op.kind:<14} {op.name}")
        write(f"{'':<14}   {op.summary}")
        if settings:
            write(f"{'':<14}   settings: {settings}")
        write(f"{'':<14}   {op.cite}")


@app.command()
def spaces(
    space: Annotated[str | None, typer.Argument(help="A preset or a YAML file; all presets without one.")] = None,
    as_json: Json = False,
) -> None:
    """List the search spaces, or show one in full."""
    from nas.search_spaces.presets import PRESETS, load_space

    found = [load_space(name) for name in ([space] if space else PRESETS)]
    if as_json:
        write_json([{**one.to_mapping(), "size": float(one.size()), "genes": len(one.genes)} for one in found])
        return
    for one in found:
        write(f"{one.name}: {one.size():.3g} architectures, {len(one.genes)} genes")
        summary = (PRESETS[one.name].__doc__ or "") if one.name in PRESETS else ""
        if summary:
            write(f"  {summary}")
        if space:
            for name, value in one.to_mapping().items():
                write(f"  {name}: {value}")


@app.command()
def describe(
    architecture: Annotated[
        str, typer.Argument(help="architecture.json, a run folder (its winner), or `random`, `smallest`, `largest` of --space.")
    ],
    space: Space = "tiny",
    seed: Seed = 0,
    num_classes: Annotated[int, typer.Option(min=1, help="Classes of the head.")] = 1000,
    in_channels: Annotated[int, typer.Option(min=1, help="Channels of the image.")] = 3,
    svg: Annotated[Path | None, typer.Option(help="Also draw the graph into this SVG file.")] = None,
    as_json: Json = False,
) -> None:
    """Show an architecture: its stages and blocks, parameters, MACs, and on request its graph."""
    from nas.files import write_text
    from nas.predictors.cost import cost
    from nas.results.draw import describe_text, draw
    from nas.search_spaces.presets import load_space

    if architecture in ("random", "smallest", "largest"):
        chosen, rng = load_space(space), random.Random(seed)
        found = chosen.sample(rng) if architecture == "random" else getattr(chosen, architecture)()
    else:
        found = _read(Path(architecture))
    if svg is not None:
        write_text(svg, draw(found, None, num_classes, in_channels))
    if as_json:
        sizes = cost(found, in_channels=in_channels, num_classes=num_classes)
        write_json({"digest": found.digest, **sizes.to_mapping(), "architecture": found.to_mapping()})
    else:
        write(describe_text(found, num_classes=num_classes, in_channels=in_channels))


def _read(path: Path) -> Architecture:
    """The architecture of a file, of a folder that holds one, or of a run's winner. Raises FileError."""
    from nas.errors import FileError, UsageError
    from nas.files import read_text
    from nas.results.run import Run
    from nas.search_spaces.architecture import Architecture

    if not path.exists():
        raise FileError(f"no architecture {str(path)!r}; name an architecture.json, a run folder, random, smallest or largest")
    if path.is_dir() and not (path / "architecture.json").exists():
        path = Run.open(path).require_winner()
    path = path / "architecture.json" if path.is_dir() else path
    try:
        return Architecture.from_json(read_text(path, "architecture"))
    except UsageError as error:
        raise FileError(f"{path}: {error}; name an architecture.json that nas wrote") from error
