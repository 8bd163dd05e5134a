"""The command tree. Modules of the core are imported inside the commands, so that `nas --help` is fast."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.options import show_version

app = typer.Typer(
    name="nas",
    help="Find a vision backbone for your data that runs inside your latency budget on your device.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Find a vision backbone for your data that runs inside your latency budget on your device.

    Every command takes --help; --debug shows the traceback of an error.
    """


from nas.cli import agent, bench, front, inspect, profile, runs, search, train  # noqa: E402, F401 - importing a module adds its commands to `app`
