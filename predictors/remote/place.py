"""Places: where a target lives that is not this machine, as its text says behind the `@`.

`HOST:PORT` and `folder:PATH` lead to an agent, `ray:NAME` to a node of a Ray cluster. Each file below
`nas.predictors.remote.places` announces one with `@register_place`; third parties announce theirs through the entry-point
group `nas.places`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from nas.errors import UsageError
from nas.plugins import discover

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.predictors.interleaving import Effort
    from nas.predictors.measure import Run, Watch
    from nas.predictors.target import Target
    from nas.predictors.timings import Measurement, Speed

NETWORK = "tcp"


class Place(Protocol):
    """What is done elsewhere for a target. It is made of what follows its name and a colon; raises UsageError for nonsense.

    `default_runtime` stands where a target names none; `preparation` is about how many seconds a small network needs before
    it can be timed there. `ships_onnx` says that exported files are measured there, not modules.
    """

    name: ClassVar[str]
    default_runtime: ClassVar[str]
    preparation: ClassVar[float]
    ships_onnx: ClassVar[bool]

    def __init__(self, where: str) -> None: ...

    def check(self, target: Target) -> None:
        """Raise UsageError where no such place could ever run the target. Contacts nobody."""

    def require(self, target: Target) -> None:
        """Raise MeasurementError where the place does not answer, or cannot run the target."""

    def environment(self, target: Target) -> dict[str, Any]:
        """Machine, versions, clock and load there. Raises MeasurementError."""

    def anchor_seconds(self, target: Target, rounds: int) -> float:
        """The anchor's median time there now, in seconds. Raises MeasurementError."""

    def prepare(self, model: nn.Module | Path, example: Tensor, target: Target) -> Run:
        """What `measure_runs` takes; called, it runs the network there once. Raises MeasurementError where it cannot."""

    def measure_runs(
        self,
        runs: Sequence[Run],
        target: Target,
        sides: Sequence[int],
        *,
        effort: Effort,
        seed: int,
        speed: Speed | None,
        watch: Watch | None,
    ) -> list[Measurement]:
        """What `nas.predictors.measure.measure_runs` says, there, of what `prepare` returned.

        Raises RunFailedError for a network that is refused there, MeasurementError where the place is lost.
        """


P = TypeVar("P", bound="type[Place]")
_REGISTRY: dict[str, type[Place]] = {}


def register_place(kind: P) -> P:
    """Announce a kind of place under its `name`. Raises UsageError where another class holds the name."""
    known = _REGISTRY.setdefault(kind.name, kind)
    if known.__qualname__ != kind.__qualname__:
        raise UsageError(f"place {kind.name!r} is registered twice, by {known} and {kind}")
    return kind


@cache
def _load() -> None:
    discover("nas.predictors.remote.places", "nas.places")


def ships_onnx(target: Target) -> bool:
    """Whether the target is at a place that measures exported files, whatever its runtime."""
    return bool(target.place) and place(target.place).ships_onnx


def environment_of(target: Target) -> dict[str, Any]:
    """What a measurement on the target depends on, of the machine where it lives. Raises MeasurementError."""
    if target.place:
        return place(target.place).environment(target)
    from nas.predictors.environment import environment

    return environment(target.runtime)


@cache
def place(text: str) -> Place:
    """The place of a text such as `10.0.0.7:7070`, `folder:/mnt/share` or `ray:pi`. Raises UsageError."""
    _load()
    name, colon, where = text.partition(":")
    kind = _REGISTRY.get(name) if colon else None
    return _REGISTRY[NETWORK](text) if kind is None else kind(where)
