"""RepMixer: what depth-wise branches add to a batch norm of the map, one convolution in evaluation."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import (
    ConvNorm,
    conv_norm_reference,
    depthwise,
    depthwise_conv,
    folded_norm,
    framed,
    kernels,
    merge,
)
from nas.search_spaces.registry import Group, Kind, register


@register(
    "repmixer",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Vasu et al. 2023 (FastViT), arXiv:2303.14189, section 3.2.1; timm fastvit.py RepMixer",
    settings={"kernel": kernels(3, 5, 7)},
)
class RepMixer(nn.Module):
    """BN(DW_kernel x) + BN(DW_1 x) + BN_1(x) - BN_2(x), depth-wise convolutions without biases.

    The block adds x and the layer scale: x + scale * (mixer(x) - norm(x)), with no norm before the operator, is the code (the
    paper writes x + DW(BN(x)) only). In evaluation all terms are added up to one kernel first, so
    that MACs are N C kernel^2; training runs the branches.
    """

    def __init__(self, width: int, size: int, *, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.large = ConvNorm(width, kernel)
        self.small = ConvNorm(width, 1)
        self.identity = nn.BatchNorm2d(width)
        self.subtracted = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x.permute(0, 3, 1, 2)
        if self.training:
            y = self.large(x) + self.small(x) + self.identity(x) - self.subtracted(x)
        else:
            y = depthwise(x, *self._folded())
        return y.permute(0, 2, 3, 1)

    def _folded(self) -> tuple[Tensor, Tensor]:
        """The kernel and bias of all terms together."""
        weight, bias = merge([self.large, self.small], self.kernel)
        (plus, above), (minus, below) = folded_norm(self.identity), folded_norm(self.subtracted)
        return weight + framed((plus - minus)[:, None, None, None], self.kernel), bias + above - below

    def as_merged(self) -> nn.Conv2d:
        """One convolution that does in evaluation what the branches do."""
        return depthwise_conv(*self._folded())


def reference(module: RepMixer, x: Tensor) -> Tensor:
    """Term by term, tap by tap."""
    mixed = conv_norm_reference(module.large, x) + conv_norm_reference(module.small, x)
    return mixed + naive.batch_norm(module.identity, x) - naive.batch_norm(module.subtracted, x)


def macs(width: int, size: int, *, kernel: int) -> int:
    """Multiply-adds for one image in evaluation."""
    return size**2 * width * kernel**2
