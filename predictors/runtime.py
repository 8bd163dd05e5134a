"""The registry of runtimes: what turns a network into something that can be timed on a target.

Each file below `nas.predictors.runtimes` announces one with `@register`. Third parties announce theirs through the
entry-point group `nas.runtimes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from nas.errors import UsageError
from nas.plugins import discover, lookup

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.predictors.target import Target


class Runtime(Protocol):
    """How one runtime prepares and runs a network.

    `supports` maps a device to the precisions it runs there. Both may be words of its own (`{"npu": ("int8",)}`);
    `nas.predictors.device` says what is assumed of a new device, and `prepare` is given fp32 for a new precision.
    `preparation` is about how many seconds `prepare` takes for a small network, from which the time of a profile is
    estimated.
    """

    name: ClassVar[str]
    supports: ClassVar[Mapping[str, tuple[str, ...]]]
    preparation: ClassVar[float]

    def prepare(self, model: nn.Module | Path, example: Tensor, target: Target) -> Callable[[], object]:
        """A function of no arguments that runs the network once on `example` (batch, ...) and waits for its end.

        `model` is a module, which is left as it was, or the path of an exported file where the runtime reads files.
        Raises MeasurementError where the network cannot be run.
        """

    def version(self) -> str:
        """The version of the library that runs the network."""


R = TypeVar("R", bound="type[Runtime]")
_REGISTRY: dict[str, Runtime] = {}


def register(kind: R) -> R:
    """Announce a runtime class under its `name`. Raises UsageError where another class holds the name."""
    known = _REGISTRY.get(kind.name)
    if known is not None and type(known).__qualname__ != kind.__qualname__:
        raise UsageError(f"runtime {kind.name!r} is registered twice, by {type(known)} and {kind}")
    _REGISTRY[kind.name] = kind()
    return kind


@cache
def _load() -> None:
    discover("nas.predictors.runtimes", "nas.runtimes")


def runtime(name: str) -> Runtime:
    """The runtime of that name. Raises UnknownNameError with the nearest name."""
    _load()
    return lookup("runtime", name, _REGISTRY)


def names() -> list[str]:
    """The names of all runtimes, sorted."""
    _load()
    return sorted(_REGISTRY)
