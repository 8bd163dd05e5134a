"""How a training computes: the memory format of its images, and whether its network is compiled.

Neither changes what is computed but for the last bits, so neither is part of what names a training. `auto` is measured, or on a
CPU a rule (`tried_on`). What was measured, or turned out otherwise than wished, is kept beside the checkpoint: a training that
is gone on with computes as the uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from nas.errors import FileError, UsageError
from nas.files import read_json, write_json
from nas.supernet.layout import CHANNELS_LAST, MEMORY_FORMATS

AUTO, ON, OFF = "auto", "on", "off"
COMPILE = (AUTO, ON, OFF)
FORMAT_CHOICES = (AUTO, *MEMORY_FORMATS)
_FIELDS = ("memory_format", "compile")
Tell = Callable[[str], None]
"""Called with one line for the reader."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a recipe asks for. Raises UsageError for a word that is none of the choices."""

    memory_format: str = AUTO
    compile: str = OFF

    def __post_init__(self) -> None:
        """See the class."""
        for name, choices in (("memory_format", FORMAT_CHOICES), ("compile", COMPILE)):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} of a training is one of {', '.join(choices)}, got {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class Engine:
    """How a training computes. `why` tells what that rests on beside the wish: measurements, or what failed."""

    memory_format: str = CHANNELS_LAST
    compiled: bool = False
    why: str = ""

    @classmethod
    def wished(cls, wish: Wish) -> Self:
        """What a wish gives without trials: channels-last unless it says otherwise, not compiled."""
        return cls(CHANNELS_LAST if wish.memory_format == AUTO else wish.memory_format)

    def because(self, reason: str) -> Self:
        """The same for one more reason."""
        return replace(self, why="; ".join(part for part in (self.why, reason) if part))

    def __str__(self) -> str:
        form = self.memory_format.replace("_", "-")
        return f"images {form}, network {'compiled' if self.compiled else 'not compiled'}{self.why and ': '}{self.why}"


def tried_on(device: torch.device) -> bool:
    """Whether `auto` is measured there. On a CPU it is a rule: the same command gives the same weights to the last bit."""
    return device.type not in ("cpu", "meta")


def without_engine(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that decide the weights, but for rounding."""
    return {name: value for name, value in recipe.items() if name not in _FIELDS}


def engine_path(checkpoint: Path) -> Path:
    """Where the engine of a training is kept."""
    return checkpoint.with_suffix(".engine.json")


def kept_engine(checkpoint: Path, wish: Wish) -> Engine | None:
    """The engine that the training of this checkpoint began with, if it was kept and the wish is the same.

    Raises FileError for a damaged file.
    """
    path = engine_path(checkpoint)
    if not path.exists():
        return None
    found = read_json(path, "engine of a training")
    try:
        asked = found.pop("asked")
        return Engine(**found) if asked == asdict(wish) else None
    except (AttributeError, KeyError, TypeError) as error:
        raise FileError(f"engine of a training {path} is damaged; delete it to have it measured again") from error


def keep_engine(checkpoint: Path, wish: Wish, engine: Engine, tell: Tell) -> None:
    """Write an engine down and tell it, where it rests on more than the wish."""
    if engine.why:
        write_json(engine_path(checkpoint), {**asdict(engine), "asked": asdict(wish)})
        tell(str(engine))


def silent(line: str) -> None:
    """Tells nobody."""
