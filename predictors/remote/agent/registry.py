"""The runtimes of an agent: those in files below `runtimes`, and plug-ins named on its command line."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas.errors import MeasurementError, UnknownNameError, UsageError, in_one_line

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The target of a job as its runtime sees it."""

    device: str
    precision: str
    threads: int


class AgentRuntime(Protocol):
    """How one runtime loads and runs an exported network on this device."""

    @property
    def name(self) -> str:
        """What targets call it."""

    def version(self) -> str:
        """The version of the library. Raises ImportError where it is not installed."""

    def prepare(self, content: bytes, example: NDArray[np.float32], wanted: Wanted) -> Run:
        """A function that runs the network once on `example` and waits for its end. May raise anything."""


R = TypeVar("R", bound="type[Any]")
RUNTIMES: dict[str, AgentRuntime] = {}


def register(kind: R) -> R:
    """Announce a runtime class under its `name`."""
    RUNTIMES[kind.name] = kind()
    return kind


@dataclass(frozen=True, slots=True)
class Plugin:
    """A runtime in a file of its own: `version()` and `prepare(content, example, device, precision, threads)`."""

    name: str
    module: ModuleType

    def version(self) -> str:
        """What the plug-in says."""
        return str(self.module.version())

    def prepare(self, content: bytes, example: NDArray[np.float32], wanted: Wanted) -> Run:
        """What the plug-in makes of the network."""
        found: Run = self.module.prepare(content, example, wanted.device, wanted.precision, wanted.threads)
        return found


def add_plugin(text: str) -> None:
    """Load the plug-in `NAME=FILE.py`. Raises UsageError where it cannot be read, imported, or lacks a function."""
    name, equals, file = text.partition("=")
    path = Path(file)
    if not (equals and name.isidentifier() and path.is_file()):
        raise UsageError(f"cannot read the runtime {text!r}; write NAME=FILE.py with a file that exists")
    spec = importlib.util.spec_from_file_location(f"agent_runtime_{name}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"the runtime file {path} is no Python file; write NAME=FILE.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"the runtime file {path} cannot be imported: {in_one_line(error)}") from error
    for function in ("version", "prepare"):
        if not callable(getattr(module, function, None)):
            raise UsageError(f"the runtime file {path} has no function {function}; docs/agent.md shows one")
    RUNTIMES[name] = Plugin(name, module)


def installed() -> dict[str, str]:
    """The versions of the runtimes that can be used here."""
    found = {}
    for name, runtime in sorted(RUNTIMES.items()):
        with contextlib.suppress(Exception):
            found[name] = runtime.version()
    return found


def unusable() -> dict[str, str]:
    """Why runtimes cannot be used here that are more than not installed: a broken library, a missing driver."""
    found = {}
    for name, runtime in sorted(RUNTIMES.items()):
        try:
            runtime.version()
        except ImportError:
            continue
        except Exception as error:
            found[name] = in_one_line(error)
    return found


def agent_runtime(name: str) -> AgentRuntime:
    """The runtime of that name. Raises UnknownNameError, or MeasurementError where its library is not installed or broken."""
    if name not in RUNTIMES:
        raise UnknownNameError("runtime of this agent", name, RUNTIMES)
    try:
        RUNTIMES[name].version()
    except ImportError as error:
        able = ", ".join(installed()) or "none"
        raise MeasurementError(f"runtime {name!r} is not installed there ({error}); installed: {able}") from error
    except Exception as error:
        raise MeasurementError(f"runtime {name!r} cannot be used there: {in_one_line(error)}; mend it there") from error
    return RUNTIMES[name]


def prepared(runtime: AgentRuntime, content: bytes, shape: tuple[int, ...], wanted: Wanted) -> Run:
    """The run of a network on fixed noise of its shape, tried once. Raises MeasurementError where the runtime refuses it."""
    example = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    try:
        run = runtime.prepare(content, example, wanted)
        run()
    except MeasurementError:
        raise
    except Exception as error:
        raise MeasurementError(f"{runtime.name} refuses it: {in_one_line(error)}") from error
    return run
