"""A stage without downsampling: the map stays as it is."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, flag, register


@register(
    "keep",
    Kind.DOWNSAMPLE,
    cite="Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929: one resolution throughout; Li et al. 2022 (Next-ViT), "
    "arXiv:2207.05501, official nextvit.py PatchEmbed with stride 1",
    settings={"bias": flag(True), "end_norm": parts.END_NORM, "eps": parts.eps_of("end_norm")},
    out_map=lambda height, width, settings: (height, width),
)
class Keep(nn.Module):
    """x, or a linear map of its channels where the width changes; then its own norm, if any.

    Next-ViT changes its width with `bias` off and a batch norm.
    """

    def __init__(self, in_width: int, width: int, *, bias: bool = True, end_norm: str = "none", eps: float = 1e-5) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width, bias=bias) if in_width != width else None
        self.norm = parts.own_norm(end_norm, width, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H, W, width)."""
        y = x if self.linear is None else self.linear(x)
        return y if isinstance(self.norm, nn.Identity) else parts.finish(self.norm, y.permute(0, 3, 1, 2))


def reference(module: Keep, x: Tensor) -> Tensor:
    """Channel by channel."""
    return parts.naive_norm(module.norm, x.clone() if module.linear is None else naive.linear(module.linear, x))
