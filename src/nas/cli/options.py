"""What several commands share: quantities as options, and printing for people or machines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.errors import UsageError


def quantity(parse: Callable[[str], Any], name: str) -> Any:
    """A parser of an option's value, whose errors name the option."""

    def parser(text: str) -> Any:
        try:
            return parse(text)
        except UsageError as error:
            raise typer.BadParameter(str(error)) from error

    parser.__name__ = name
    return parser


SPACE = "A preset (tiny, mobile, base, every), around:NAME for the space around a catalogue backbone, or a YAML file."
Space = Annotated[str, typer.Option(help=SPACE)]
Data = Annotated[str, typer.Option(help="digits, folder:PATH (a sub-folder a class), parquet:PATH, or hub:NAME.")]
TrainImages = Annotated[int | None, typer.Option(min=1, help="Train on so many images, drawn evenly from the classes.")]
ValidationImages = Annotated[int | None, typer.Option(min=1, help="Rank on so many validation images.")]
TargetOption = Annotated[
    str,
    typer.Option(
        help="Device and runtime, e.g. cpu:onnxruntime,threads=1,batch=1,precision=fp32; @HOST:PORT, @folder:PATH or @ray:NAME "
        "behind it where the device is another machine's."
    ),
]


def _use_secret_file(path: Path | None) -> Path | None:
    if path is not None:
        from nas.predictors.remote.secret import use_secret_file

        use_secret_file(path)
    return path


AgentSecretFile = Annotated[
    Path | None,
    typer.Option(callback=_use_secret_file, help="The secret of the agent at the target's place (else NAS_AGENT_SECRET)."),
]
Adapt = Annotated[
    int, typer.Option(min=0, help="Train a copy of each network for so many steps before it is scored.", metavar="STEPS")
]
AdaptKeep = Annotated[
    float, typer.Option(help="Share of the supernet's weights that these steps begin with; fresh ones make up the rest.")
]
AdaptRate = Annotated[float, typer.Option(help="Peak learning rate of these steps.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
MemoryFormat = Annotated[
    str, typer.Option(help="Of training images: channels_last, contiguous, or auto: on a GPU, the faster.", metavar="FORMAT")
]
Compile = Annotated[
    str, typer.Option(help="torch.compile for networks trained alone: on, off, or auto: where it pays.", metavar="WHEN")
]
Device = Annotated[str, typer.Option(help="Where networks are trained: cpu, cuda, cuda:1, mps, or auto.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.")]


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from importlib.metadata import version

        write(f"nas {version('hybrid-nas')}")
        raise typer.Exit


def write(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")


def write_json(data: Any) -> None:
    """JSON on standard output."""
    from nas.files import to_json

    write(to_json(data, ensure_ascii=False))


def threads_of_each(workers: int) -> int:
    """CPU threads of each of some workers on this machine: all cores, shared by them."""
    return max(1, (os.cpu_count() or 1) // max(1, workers))


def require_resume_alone(context: typer.Context) -> None:
    """Raise UsageError where an option stands beside --resume that would be silently passed over."""
    beside = ("resume", "device", "accept_noise", "agent_secret_file", "as_json")
    names = [name for name in context.params if name not in beside]
    require_not_beside(context, "--resume takes everything from the run's config.yaml", names)


def given_of(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Those of some options that the command line gives."""
    return [name for name in names if (found := context.get_parameter_source(name)) and found.name == "COMMANDLINE"]


def require_not_beside(context: typer.Context, why: str, names: Iterable[str]) -> None:
    """Raise UsageError where one of these options is given."""
    given = given_of(context, names)
    if given:
        written = {option.name: option.opts[0] for option in context.command.params}
        options = ", ".join(written[name] for name in given)
        raise UsageError(f"{why}; leave {options} away, or start a new run")
