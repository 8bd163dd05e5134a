"""The handwritten digits that scikit-learn ships: 1,797 grey images of 8x8 pixels, 10 classes, no download."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from nas.errors import UsageError
from nas.supernet.data.base import ImageSet, Source, register_source


@register_source("digits")
def digits(path: str, side: int) -> Source:
    """Digits enlarged to side x side pixels; a mirrored digit is another digit."""
    if path:
        raise UsageError(f"data source 'digits' takes no path, got {path!r}; write --data digits")
    bunch = load_digits()
    images = torch.from_numpy(np.asarray(bunch.images, dtype=np.float32))[:, None] * (255.0 / 16.0)
    images = F.interpolate(images, size=(side, side), mode="bilinear")
    labels = torch.from_numpy(np.asarray(bunch.target, dtype=np.int64))
    return Source(ImageSet(images.round().clamp(0, 255).to(torch.uint8), labels), tuple("0123456789"), flip=False)
