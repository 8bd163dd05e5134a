"""The bottleneck block of residual networks, around whatever works on its few inner channels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import activation, naive_activation
from nas.search_spaces.operators.convolution import normed
from nas.search_spaces.registry import Setting, one_of

RATIO = Setting(
    (4, 2),
    rule=lambda v, place: 1 <= int(v) <= place.width and place.width % int(v) == 0,
    because="the inner channels are a whole fraction of the width",
)
ACTIVATION = one_of("relu", "silu", "gelu", default="relu")


class BottleneckBlock(nn.Module):
    """act(shortcut(x) + BN(P2 act(BN(inner(act(BN(P1 x))))))), P1 and P2 pointwise to the inner channels and back.

    He et al. 2016, arXiv:1512.03385, figure 5. The shortcut is x, or where the width or the map changes a strided pointwise
    convolution with batch norm. Subclasses say what `inner` is; it strides where the block does.
    """

    def __init__(self, in_width: int, width: int, ratio: int, act: str, stride: int = 1) -> None:
        super().__init__()
        hidden, changes = width // ratio, stride > 1 or in_width != width
        self.reduce = nn.Conv2d(in_width, hidden, 1, bias=False)
        self.reduce_norm, self.inner_norm = nn.BatchNorm2d(hidden), nn.BatchNorm2d(hidden)
        self.expand = nn.Conv2d(hidden, width, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(in_width, width, 1, stride, bias=False) if changes else None
        self.shortcut_norm = nn.BatchNorm2d(width) if changes else None
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H', W', width)."""
        x = x.permute(0, 3, 1, 2)
        y = self.act(self.inner(self.act(normed(self.reduce, self.reduce_norm, x))))
        y = normed(self.expand, self.expand_norm, y)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = normed(self.shortcut, self.shortcut_norm, x)
        out: Tensor = self.act(y.add_(x)).permute(0, 2, 3, 1)  # in place: nothing keeps the sum's parts
        return out

    def inner(self, y: Tensor) -> Tensor:
        """What works on the inner channels, with its batch norm: (B, C, H, W) -> (B, C, H', W')."""
        raise TypeError(f"{type(self).__name__} is no bottleneck: it does not say what works on the inner channels")


def bottleneck_reference(module: BottleneckBlock, x: Tensor, inner: Callable[[Tensor], Tensor]) -> Tensor:
    """Layer by layer; `inner` is a plain form of what works on the inner channels, without its norm."""
    y = naive_activation(module.act, naive.batch_norm(module.reduce_norm, naive.conv2d(module.reduce, x)))
    y = naive_activation(module.act, naive.batch_norm(module.inner_norm, inner(y)))
    y = naive.batch_norm(module.expand_norm, naive.conv2d(module.expand, y))
    if module.shortcut is not None and module.shortcut_norm is not None:
        x = naive.batch_norm(module.shortcut_norm, naive.conv2d(module.shortcut, x))
    return naive_activation(module.act, x + y)
