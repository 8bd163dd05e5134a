"""The multi-layer perceptron of transformers."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.registry import Kind, Setting, register

EXPANSION = Setting((2, 3, 4), rule=lambda v, place: 1 <= int(v) <= 8, because="the hidden layer is 1 to 8 times as wide")


@register("mlp", Kind.CHANNEL_MIXER, cite="Vaswani et al. 2017, arXiv:1706.03762, eq. 2", settings={"expansion": EXPANSION})
class MLP(nn.Module):
    """W2 gelu(W1 x), position by position."""

    def __init__(self, width: int, size: int, *, expansion: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, expansion * width)
        self.act = nn.GELU()
        self.reduce = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y: Tensor = self.reduce(self.act(self.expand(x)))
        return y


def reference(module: MLP, x: Tensor) -> Tensor:
    """Position by position."""
    out = x.clone()
    for b, i, j in ((b, i, j) for b in range(x.shape[0]) for i in range(x.shape[1]) for j in range(x.shape[2])):
        hidden = module.expand.weight @ x[b, i, j] + module.expand.bias
        hidden = hidden * 0.5 * (1 + (hidden / 2**0.5).erf())
        out[b, i, j] = module.reduce.weight @ hidden + module.reduce.bias
    return out
