"""The modules around the operators: residuals, parallel branches, stem, downsampling, context. Plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 0.1
"""Where layer scales begin: blocks start close to the identity, so that any composition of them can be trained."""


class Residual(nn.Module):
    """join(x, op(norm(x))): a token mixer or a channel mixer in its place. Subclasses say what `join` is.

    Further inputs are passed on to the operator; what it returns beside its map is passed on to the reader.
    """

    def __init__(self, norm: nn.Module, op: nn.Module) -> None:
        super().__init__()
        self.norm, self.op = norm, op

    def forward(self, x: Tensor, *side: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, H, W, C) and what the operator reads beside it -> (B, H, W, C), and what the operator emits."""
        y = self.op(self.norm(x), *side)
        return (self.join(x, y[0]), *y[1:]) if isinstance(y, tuple) else self.join(x, y)

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """The stream after the operator has given y, both (B, H, W, C)."""
        raise NotImplementedError


class Normed(nn.Module):
    """norm(x): what two parallel mixers read, or a norm that stands alone."""

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
        y = self.op(x[..., self.start : self.stop].contiguous())
        return y[0] if isinstance(y, tuple) else y


class Concat(nn.Module):
    """residual + scale * (the branches side by side)."""

    def __init__(self, width: int, init: float = SCALE) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), init))

    def forward(self, residual: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """(B, H, W, C), (B, H, W, C0), (B, H, W, C - C0) -> (B, H, W, C)."""
        return residual + self.scale * torch.cat((first, second), dim=-1)


class Joined(nn.Module):
    """The branches side by side, joined to the stream by another residual than layer scale."""

    def __init__(self, residual: Residual) -> None:
        super().__init__()
        self.residual = residual

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """(B, H, W, C), (B, H, W, C0), (B, H, W, C - C0) -> (B, H, W, C)."""
        return self.residual.join(x, torch.cat((first, second), dim=-1))


class Stem(nn.Module):
    """norm(op(image))."""

    def __init__(self, op: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.op, self.norm = op, norm

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, C)."""
        return self.norm(self.op(image))


class Downsample(nn.Module):
    """op(norm(x)): to the map and width of the next stage. Further inputs are passed on to the operator."""

    def __init__(self, norm: nn.Module, op: nn.Module) -> None:
        super().__init__()
        self.norm, self.op = norm, op

    def forward(self, x: Tensor, *side: Tensor) -> Tensor:
        """(B, H, W, C) and what the operator reads beside it -> (B, H', W', C'), in most cases half as high and wide."""
        return self.op(self.norm(x), *side)


class Projection(nn.Module):
    """linear(norm(x)): a change of width inside a stage."""

    def __init__(self, norm: nn.Module, in_width: int, width: int) -> None:
        super().__init__()
        self.norm, self.linear = norm, nn.Linear(in_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C')."""
        return self.linear(self.norm(x))


class Context(nn.Module):
    """The overview branch's map for one stage: brought to the stage's map bilinearly, then linearly to its width."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width)

    def forward(self, context: Tensor, x: Tensor) -> Tensor:
        """(B, h, w, C'), (B, H, W, C) -> (B, H, W, C)."""
        resized = F.interpolate(context.permute(0, 3, 1, 2), size=x.shape[1:3], mode="bilinear")
        return self.linear(resized.permute(0, 2, 3, 1))


class Resized(nn.Module):
    """The overview branch's map for one stage, with its own width: brought to the stage's map bilinearly."""

    def forward(self, overview: Tensor, x: Tensor) -> Tensor:
        """(B, h, w, C'), (B, H, W, C) -> (B, H, W, C'); itself where that is its size."""
        if overview.shape[1:3] == x.shape[1:3]:
            return overview
        return F.interpolate(overview.permute(0, 3, 1, 2), size=x.shape[1:3], mode="bilinear").permute(0, 2, 3, 1)
