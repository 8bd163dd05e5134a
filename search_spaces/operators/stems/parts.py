"""What stems and downsamplings share: a norm of their own at their end, and rows of convolutions with batch norms."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import naive_activation
from nas.search_spaces.registry import Setting, one_of

STRIDE = Setting(
    (2, 4), rule=lambda v, place: v in (1, 2, 4, 8, 14, 16), because="a stem divides the map by 1, 2, 4, 8, 14 or 16"
)
HALVINGS = Setting(
    (2, 4), rule=lambda v, place: v in (2, 4, 8, 16), because="a stem of halvings divides the map by 2, 4, 8 or 16"
)
END_NORM = one_of("none", "layer", "batch", default="none")


def eps_of(*norms: str) -> Setting:
    """The eps of norms, where one of the settings `norms` does not say that there is none; without `norms` there always is."""
    return Setting(
        (1e-5, 1e-6),
        rule=lambda v, place: (
            v == 1e-5 or (0 < float(v) <= 0.01 and (not norms or any(place.chosen[n] != "none" for n in norms)))
        ),
        because="eps is above 0, at most 0.01, and there is a norm that has it",
        default=1e-5,
    )


def own_norm(name: str, width: int, eps: float) -> nn.Module:
    """The norm behind the last convolution."""
    if name == "layer":
        return nn.LayerNorm(width, eps=eps)
    if name == "group":
        return nn.GroupNorm(1, width, eps=eps)
    return nn.BatchNorm2d(width, eps=eps) if name == "batch" else nn.Identity()


def finish(norm: nn.Module, maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C), normed."""
    last = (0, 2, 3, 1)
    y: Tensor = norm(maps).permute(last) if isinstance(norm, (nn.BatchNorm2d, nn.GroupNorm)) else norm(maps.permute(last))
    return y


def doubling(width: int, count: int) -> list[int]:
    """The widths of `count` convolutions, each twice as wide as the one before, to `width`."""
    return [max(width >> (count - 1 - step), 1) for step in range(count)]


def convolutions(widths: list[int], strides: list[int], *, kernel: int = 3, bias: bool = False) -> nn.ModuleList:
    """Convolutions of odd `kernel` between successive `widths`, padded with kernel // 2 zeros."""
    return nn.ModuleList(
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=bias)
        for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True)
    )


def even_padded(maps: Tensor) -> Tensor:
    """(B, C, H, W) with the zeros that TensorFlow puts around it for a 3x3 convolution of stride 2: none above even heights."""
    return F.pad(maps, (maps.shape[3] % 2, 1, maps.shape[2] % 2, 1))


def batch_norms(widths: Iterable[int], eps: float = 1e-5) -> nn.ModuleList:
    """One batch norm for each width."""
    return nn.ModuleList(nn.BatchNorm2d(width, eps=eps) for width in widths)


def naive_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm of `own_norm` on a map whose channels are last, written out."""
    if isinstance(norm, nn.BatchNorm2d):
        return naive.batch_norm(norm, x)
    if isinstance(norm, nn.GroupNorm):
        mean = x.mean((1, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((1, 2, 3), keepdim=True)
        return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
    return naive.layer_norm(norm, x) if isinstance(norm, nn.LayerNorm) else x


def naive_even_padded(x: Tensor) -> Tensor:
    """`even_padded` of a map whose channels are last, filled pixel by pixel."""
    top, left = x.shape[1] % 2, x.shape[2] % 2
    out = x.new_zeros(x.shape[0], x.shape[1] + top + 1, x.shape[2] + left + 1, x.shape[3])
    out[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    return out


def naive_convolutions(convs: nn.ModuleList, norms: Iterable[nn.Module], acts: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Convolution, norm and activation in turn, tap by tap; (B, H, W, C) -> (B, H', W', C')."""
    for conv, norm, act in zip(convs, norms, acts, strict=True):
        assert isinstance(conv, nn.Conv2d)
        x = naive_activation(act, naive_norm(norm, naive.conv2d(conv, x)))
    return x
