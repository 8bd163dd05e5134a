"""The memory format of training images: where the channels of a pixel lie side by side, and where whole planes do.

Between the nodes of a network maps are channels-last whatever the images are, (B, H, W, C) and contiguous, and convolutions
see a permuted view. Images alone enter as (B, C, H, W); the stem hands their format on to the norm behind it, and where that
norm leaves it as it is (batch, group), to the residual stream of the whole first stage. Weights stay contiguous: a kernel
brings them into the order it needs, and optimiser, averages and checkpoints never see another one.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHANNELS_LAST, CONTIGUOUS = "channels_last", "contiguous"
MEMORY_FORMATS = {CHANNELS_LAST: torch.channels_last, CONTIGUOUS: torch.contiguous_format}


def laid_out(images: Tensor, memory_format: str | None) -> Tensor:
    """Images (B, C, H, W) in a memory format; themselves where they have it already, or where it is None.

    Decided by the strides: of images of one channel PyTorch holds both formats for true, but kernels choose by the strides.
    """
    _, channels, height, width = images.shape
    strides = {CHANNELS_LAST: (1, width * channels, channels), CONTIGUOUS: (height * width, width, 1)}
    if memory_format is None or images.stride()[1:] == strides[memory_format]:
        return images
    return images.clone(memory_format=MEMORY_FORMATS[memory_format])
