"""What the convolution operators share: rules of kernels, and branches that merge into one kernel for evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Place, Setting, Value


def reaches(kernel: int, dilation: int, place: Place) -> bool:
    """Whether the outermost taps of an odd kernel reach a pixel of the map from its first one."""
    return kernel % 2 == 1 and 0 <= kernel // 2 * dilation < place.size


def kernels(*choices: int, default: int | None = None, least: int = 3) -> Setting:
    """The setting of a square kernel of at least `least`."""
    return Setting(
        choices,
        rule=lambda v, place: int(v) >= least and reaches(int(v), 1, place),
        because=f"a kernel is odd, at least {least}, and its outermost taps reach a pixel: kernel // 2 < map size",
        default=default,
    )


def expansions(*choices: int, default: int | None = None) -> Setting:
    """The setting of how many times wider the hidden layer is; 0 leaves it out where 0 is the default."""
    least = 0 if default == 0 else 1
    return Setting(
        choices,
        rule=lambda v, place: least <= int(v) <= 8,
        because=f"the hidden layer is {least} to 8 times as wide",
        default=default,
    )


def ladder(text: Value) -> tuple[int, ...]:
    """The numbers of a setting such as "1-3-5"; none where the text is something else."""
    parts = str(text).split("-")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


class ConvNorm(nn.Module):
    """norm(conv(x)): a depth-wise convolution without bias and a batch norm, zeros outside the map."""

    def __init__(self, width: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv2d(width, width, kernel, padding=padding, dilation=dilation, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = self.norm(self.conv(x))
        return y

    def folded(self) -> tuple[Tensor, Tensor]:
        """The kernel without dilation (C, 1, K, K) and the bias (C,) that do the same with the running statistics."""
        scale, bias = folded_norm(self.norm)
        return dilated(self.conv.weight * scale[:, None, None, None], self.conv.dilation[0]), bias


def folded_norm(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale and bias (C,) that a batch norm applies in evaluation."""
    assert norm.running_mean is not None, "a batch norm without running statistics"
    assert norm.running_var is not None, "a batch norm without running statistics"
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x) for a channels-last map (B, C, H, W): where the weights are much larger than the map, the map is what is copied.

    Kernels for channels-last maps first bring the weights of a dense k x k convolution into the same order, which takes longer
    than the convolution where there are many channels and few pixels.
    """
    few = 4 * x.shape[2] * x.shape[3] < conv.weight[0].numel() and conv.weight.shape[-1] > 1
    y: Tensor = conv(x.contiguous() if few else x)
    return y


def normed(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """norm(conv(x)). In evaluation the norm scales the weights rather than the map, if they are smaller."""
    if norm.training or x.shape[2] * x.shape[3] < conv.weight[0].numel():
        y: Tensor = norm(convolved(conv, x))
        return y
    scale, bias = folded_norm(norm)
    weight = conv.weight * scale[:, None, None, None]
    bias = bias if conv.bias is None else bias + conv.bias * scale
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def dilated(weight: Tensor, dilation: int) -> Tensor:
    """A kernel with dilation - 1 zeros between its taps: (C, 1, k, k) -> (C, 1, K, K), K = dilation (k - 1) + 1."""
    if dilation == 1:
        return weight
    channels, _, kernel, _ = weight.shape
    spread = F.pad(weight.view(channels, 1, kernel, 1, kernel, 1), (0, dilation - 1, 0, 0, 0, dilation - 1))
    reach = dilation * (kernel - 1) + 1
    return spread.reshape(channels, 1, kernel * dilation, kernel * dilation)[:, :, :reach, :reach]


def framed(weight: Tensor, kernel: int) -> Tensor:
    """A kernel in the middle of a larger one of zeros: (C, 1, k, k) -> (C, 1, kernel, kernel)."""
    border = (kernel - weight.shape[-1]) // 2
    return F.pad(weight, (border, border, border, border)) if border else weight


def merge(branches: list[ConvNorm], kernel: int) -> tuple[Tensor, Tensor]:
    """The kernel (C, 1, kernel, kernel) and bias (C,) of the sum of branches in evaluation."""
    weight, bias = branches[0].folded()
    weight = framed(weight, kernel)
    for branch in branches[1:]:
        more, offset = branch.folded()
        weight, bias = weight + framed(more, kernel), bias + offset
    return weight, bias


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A depth-wise convolution with a square kernel and zeros outside the map: (B, C, H, W) -> (B, C, H, W)."""
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])


def depthwise_conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution module that holds a merged kernel and bias."""
    width, _, kernel, _ = weight.shape
    conv = nn.utils.skip_init(
        nn.Conv2d, width, width, kernel, padding=kernel // 2, groups=width, device=weight.device, dtype=weight.dtype
    )
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)
    return conv


def conv_norm_reference(module: ConvNorm, x: Tensor) -> Tensor:
    """Tap by tap, then normalised, (B, H, W, C) -> (B, H, W, C)."""
    return naive.batch_norm(module.norm, naive.conv2d(module.conv, x))
