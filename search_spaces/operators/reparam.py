"""A convolution of any stride and grouping that is trained as parallel branches and is one convolution in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import folded_norm, framed


class ReparamBranches(nn.Module):
    """BN(conv_kernel x) + BN(conv_small x) + BN(x), convolutions without biases, zeros outside the map.

    The second is left out with `small` 0, the third where stride or channels change or `identity` is off. Vasu et al. 2023
    (MobileOne), arXiv:2206.04040, section 3.2, with one branch of each kind.
    """

    def __init__(
        self, in_width: int, width: int, kernel: int, *, stride: int = 1, groups: int = 1, small: int = 0, identity: bool = True
    ) -> None:
        super().__init__()
        self.large = nn.Conv2d(in_width, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.large_norm = nn.BatchNorm2d(width)
        self.small = nn.Conv2d(in_width, width, small, stride, padding=small // 2, groups=groups, bias=False) if small else None
        self.small_norm = nn.BatchNorm2d(width) if small else None
        self.identity = nn.BatchNorm2d(width) if identity and stride == 1 and in_width == width else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_width, H, W) -> (B, width, H/stride, W/stride), odd sizes rounded up."""
        if not self.training:
            weight, bias = self.folded()
            conv = self.large
            return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        y: Tensor = self.large_norm(self.large(x))
        if self.small is not None and self.small_norm is not None:
            y = y + self.small_norm(self.small(x))
        return y if self.identity is None else y + self.identity(x)

    def folded(self) -> tuple[Tensor, Tensor]:
        """The kernel and bias of all branches together, with the running statistics."""
        kernel = self.large.weight.shape[-1]
        scale, bias = folded_norm(self.large_norm)
        weight = self.large.weight * scale[:, None, None, None]
        if self.small is not None and self.small_norm is not None:
            scale, more = folded_norm(self.small_norm)
            weight, bias = weight + framed(self.small.weight * scale[:, None, None, None], kernel), bias + more
        if self.identity is not None:
            scale, more = folded_norm(self.identity)
            columns = weight.shape[1]
            ones = torch.eye(columns, dtype=weight.dtype, device=weight.device).repeat(weight.shape[0] // columns, 1)
            weight = weight + framed((ones * scale[:, None])[:, :, None, None], kernel)
            bias = bias + more
        return weight, bias


def branches_reference(module: ReparamBranches, x: Tensor) -> Tensor:
    """Branch by branch, tap by tap, channels last."""
    y = naive.batch_norm(module.large_norm, naive.conv2d(module.large, x))
    if module.small is not None and module.small_norm is not None:
        y = y + naive.batch_norm(module.small_norm, naive.conv2d(module.small, x))
    return y if module.identity is None else y + naive.batch_norm(module.identity, x)
