"""`Target`: what a latency was measured on. A latency without its target means nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from nas.errors import MeasurementError, UsageError
from nas.predictors.device import device
from nas.predictors.runtime import names, runtime

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
REMEDY = "write it as 'cpu:onnxruntime,threads=1,batch=1,precision=fp32'; all but the device may be left out"


@dataclass(frozen=True, slots=True)
class Target:
    """Device, runtime, CPU threads of one operation, images in a batch, and precision.

    Devices and precisions are those that the runtimes announce (`Runtime.supports`), those of other packages included.
    Raises UsageError where a value is impossible and UnknownNameError for an unknown runtime.
    """

    device: str = "cpu"
    runtime: str = "eager"
    threads: int = 1
    batch: int = 1
    precision: str = "fp32"

    def __post_init__(self) -> None:
        known = runtime(self.runtime)
        for what, value, legal in (("device", self.device, devices()), ("precision", self.precision, precisions())):
            if value not in legal:
                raise UsageError(f"{what} {value!r} of a target is not one of {', '.join(legal)}; {REMEDY}")
        if self.threads < 1 or self.batch < 1:
            raise UsageError(f"threads={self.threads} and batch={self.batch} of a target must be at least 1; {REMEDY}")
        if self.precision not in known.supports.get(self.device, ()):
            able = "; ".join(f"{place} in {' or '.join(kinds)}" for place, kinds in known.supports.items())
            raise UsageError(f"runtime {self.runtime!r} does not run {self.precision} on {self.device}; it runs {able}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The target that `str(target)` or a person wrote: `device[:runtime][,threads=N][,batch=N][,precision=P]`.

        Raises UsageError or UnknownNameError, each one line with the remedy.
        """
        place, *options = [part.strip() for part in text.strip().split(",")]
        where, _, name = place.partition(":")
        values: dict[str, str] = {}
        for option in options:
            key, equals, value = (part.strip() for part in option.partition("="))
            if not equals or key not in ("threads", "batch", "precision"):
                raise UsageError(f"cannot read {option!r} in target {text!r}; {REMEDY}")
            if key in values:
                raise UsageError(f"{key} is given twice in target {text!r}; {REMEDY}")
            values[key] = value
        return cls(
            where or "cpu",
            name or "eager",
            _integer("threads", values.get("threads", "1"), text),
            _integer("batch", values.get("batch", "1"), text),
            values.get("precision", "fp32"),
        )

    def __str__(self) -> str:
        return f"{self.device}:{self.runtime},threads={self.threads},batch={self.batch},precision={self.precision}"

    @property
    def dtype(self) -> torch.dtype:
        """The torch type that the runtime is given: of the precision, or fp32 where the runtime makes it itself (int8)."""
        return DTYPES.get(self.precision, torch.float32)

    def require(self) -> None:
        """Raise MeasurementError where this machine lacks the device."""
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
