"""The registry of energy meters: what counts the joules of a device on this machine.

Each file below `nas.predictors.meters` announces one with `@register_meter`. Third parties announce theirs through the
entry-point group `nas.meters`; where several serve a device, theirs are asked before those that are here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from nas.errors import MeasurementError, UsageError
from nas.plugins import discover, lookup

if TYPE_CHECKING:
    from nas.predictors.target import Target

Counter = Callable[[], float]
"""Joules since the counter was started; never less than the time before."""


class Meter(Protocol):
    """A counter of joules that this machine has.

    `devices` are those of targets whose energy it counts, `counts` says in words what is in its figure. `interval` is about how
    many seconds pass between two updates of the counter: how long a network must run to be counted follows from it.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    counts: ClassVar[str]
    interval: ClassVar[float]

    def start(self) -> Counter:
        """A counter that starts at zero now. Raises MeasurementError, with the reason, where it cannot be read here."""


M = TypeVar("M", bound="type[Meter]")
_REGISTRY: dict[str, Meter] = {}


def register_meter(kind: M) -> M:
    """Announce a meter class under its `name`. Raises UsageError where another class holds the name."""
    known = _REGISTRY.get(kind.name)
    if known is not None and type(known).__qualname__ != kind.__qualname__:
        raise UsageError(f"meter {kind.name!r} is registered twice, by {type(known)} and {kind}")
    _REGISTRY[kind.name] = kind()
    return kind


@cache
def _load() -> None:
    discover("nas.predictors.meters", "nas.meters")


def meter_names() -> list[str]:
    """The names of all meters, sorted."""
    _load()
    return sorted(_REGISTRY)


def meter(name: str) -> Meter:
    """The meter of that name. Raises UnknownNameError with the nearest name."""
    _load()
    return lookup("meter", name, _REGISTRY)


def meter_of(target: Target) -> Meter:
    """The meter that counts the energy of a target and can be read here.

    Raises MeasurementError, with what each meter of its device says, where there is none, and for a target elsewhere: an agent
    counts no energy.
    """
    if target.place:
        raise MeasurementError(
            f"the energy of {target} is not counted: agents measure times alone; profile a target of this machine, or leave "
            "the energy out"
        )
    _load()
    reasons = []
    for known in reversed(_REGISTRY.values()):
        if target.device in known.devices:
            try:
                known.start()
            except MeasurementError as error:
                reasons.append(f"{known.name}: {error}")
            else:
                return known
    told = "; ".join(reasons) or f"no meter serves device {target.device!r}; there are {', '.join(sorted(_REGISTRY))}"
    raise MeasurementError(
        f"nothing counts the energy of {target} here ({told}); go to a machine that counts it, or leave the energy out"
    )
