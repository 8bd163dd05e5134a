"""Views of a shared tensor: the part of it that a smaller choice uses.

Channels are leading slices, so that the first channels serve every width. Kernels, relative-position tables and spectra are
cropped around their centre (index n // 2), so that a 3x3 kernel is the middle of a 7x7 one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

Modes = tuple[bool, ...]
"""For each dimension, whether it is cropped around its centre (True) or taken from the start (False)."""


def parameters_with_modes(module: nn.Module) -> Iterator[tuple[str, nn.Parameter, Modes]]:
    """Every parameter of a module with its name and the modes of its dimensions.

    The spatial dimensions of convolution weights are centred, and what a class lists in `centred`: `{"table": (0, 1)}`.
    """
    for prefix, owner in module.named_modules():
        declared = getattr(owner, "centred", {})
        for name, parameter in owner.named_parameters(recurse=False):
            centred = declared.get(name, ())
            if isinstance(owner, nn.Conv2d) and name == "weight":
                centred = (2, 3)
            modes = tuple(dimension in centred for dimension in range(parameter.ndim))
            yield f"{prefix}.{name}" if prefix else name, parameter, modes


def slices(full: tuple[int, ...], part: tuple[int, ...], modes: Modes) -> tuple[slice, ...]:
    """The slice of each dimension that takes a tensor of shape `part` out of one of shape `full`."""
    assert len(full) == len(part) == len(modes), f"{part} is no part of {full}"
    starts = [whole // 2 - size // 2 if centred else 0 for whole, size, centred in zip(full, part, modes, strict=True)]
    return tuple(slice(start, start + size) for start, size in zip(starts, part, strict=True))


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of a contiguous tensor: its slices, where it lies in memory from the tensor's start on, or that it is the `whole`.

    A training step takes hundreds of parts, and by their places in memory that costs a third of what it costs by slices.
    """

    slices: tuple[slice, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    whole: bool

    @classmethod
    def out_of(cls, full: tuple[int, ...], part: tuple[int, ...], modes: Modes) -> Self:
        """The part of shape `part` of a tensor of shape `full`."""
        taken = slices(full, part, modes)
        strides = tuple(math.prod(full[dimension + 1 :]) for dimension in range(len(full)))
        offset = sum(one.start * stride for one, stride in zip(taken, strides, strict=True))
        return cls(taken, part, strides, offset, full == part)

    def of(self, tensor: Tensor) -> Tensor:
        """The part of a tensor, in its memory; the tensor itself where the part is the whole."""
        return tensor if self.whole else tensor.as_strided(self.shape, self.strides, tensor.storage_offset() + self.offset)


def view(tensor: Tensor, cut: Cut) -> Tensor:
    """The part of a tensor, contiguous: kernels may round differently on other strides, and a slice must be exact.

    The tensor itself where the part is the whole. Gradients flow back, by slices faster than by places in memory.
    """
    return tensor if cut.whole else tensor[cut.slices].contiguous()


def union(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest shape that has room for both."""
    assert len(first) == len(second), f"{first} and {second} are parts of one tensor but differ in dimensions"
    return tuple(map(max, first, second))
