"""A few small images of two classes, drawn from a seed."""

from __future__ import annotations

import torch

from nas.supernet.data import ImageSet

SIDE = 8


def images(count: int, seed: int) -> ImageSet:
    """So many images of 3 x `SIDE` x `SIDE` bytes, labelled in turn."""
    draws = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=draws)
    return ImageSet(pixels, torch.arange(count) % 2)
