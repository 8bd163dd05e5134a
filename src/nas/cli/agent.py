"""`nas agent`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import app
from nas.cli.options import write


@app.command()
def agent(
    listen: Annotated[str | None, typer.Option(help="Take networks over the network.", metavar="HOST:PORT")] = None,
    folder: Annotated[Path | None, typer.Option(help="Take networks from a folder that both machines see.")] = None,
    secret_file: Annotated[Path | None, typer.Option(help="The secret that clients must know.")] = None,
    spool: Annotated[Path | None, typer.Option(help="Where jobs and results are kept (with --listen).")] = None,
    runtime: Annotated[list[str] | None, typer.Option(help="Another runtime; repeatable.", metavar="NAME=FILE.py")] = None,
    write_file: Annotated[
        Path | None, typer.Option("--write", help="Write the agent as one file, to be copied to the device, and leave.")
    ] = None,
) -> None:
    """Measure, on this device, the networks that `nas profile` and `nas search` of other machines hand in.

    There, name this device behind the target: --target cpu:onnxruntime@HOST:PORT.
    """
    from nas.errors import UsageError
    from nas.predictors.remote.agent.main import serve

    if write_file is None:
        serve(listen, folder, secret_file, spool, runtime or ())
        return
    if any((listen, folder, secret_file, spool, runtime)):
        raise UsageError("--write only writes the file; give the other options to `python agent.py` on the device")
    from nas.files import write_text
    from nas.predictors.remote.single_file import agent_source

    write_text(write_file, agent_source())
    write(
        f"{write_file}: copy it to the device and start it by `python {write_file.name} --listen HOST:PORT --secret-file FILE`"
    )
