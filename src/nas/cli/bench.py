"""`nas bench`: methods of this project played on tables of published results."""

from __future__ import annotations

import typer

from nas.cli.app import app

bench = typer.Typer(
    help="Benchmark methods on tables of published results.", rich_markup_mode=None, pretty_exceptions_enable=False
)
app.add_typer(bench, name="bench")
