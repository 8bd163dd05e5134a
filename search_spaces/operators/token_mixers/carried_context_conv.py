"""Context-mixing convolution whose context is carried in the last channels of its input."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.carried import CARRIED
from nas.search_spaces.operators.response_norm import ResponseNorm, response_norm_reference
from nas.search_spaces.operators.token_mixers import context_mixing_conv
from nas.search_spaces.operators.token_mixers.context_mixing_conv import (
    KERNEL,
    SMALL,
    ContextMixing,
    enlarged_naively,
    fitting,
    mixed_reference,
    normed,
)
from nas.search_spaces.operators.token_mixers.mixer_mlp import resample
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "carried_context_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Lou and Yu 2025 (OverLoCK), arXiv:2502.20087, section 3.2 and 3.3; official models/overlock.py DynamicConvBlock",
    settings={
        "carried": CARRIED,
        "heads": Setting(
            (2, 4),
            rule=lambda v, place: int(v) >= 1 and (place.width - int(place.chosen["carried"])) % (2 * int(v)) == 0,
            because="heads divide half the channels that carry no context",
        ),
        "kernel": KERNEL,
        "small": SMALL,
        "merged": flag(False),
    },
)
class CarriedContextConv(ContextMixing):
    """`context_mixing_conv` from [x, c] to [x, c], c the `carried` last channels: the mixing block of OverLoCK's focus net.

    Queries come from x and keys from c pooled to 7 x 7; values, gate and lepe from both, GRN(P gelu(BN(DW3 [x, c]))), which
    has the width of x. The last linear map gives the next x and c together. The skip around all this, the depth-wise
    convolution before it, the one behind it and the MLP are blocks of their own here; `context_refresh` is what renews c.
    MACs: those of `context_mixing_conv` at the width w of x, and with c channels carried N (9 (w + c) + w (w + 2 c))
    + 49 w (c - w) / 2.
    """

    def __init__(
        self, width: int, size: int, *, carried: int, heads: int, kernel: int, small: int, merged: bool = False
    ) -> None:
        own = width - carried
        super().__init__(own, size, heads=heads, kernel=kernel, small=small, merged=merged)
        self.carried = carried
        self.key, self.out = nn.Linear(carried, own // 2, bias=False), nn.Linear(own, width)
        self.local, self.local_norm = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width)
        self.narrow, self.response = nn.Linear(width, own), ResponseNorm(own)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        local = F.gelu(normed(self.local_norm, self.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))
        large = resample(x, *fitting(x.shape[1], x.shape[2], self.kernel))
        own = x.shape[-1] - self.carried
        return self.mixed(self.response(self.narrow(local)), large[..., :own], large[..., own:])


def reference(module: CarriedContextConv, x: Tensor) -> Tensor:
    """Layer by layer, the kernels position by position."""
    local = naive.gelu(naive.batch_norm(module.local_norm, naive.conv2d(module.local, x)))
    values = response_norm_reference(module.response, naive.linear(module.narrow, local))
    large, own = enlarged_naively(x, module.kernel), x.shape[-1] - module.carried
    return mixed_reference(module, values, large[..., :own], large[..., own:])


def macs(width: int, size: int, *, carried: int, heads: int, kernel: int, small: int, merged: bool = False) -> int:
    """Multiply-adds on a size x size map in evaluation."""
    own = width - carried
    inside = context_mixing_conv.macs(own, size, heads=heads, kernel=kernel, small=small, merged=merged)
    return inside + size**2 * (9 * width + own * (own + 2 * carried)) + 49 * (own // 2) * (carried - own)
