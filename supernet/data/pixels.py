"""Decoded images as tensors: upright, cut to a square, 8 bits a channel, RGB."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nas.errors import FileError

_BITS_16 = 65535


def decoded(images: Iterable[tuple[str, Callable[[], Image.Image]]], count: int, side: int) -> Tensor:
    """`count` images, each named and opened by a function, as uint8 (count, 3, side, side).

    Raises FileError with the name of the first that cannot be read: decoders raise whatever they meet.
    """
    pixels = torch.empty(count, 3, side, side, dtype=torch.uint8)
    for number, (name, opened) in enumerate(images):
        try:
            with opened() as image:
                pixels[number] = to_tensor(image, side)
        except MemoryError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise FileError(f"{name} is damaged or no image ({reason}); repair or remove it") from error
    return pixels


def to_tensor(image: Image.Image, side: int) -> Tensor:
    """A PIL image as uint8 (3, side, side), turned as its camera was held. Raises ValueError for pixels of unknown range."""
    upright = ImageOps.exif_transpose(image)
    fitted = ImageOps.fit(_of_8_bits(upright).convert("RGB"), (side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Pixels of 16 bits by their upper 8, which `convert` would cut off at 255."""
    if not image.mode.startswith(("I", "F")):
        return image
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > _BITS_16:
        raise ValueError(f"mode {image.mode} has pixels of no known range, convert it to 8 or 16 bits")
    return Image.fromarray((pixels.astype(np.int64) >> 8).astype(np.uint8))
