"""The modules around the operators: residuals, parallel branches, stem, downsampling, head. Plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SCALE = 0.1
"""Where layer scales begin: blocks start close to the identity, so that any composition of them can be trained."""


class Residual(nn.Module):
    """x + scale * op(norm(x)): a token mixer or a channel mixer in its place.

    One scale a channel: layer scale, Touvron et al. 2021 (CaiT), arXiv:2103.17239, eq. 4.
    """

    def __init__(self, norm: nn.Module, op: nn.Module, width: int) -> None:
        super().__init__()
        self.norm, self.op = norm, op
        self.scale = nn.Parameter(torch.full((width,), SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return x + self.scale * self.op(self.norm(x))


class Normed(nn.Module):
    """norm(x): what two parallel mixers read."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return self.norm(x)


class Branch(nn.Module):
    """A token mixer on the channels from `start` to `stop`."""

    def __init__(self, op: nn.Module, start: int, stop: int) -> None:
        super().__init__()
        self.op, self.start, self.stop = op, start, stop

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, stop - start)."""
        return self.op(x[..., self.start : self.stop].contiguous())


class Concat(nn.Module):
    """residual + scale * (the branches side by side)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), SCALE))

    def forward(self, residual: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """(B, H, W, C), (B, H, W, C0), (B, H, W, C - C0) -> (B, H, W, C)."""
        return residual + self.scale * torch.cat((first, second), dim=-1)


class Stem(nn.Module):
    """norm(op(image))."""

    def __init__(self, op: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.op, self.norm = op, norm

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, C)."""
        return self.norm(self.op(image))


class Downsample(nn.Module):
    """op(norm(x)): to half the height and width and the next stage's width."""

    def __init__(self, norm: nn.Module, op: nn.Module) -> None:
        super().__init__()
        self.norm, self.op = norm, op

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, C')."""
        return self.op(self.norm(x))


class Projection(nn.Module):
    """linear(norm(x)): a change of width inside a stage."""

    def __init__(self, norm: nn.Module, in_width: int, width: int) -> None:
        super().__init__()
        self.norm, self.linear = norm, nn.Linear(in_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C')."""
        return self.linear(self.norm(x))


class Head(nn.Module):
    """linear(mean over positions of norm(x))."""

    def __init__(self, norm: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.linear = norm, nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        return self.linear(self.norm(x).mean((1, 2)))
