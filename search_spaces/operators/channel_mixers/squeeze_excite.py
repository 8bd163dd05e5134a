"""Squeeze and excitation in the place of a channel mixer."""

from __future__ import annotations

from torch import Tensor

from nas.search_spaces.operators.squeeze import SqueezeExcite, divisible, squeeze_macs, squeeze_reference
from nas.search_spaces.registry import Kind, Setting, one_of, register


@register(
    "squeeze_excite",
    Kind.CHANNEL_MIXER,
    cite="Hu et al. 2018, arXiv:1709.01507, eq. 2-4; timm squeeze_excite.py SEModule",
    settings={
        "reduction": Setting(
            (16, 8, 4),
            rule=lambda v, place: 1 <= int(v) <= place.width,
            because="the hidden layer has 1 / reduction of the width",
        ),
        "activation": one_of("relu", "silu", "gelu", default="relu"),
        "rounding": one_of("eights", "down", default="eights"),
    },
)
class ChannelGate(SqueezeExcite):
    """x * sigmoid(W2 act(W1 mean of x)): each channel is scaled by what all channels' means say of it.

    The R hidden channels are width / reduction, rounded to the nearest multiple of 8 (timm, LSNet) or down (SpaRTAN).
    Parameters 2 C R + C + R, MACs 2 C R, whatever the map.
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        reduction: int,
        activation: str = "relu",
        rounding: str = "eights",
    ) -> None:
        super().__init__(width, hidden_width(width, reduction, rounding), act=activation)


def hidden_width(width: int, reduction: int, rounding: str) -> int:
    """Channels of the hidden layer."""
    return divisible(width / reduction) if rounding == "eights" else width // reduction


def reference(module: ChannelGate, x: Tensor) -> Tensor:
    """Image by image."""
    return squeeze_reference(module, x)


def macs(width: int, size: int, *, reduction: int, rounding: str = "eights", **others: object) -> int:
    """Multiply-adds on any map: 2 C R."""
    return squeeze_macs(width, hidden_width(width, reduction, rounding))
