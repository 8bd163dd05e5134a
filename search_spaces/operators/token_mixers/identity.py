"""No mixing of tokens: a block that only its channel mixer makes useful."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.registry import Group, Kind, register


@register(
    "identity",
    Kind.TOKEN_MIXER,
    group=Group.POOLING,
    cite=(
        "Yu et al. 2022 (IdentityFormer), arXiv:2210.13452, section 2.2; also what Activator's released block does to "
        "tokens, arXiv:2405.15953"
    ),
)
class Identity(nn.Module):
    """x: the mixer that leaves every position to itself, pooling over a window of one.

    No parameters, no MACs.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return x


def macs(width: int, size: int) -> int:
    """None."""
    return 0


def reference(module: Identity, x: Tensor) -> Tensor:
    """Position by position."""
    out = x.new_zeros(x.shape)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            out[:, row, column] = x[:, row, column]
    return out
