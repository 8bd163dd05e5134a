"""Global response normalisation: channels compete by their energy over the whole map."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResponseNorm(nn.Module):
    """x + weight * x * g / (mean of g over channels + 1e-6) + bias, with g the L2 norm of each channel over the map.

    Woo et al. 2023 (ConvNeXt V2), arXiv:2301.00808, algorithm 1. It starts as the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        share = energy / (energy.mean(-1, keepdim=True) + 1e-6)
        return x * (1 + self.weight * share) + self.bias


def response_norm_reference(module: ResponseNorm, x: Tensor) -> Tensor:
    """Image by image, channel by channel."""
    images = []
    for image in x:
        energy = torch.stack([(image[..., channel] ** 2).sum().sqrt() for channel in range(x.shape[-1])])
        share = energy / (energy.sum() / len(energy) + 1e-6)
        images.append(image + module.weight * (image * share) + module.bias)
    return torch.stack(images)
