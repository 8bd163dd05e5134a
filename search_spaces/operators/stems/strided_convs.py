"""Stem of strided 3x3 convolutions, one for each halving of the map, each twice as wide as the one before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, Setting, flag, one_of, register


@register(
    "strided_convs",
    Kind.STEM,
    cite="Graham et al. 2021 (LeViT), arXiv:2104.01136, section 4.2; TinyViT, arXiv:2207.10666, tiny_vit.py PatchEmbed; LSNet, "
    "arXiv:2503.23135, lsnet.py LSNet.patch_embed; DHVT, arXiv:2210.05958, vision_transformer.py ConvPatchEmbed; NAT, "
    "arXiv:2204.07143, nat.py ConvTokenizer; MambaOut, arXiv:2405.07992, timm mambaout.py Stem; Inception Transformer, "
    "arXiv:2205.12956, inception_transformer.py FirstPatchEmbed",
    settings={
        "stride": parts.HALVINGS,
        "activation": one_of("gelu", "relu", "silu", "hardswish", "none", default="gelu"),
        "inner_norm": one_of("batch", "none", "layer", default="batch"),
        "last_activation": flag(False),
        "affine": flag(False),
        "end_norm": one_of("none", "layer", default="none"),
        "eps": parts.eps_of("inner_norm", "end_norm"),
        "bias": Setting(
            (False, True),
            rule=lambda v, place: not v or place.chosen["inner_norm"] == "batch",
            because="without batch norms convolutions have biases anyway",
            default=False,
        ),
    },
)
class StridedConvs(nn.Module):
    """3x3 convolutions of stride 2 to ..., C / 4, C / 2, C channels, each with a norm, and an activation between two.

    Defaults: TinyViT, FcaFormer and AttNet (stride 4). SpaRTAN has `last_activation` behind the last norm too and eps 1e-6;
    LSNet ReLU and stride 8; NAT no activation and no inner norm but a layer norm at the end; MambaOut layer norms; DHVT
    `affine`: a learned scale and shift of each channel of the image and of the last map (stride 4 or 16). `eps` is that of all
    norms. Convolutions have biases where they have no batch norms, and with `bias` always (iFormer).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int,
        activation: str = "gelu",
        inner_norm: str = "batch",
        last_activation: bool = False,
        affine: bool = False,
        end_norm: str = "none",
        eps: float = 1e-5,
        bias: bool = False,
    ) -> None:
        super().__init__()
        steps = stride.bit_length() - 1
        widths = parts.doubling(width, steps)
        self.convs = parts.convolutions([in_channels, *widths], [2] * steps, bias=bias or inner_norm != "batch")
        self.norms = nn.ModuleList(parts.own_norm(inner_norm, channels, eps) for channels in widths)
        last = activation if last_activation else "none"
        self.acts = nn.ModuleList(ACTIVATIONS[name]() for name in (*[activation] * (steps - 1), last))
        self.norm = parts.own_norm(end_norm, width, eps)
        self.affine = affine
        if affine:
            self.image_scale, self.image_shift = nn.Parameter(torch.ones(in_channels)), nn.Parameter(torch.zeros(in_channels))
            self.map_scale, self.map_shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        if self.affine:
            image = image * self.image_scale[:, None, None] + self.image_shift[:, None, None]
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            maps = conv(image)
            image = act(parts.finish(norm, maps).permute(0, 3, 1, 2) if isinstance(norm, nn.LayerNorm) else norm(maps))
        maps = parts.finish(self.norm, image)
        return maps * self.map_scale + self.map_shift if self.affine else maps


def reference(module: StridedConvs, image: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    x = image.permute(0, 2, 3, 1)
    if module.affine:
        x = x * module.image_scale + module.image_shift
    x = parts.naive_norm(module.norm, parts.naive_convolutions(module.convs, module.norms, module.acts, x))
    return x * module.map_scale + module.map_shift if module.affine else x
