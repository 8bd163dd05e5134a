"""`nas operators`, `nas catalog`, `nas spaces`, `nas describe`: looking at what there is."""

from __future__ import annotations

import random
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import app
from nas.cli.options import Json, Seed, Space, write, write_json

if TYPE_CHECKING:
    from nas.search_spaces.architecture import Architecture

ARCHITECTURE = (
    "architecture.json, a run folder (its winner), a backbone of `nas catalog`, or `random`, `smallest`, `largest` of --space."
)


@app.command()
def operators(
    kind: Annotated[
        str | None, typer.Option(help="token_mixer, channel_mixer, stem, downsample, norm, residual or head.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the registered operators with their settings and sources."""
    from nas.errors import UnknownNameError
    from nas.search_spaces.listing import listing
    from nas.search_spaces.registry import Kind

    if kind is not None and kind not in set(Kind):
        raise UnknownNameError("kind of operator", kind, [known.value for known in Kind])
    found = [row for row in listing() if kind in (None, row["kind"])]
    if as_json:
        write_json(found)
        return
    for row in found:
        write(f"{row['kind']:<14} {row['name']}")
        write(f"{'':<14}   {row['summary']}")
        for title, names in (("settings", row["settings"].keys() - row["optional"].keys()), ("optional", row["optional"])):
            settings = "; ".join(
                f"{name} {', '.join(map(str, row['settings'][name]))}" for name in row["settings"] if name in names
            )
            if settings:
                write(f"{'':<14}   {title}: {settings}")
        write(f"{'':<14}   {row['cite']}")


@app.command()
def catalog(as_json: Json = False) -> None:
    """List the published backbones of the catalogue with parameters, MACs and published accuracy."""
    from nas.search_spaces.catalog.entry import entries

    found = list(entries())
    if as_json:
        write_json([entry.to_mapping() for entry in found])
        return
    write(f"{'backbone':<24} {'params':>9} {'MACs':>8} {'pixels':>6} {'top-1':>6}  source")
    for entry in found:
        top1 = "" if entry.top1 is None else f"{entry.top1:.1f}"
        sizes = f"{entry.params / 1e6:>8.2f}M {entry.macs / 1e9:>7.2f}G {entry.resolution:>6} {top1:>6}"
        write(f"{entry.name:<24} {sizes}  {entry.cite}{' [timm weights]' if entry.timm else ''}")


@app.command()
def spaces(
    space: Annotated[str | None, typer.Argument(help="A preset or a YAML file; all presets without one.")] = None,
    as_json: Json = False,
) -> None:
    """List the search spaces, or show one in full, with the exact number of its architectures."""
    from nas.search_spaces.presets import PRESETS, load_space

    found = [load_space(name) for name in ([space] if space else PRESETS)]
    if as_json:
        sizes = {"size": float(found[0].size())} if space else {}
        write_json([{**one.to_mapping(), **sizes, "genes": len(one.genes)} for one in found])
        return
    for one in found:
        size = f"{one.size():.3g} architectures, " if space else ""
        write(f"{one.name}: {size}{len(one.genes)} genes")
        summary = (PRESETS[one.name].__doc__ or "") if one.name in PRESETS else ""
        if summary:
            write(f"  {summary}")
        if space:
            for name, value in one.to_mapping().items():
                write(f"  {name}: {value}")


@app.command()
def describe(
    architecture: Annotated[
        str,
        typer.Argument(help=ARCHITECTURE),
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
        found = _read(architecture)
    if svg is not None:
        write_text(svg, draw(found, None, num_classes, in_channels))
    if as_json:
        sizes = cost(found, in_channels=in_channels, num_classes=num_classes)
        write_json({"digest": found.digest, **sizes.to_mapping(), "architecture": found.to_mapping()})
    else:
        write(describe_text(found, num_classes=num_classes, in_channels=in_channels))


def _read(name: str) -> Architecture:
    """The architecture of a file, of a folder that holds one, of a run's winner, or of the catalogue. Raises FileError."""
    from nas.errors import FileError, UsageError
    from nas.files import read_text
    from nas.results.run import Run
    from nas.search_spaces.architecture import Architecture
    from nas.search_spaces.catalog.entry import entries

    path = Path(name)
    if not path.exists():
        known = {entry.name: entry for entry in entries()}
        if name in known:
            return known[name].architecture
        near = "".join(f" Did you mean {match!r}?" for match in get_close_matches(name, known, 1))
        raise FileError(f"no architecture {name!r}: name {ARCHITECTURE}{near}")
    if path.is_dir() and not (path / "architecture.json").exists():
        path = Run.open(path).require_winner()
    path = path / "architecture.json" if path.is_dir() else path
    try:
        return Architecture.from_json(read_text(path, "architecture"))
    except UsageError as error:
        raise FileError(f"{path}: {error}; name an architecture.json that nas wrote") from error
