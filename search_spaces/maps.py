"""The maps that stages work on: squares of pixels, or rows of tokens, with or without a class token in front."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Map:
    """Height and width of a map; `token`: it is a row, and its first position is a class token."""

    height: int
    width: int
    token: bool = False

    @classmethod
    def square(cls, side: int) -> Map:
        """A map as high as wide."""
        return cls(side, side)

    @property
    def side(self) -> int:
        """The size that operators are told: the height, or the columns where there is one row."""
        return self.width if self.height == 1 else self.height

    @property
    def positions(self) -> int:
        """Pixels or tokens, the class token included."""
        return self.height * self.width

    def after_stride(self, stride: int) -> Map | None:
        """The map with its sides divided, or None where they do not divide; a class token stays in front."""
        if self.token:
            side = math.isqrt(self.width - 1)
            whole = side**2 == self.width - 1 and side % stride == 0
            return Map(1, (side // stride) ** 2 + 1, True) if whole else None
        divides = self.height % stride == 0 and self.width % stride == 0
        return Map(self.height // stride, self.width // stride) if divides else None

    def become(self, height: int, width: int, stride: int) -> Map | None:
        """The map of that shape after a downsample of a stage of a stride, or None where it has no place there.

        A stage of stride 2 takes half the map and nothing else. A stage of stride 1 takes the map as it is, a class token put
        in front of it, a row of fewer tokens, or a coarser square; `surroundings` keeps those from it that halve every map.
        """
        halved = self.after_stride(stride)
        if halved is not None and (halved.height, halved.width) == (height, width):
            return halved
        if stride != 1 or min(height, width) < 1:
            return None
        if height == 1 < self.height and width == self.positions + 1:
            return Map(1, width, True)
        if height == 1 and width <= self.positions:
            return Map(1, width, self.token)
        return Map(height, width) if height == width and height * width < self.positions else None
