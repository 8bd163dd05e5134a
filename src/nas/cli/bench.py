"""`nas bench`: the group of commands that compare methods on tables."""

from __future__ import annotations

import typer

from nas.cli.app import app

bench = typer.Typer(
    help="Compare predictors, or search strategies, on tables of measured and trained architectures.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")

from nas.cli import bench_predictors, bench_search  # noqa: E402, F401 - importing a module adds its command to the group
