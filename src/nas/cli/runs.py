"""`nas export`, `nas report`: what a finished run gives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import app
from nas.cli.options import Json, write, write_json


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    formats: Annotated[
        str, typer.Option(help="Any of json, safetensors, python, onnx, torch, int8.")
    ] = "json,safetensors,python,onnx,torch",
    as_json: Json = False,
) -> None:
    """Write the winner of a run as ordinary files, each checked against the network."""
    from nas.results.run import Run

    found = Run.open(run).export(out, tuple(name.strip() for name in formats.split(",") if name.strip()))
    if as_json:
        write_json({"files": {k: str(v) for k, v in found.files.items()}, "differences": dict(found.differences)})
        return
    for name, path in found.files.items():
        difference = found.differences.get(name)
        write(f"{name:<12} {path}" + ("" if difference is None else f"  (largest relative difference {difference:.1e})"))


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Write report.html of a finished run again, and print its summary."""
    from nas.results.pipeline import SearchRun
    from nas.results.run import Run

    found = Run.open(run)
    outcome = SearchRun(found.path, found.config()).report()
    if as_json:
        write_json(outcome.to_mapping())
        return
    for name, text in outcome.lines():
        write(f"  {name:<10} {text}")
