"""The entry point of the `nas` command: parse, run, and turn errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

# Idle OpenMP threads spin briefly, then sleep: on a busy machine long spinning slows work severalfold. Read once, by libgomp.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import typer

from nas.cli.app import app
from nas.errors import NasError

_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
_INTERRUPTED = "stopped; `nas search --resume RUN` goes on where a search was"


def main() -> None:
    """Run the command line and exit: 0 done, 2 bad usage, 3 infeasible budget, 1 any other error."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of a command line. Errors go to stderr in one line; `--debug` adds the traceback."""
    debug = "--debug" in arguments
    try:
        code = app([argument for argument in arguments if argument != "--debug"], prog_name="nas", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort) as error:
        return _fail(str(error) or _INTERRUPTED, 1, debug)
    except NasError as error:
        return _fail(str(error), error.exit_code, debug)
    except _USAGE_ERROR as error:
        return _fail(f"{error.format_message()} (see {_command(error)} --help)", 2, debug)
    except BrokenPipeError:
        return 1
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1, debug)
    except Exception as error:
        return _fail(f"unexpected {type(error).__name__}: {error}; run again with --debug for the traceback", 1, debug)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        raise
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code


def _command(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "nas"


if __name__ == "__main__":
    main()
