"""Stem of a dense, a depth-wise and a pointwise convolution, each trained as parallel branches."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.reparam import ReparamBranches, branches_reference
from nas.search_spaces.registry import Kind, Setting, one_of, register


@register(
    "reparam_convs",
    Kind.STEM,
    cite="Vasu et al. 2023 (FastViT), arXiv:2303.14189, section 3.3; timm fastvit.py convolutional_stem, MobileOneBlock",
    settings={
        "stride": Setting(
            (2, 4), rule=lambda v, place: v in (2, 4), because="the first convolution halves the map, the second may"
        ),
        "activation": one_of("gelu", "relu", "silu", default="gelu"),
    },
)
class ReparamConvs(nn.Module):
    """act(B3 act(B2 act(B1 image))): B1 dense 3x3, B2 depth-wise 3x3, B3 pointwise, each a `ReparamBranches`.

    The 3x3 ones have a pointwise branch beside, all a batch norm of their input where its shape allows. In evaluation each is
    one convolution.
    """

    def __init__(self, in_channels: int, width: int, *, stride: int, activation: str = "gelu") -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            (
                ReparamBranches(in_channels, width, 3, stride=2, small=1),
                ReparamBranches(width, width, 3, stride=stride // 2, groups=width, small=1),
                ReparamBranches(width, width, 1),
            )
        )
        self.act = ACTIVATIONS[activation]()

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        for layer in self.layers:
            image = self.act(layer(image))
        return image.permute(0, 2, 3, 1)


def reference(module: ReparamConvs, image: Tensor) -> Tensor:
    """Layer by layer, branch by branch, tap by tap."""
    x = image.permute(0, 2, 3, 1)
    for layer in module.layers:
        assert isinstance(layer, ReparamBranches)
        x = naive_activation(module.act, branches_reference(layer, x))
    return x
