"""`Target`: what a latency was measured on. A latency without its target means nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from nas.errors import MeasurementError, UsageError
from nas.predictors.device import device
from nas.predictors.remote.place import place
from nas.predictors.runtime import names, runtime

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SPOKEN = {"gpu": "cuda"}
"""What people call a device that a runtime names otherwise."""
REMEDY = "write it as 'cpu:onnxruntime,threads=1,batch=1,precision=fp32'; all but the device may be left out"


@dataclass(frozen=True, slots=True)
class Target:
    """Device, runtime, CPU threads of one operation, images in a batch, precision, and the place where the device is.

    Devices and precisions are those that the runtimes announce (`Runtime.supports`), those of other packages included. With a
    `place` (`nas.predictors.remote.place`) that is not this machine they are words that the agent there must know.
    Raises UsageError where a value is impossible and UnknownNameError for an unknown runtime.
    """

    device: str = "cpu"
    runtime: str = "eager"
    threads: int = 1
    batch: int = 1
    precision: str = "fp32"
    place: str = ""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.batch < 1:
            raise UsageError(f"threads={self.threads} and batch={self.batch} of a target must be at least 1; {REMEDY}")
        if self.place:
            place(self.place).check(self)
            return
        known = runtime(self.runtime)
        for what, value, legal in (("device", self.device, devices()), ("precision", self.precision, precisions())):
            if value not in legal:
                raise UsageError(f"{what} {value!r} of a target is not one of {', '.join(legal)}; {REMEDY}")
        if self.precision not in known.supports.get(self.device, ()):
            able = "; ".join(f"{place} in {' or '.join(kinds)}" for place, kinds in known.supports.items())
            raise UsageError(f"runtime {self.runtime!r} does not run {self.precision} on {self.device}; it runs {able}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The target that `str(target)` or a person wrote: `device[:runtime][,threads=N][,batch=N][,precision=P][@place]`.

        `gpu` of this machine is `cuda`.

        Raises UsageError or UnknownNameError, each one line with the remedy.
        """
        what, at, elsewhere = text.strip().partition("@")
        if at and not elsewhere:
            raise UsageError(f"target {text!r} names no place behind its '@'; write e.g. cpu:onnxruntime@192.168.1.20:7070")
        first, *options = [part.strip() for part in what.split(",")]
        where, _, name = first.partition(":")
        values: dict[str, str] = {}
        for option in options:
            key, equals, value = (part.strip() for part in option.partition("="))
            if not equals or key not in ("threads", "batch", "precision"):
                raise UsageError(f"cannot read {option!r} in target {text!r}; {REMEDY}")
            if key in values:
                raise UsageError(f"{key} is given twice in target {text!r}; {REMEDY}")
            values[key] = value
        return cls(
            where or "cpu" if elsewhere else SPOKEN.get(where, where or "cpu"),
            name or (place(elsewhere).default_runtime if elsewhere else "eager"),
            _integer("threads", values.get("threads", "1"), text),
            _integer("batch", values.get("batch", "1"), text),
            values.get("precision", "fp32"),
            elsewhere,
        )

    def __str__(self) -> str:
        what = f"{self.device}:{self.runtime},threads={self.threads},batch={self.batch},precision={self.precision}"
        return f"{what}@{self.place}" if self.place else what

    @property
    def dtype(self) -> torch.dtype:
        """The torch type that the runtime is given: of the precision, or fp32 where the runtime makes it itself (int8, or
        an agent's)."""
        return torch.float32 if self.place else DTYPES.get(self.precision, torch.float32)

    def require(self) -> None:
        """Raise MeasurementError where the device is missing, or the place where it is does not answer."""
        if self.place:
            return place(self.place).require(self)
        try:
            device(self.device).require()
        except MeasurementError as error:
            raise MeasurementError(f"target {self} cannot be measured: {error}") from error


def devices() -> list[str]:
    """The devices that some runtime runs on, sorted."""
    return sorted({place for name in names() for place in runtime(name).supports})


def precisions() -> list[str]:
    """The precisions that some runtime runs on some device, sorted."""
    return sorted({kind for name in names() for kinds in runtime(name).supports.values() for kind in kinds})


def _integer(key: str, value: str, text: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise UsageError(f"{key}={value} in target {text!r} is not a whole number; {REMEDY}")
    return int(value)
