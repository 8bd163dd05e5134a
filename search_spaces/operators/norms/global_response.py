"""Global response norm: channels compete by their energy over the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.norms.layer_norm import epsilon
from nas.search_spaces.registry import Kind, register


@register(
    "grn",
    Kind.NORM,
    cite="Woo et al. 2023 (ConvNeXt V2), arXiv:2301.00808, algorithm 1; official utils.py GRN; timm layers/grn.py",
    settings={"eps": epsilon(1e-6, 1e-5)},
)
class GlobalResponseNorm(nn.Module):
    """x + gamma * x * n + beta with n = g / (mean of g over channels + eps), g the l2 norm of a channel over the map.

    Gamma and beta begin at zero: the identity.
    """

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.gamma, self.beta = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        gain = 1 + self.gamma * energy / (energy.mean(-1, keepdim=True) + self.eps)
        return x * gain + self.beta


def reference(module: GlobalResponseNorm, x: Tensor) -> Tensor:
    """Image by image, channel by channel."""
    out = []
    for image in x:
        energies = [(image[..., c] ** 2).sum().sqrt() for c in range(image.shape[-1])]
        mean = sum(energies[1:], energies[0]) / len(energies)
        relative = torch.stack([energy / (mean + module.eps) for energy in energies])
        out.append(image + module.gamma * (image * relative) + module.beta)
    return torch.stack(out)
