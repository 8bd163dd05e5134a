"""`Target`: what a latency was measured on. A latency without its target means nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from nas.errors import MeasurementError, UsageError
from nas.predictors.runtime import runtime

DEVICES = ("cpu", "cuda")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
REMEDY = "write it as 'cpu:onnxruntime,threads=1,batch=1,precision=fp32'; all but the device may be left out"


@dataclass(frozen=True, slots=True)
class Target:
    """Device, runtime, CPU threads of one operation, images in a batch, and precision.

    Raises UsageError where a value is impossible and UnknownNameError for an unknown runtime.
    """

    device: str = "cpu"
    runtime: str = "eager"
    threads: int = 1
    batch: int = 1
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise UsageError(f"device {self.device!r} of a target is not one of {', '.join(DEVICES)}; {REMEDY}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r} of a target is not one of {', '.join(PRECISIONS)}; {REMEDY}")
        if self.threads < 1 or self.batch < 1:
            raise UsageError(f"threads={self.threads} and batch={self.batch} of a target must be at least 1; {REMEDY}")
        known = runtime(self.runtime)
        legal = known.supports.get(self.device, ())
        if self.precision not in legal:
            able = "; ".join(f"{device} in {' or '.join(kinds)}" for device, kinds in known.supports.items())
            raise UsageError(f"runtime {self.runtime!r} does not run {self.precision} on {self.device}; it runs {able}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The target that `str(target)` or a person wrote: `device[:runtime][,threads=N][,batch=N][,precision=P]`.

        Raises UsageError or UnknownNameError, each one line with the remedy.
        """
        place, *options = [part.strip() for part in text.strip().split(",")]
        device, _, name = place.partition(":")
        values: dict[str, str] = {}
        for option in options:
            key, equals, value = (part.strip() for part in option.partition("="))
            if not equals or key not in ("threads", "batch", "precision"):
                raise UsageError(f"cannot read {option!r} in target {text!r}; {REMEDY}")
            if key in values:
                raise UsageError(f"{key} is given twice in target {text!r}; {REMEDY}")
            values[key] = value
        return cls(
            device or "cpu",
            name or "eager",
            _integer("threads", values.get("threads", "1"), text),
            _integer("batch", values.get("batch", "1"), text),
            values.get("precision", "fp32"),
        )

    def __str__(self) -> str:
        return f"{self.device}:{self.runtime},threads={self.threads},batch={self.batch},precision={self.precision}"

    @property
    def dtype(self) -> torch.dtype:
        """The precision as a torch type."""
        return PRECISIONS[self.precision]

    def require(self) -> None:
        """Raise MeasurementError where this machine lacks the device."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise MeasurementError(f"target {self} needs a CUDA device, and torch {torch.__version__} finds none; use cpu")


def _integer(key: str, value: str, text: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise UsageError(f"{key}={value} in target {text!r} is not a whole number; {REMEDY}")
    return int(value)
