"""A norm and an MLP behind a convolution, inside the same residual as it."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.response_norm import ResponseNorm, response_norm_reference


class Tail(nn.Module):
    """reduce(gelu(expand(norm(x)))), with a global response norm before `reduce` where `response` is set.

    The second half of a ConvNeXt block (arXiv:2201.03545, figure 4), which InceptionNeXt and MS-MLP share: `norm` is a layer
    norm with epsilon 1e-6, or with `batch` a batch norm. MACs N 2 expansion C^2.
    """

    def __init__(self, width: int, expansion: int, *, batch: bool = False, response: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width) if batch else nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, expansion * width)
        self.act = nn.GELU()
        self.response = ResponseNorm(expansion * width) if response else nn.Identity()
        self.reduce = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch = isinstance(self.norm, nn.BatchNorm2d)
        normed = self.norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if batch else self.norm(x)
        y: Tensor = self.reduce(self.response(self.act(self.expand(normed))))
        return y


def tail_reference(module: Tail, x: Tensor) -> Tensor:
    """Layer by layer."""
    norm = module.norm
    x = naive.batch_norm(norm, x) if isinstance(norm, nn.BatchNorm2d) else naive.layer_norm(norm, x)
    x = naive.gelu(naive.linear(module.expand, x))
    if isinstance(module.response, ResponseNorm):
        x = response_norm_reference(module.response, x)
    return naive.linear(module.reduce, x)


def tail_macs(width: int, size: int, expansion: int) -> int:
    """Multiply-adds for one image."""
    return 2 * size**2 * expansion * width**2
