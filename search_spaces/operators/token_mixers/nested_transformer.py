"""A transformer over the pixels inside each patch, whose result a transformer over the patches takes up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.transformer import TransformerLayer, layer_macs, layer_reference
from nas.search_spaces.registry import Group, Kind, Setting, flag, register

EXPANSION = 4
"""How many times wider the hidden layers of both transformers are."""
PIXELS = Setting(
    (2, 4),
    rule=lambda v, place: 1 <= int(v) <= 16 and place.width % (2 * int(v) ** 2) == 0,
    because="the second half of the channels is that of pixels x pixels pixels, 1 x 1 to 16 x 16, side by side",
)


@register(
    "nested_transformer",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Han et al. 2021 (TNT), arXiv:2103.00112, section 2.2; timm tnt.py Block",
    settings={
        "pixels": PIXELS,
        "heads": Setting(
            (1, 2, 4),
            rule=lambda v, place: int(v) >= 1 and place.width // 2 % int(v) == 0,
            because="the heads of the patches divide half of the channels",
        ),
        "inner_heads": Setting(
            (1, 2, 4),
            rule=lambda v, place: int(v) >= 1 and place.width // 2 // int(place.chosen["pixels"]) ** 2 % int(v) == 0,
            because="the heads of the pixels divide the channels of a pixel",
        ),
        "class_token": flag(False),
        "joint_norm": flag(False),
    },
)
class NestedTransformer(nn.Module):
    """inner += ...: attention and MLP among a patch's pixels; outer += P(norm(inner)), then attention and MLP among patches.

    The first half of a position's channels is the patch, the second half its pixels x pixels pixels row by row, the channels
    of one pixel side by side, as `nested_tokens` makes them: on any map so divided. With `class_token` the first position has
    no pixels: it takes part among the patches only, and the second half of its channels stays; a map of one position is a
    patch. `joint_norm`, timm's form that is not legacy: one norm over all pixels of a patch, P without bias, and a norm
    behind it.

    It replaces the stream: as published it is used without a norm and with the residual `none`. N positions of which M have
    pixels, p^2 pixels of d channels, C = p^2 d: MACs M p^2 (12 d^2 + 2 p^2 d) + M C^2 + N (12 C^2 + 2 N C).
    """

    def __init__(
        self, width: int, size: int, *, pixels: int, heads: int, inner_heads: int, class_token: bool = False,
        joint_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.own, self.first = width // 2, int(class_token)
        depth = self.own // pixels**2
        self.inner = TransformerLayer(depth, inner_heads, EXPANSION)
        self.outer = TransformerLayer(self.own, heads, EXPANSION)
        # A convolution that sees just one patch: a smaller one's weights are its leading channels, in each pixel.
        self.project = nn.Conv2d(depth, self.own, pixels, bias=not joint_norm)
        self.project_norm = None if joint_norm else nn.LayerNorm(depth)
        self.joint_norm = nn.LayerNorm((pixels, pixels, depth)) if joint_norm else None
        self.after_norm = nn.LayerNorm(self.own) if joint_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2)
        first = min(self.first, tokens.shape[1] - 1)
        token, patches = tokens[:, :first], tokens[:, first:]
        depth, pixels = self.project.weight.shape[1:3]
        inner = self.inner(patches[..., self.own :].reshape(-1, pixels**2, depth)).view(-1, pixels, pixels, depth)
        outer = patches[..., : self.own] + self._projected(inner).view(*patches.shape[:2], self.own)
        inner = inner.view(*patches.shape[:2], self.own)
        if first:
            outer = torch.cat((token[..., : self.own], outer), dim=1)
            inner = torch.cat((token[..., self.own :], inner), dim=1)
        return torch.cat((self.outer(outer), inner), dim=-1).view(x.shape)

    def _projected(self, inner: Tensor) -> Tensor:
        """The pixels of each patch as one vector: (M, p, p, d) -> (M, C / 2)."""
        norm = self.joint_norm or self.project_norm
        assert norm is not None, "one of the two norms exists"
        weight = self.project.weight.permute(0, 2, 3, 1).flatten(1)
        y = F.linear(norm(inner).flatten(1), weight, self.project.bias)
        return y if self.after_norm is None else self.after_norm(y)


def macs(
    width: int, size: int, *, pixels: int, heads: int, inner_heads: int, class_token: bool = False, joint_norm: bool = False
) -> int:
    """Multiply-adds for one image."""
    half, patches = width // 2, size**2 - int(class_token and size > 1)
    inner = layer_macs(half // pixels**2, pixels**2, EXPANSION)
    return patches * (inner + half**2) + layer_macs(half, size**2, EXPANSION)


def reference(module: NestedTransformer, x: Tensor) -> Tensor:
    """Patch by patch, pixel by pixel."""
    outer, inner = [], []
    depth, pixels = module.project.weight.shape[1:3]
    for position, token in enumerate(x.flatten(1, 2).unbind(1)):
        patch, rest = token[:, : module.own], token[:, module.own :]
        if position >= module.first or x.shape[1:3] == (1, 1):
            seen = layer_reference(module.inner, rest.unflatten(1, (pixels**2, depth)))
            patch, rest = patch + _taken_up(module, seen.unflatten(1, (pixels, pixels))), seen.flatten(1)
        outer.append(patch)
        inner.append(rest)
    mixed = layer_reference(module.outer, torch.stack(outer, dim=1))
    return torch.cat((mixed, torch.stack(inner, dim=1)), dim=-1).view(x.shape)


def _taken_up(module: NestedTransformer, pixels: Tensor) -> Tensor:
    """What a patch learns of its pixels: (B, p, p, d) -> (B, C / 2)."""
    if module.joint_norm is None or module.after_norm is None:
        assert module.project_norm is not None, "a norm for each pixel where there is none for all"
        return naive.conv2d(module.project, naive.layer_norm(module.project_norm, pixels))[:, 0, 0]
    centred = pixels - pixels.mean((1, 2, 3), keepdim=True)
    scaled = centred / (centred.square().mean((1, 2, 3), keepdim=True) + module.joint_norm.eps).sqrt()
    y = naive.conv2d(module.project, scaled * module.joint_norm.weight + module.joint_norm.bias)[:, 0, 0]
    return naive.layer_norm(module.after_norm, y)
