"""Stems, downsamples, heads and norms against timm's and the official ones, at the places that published models have them at.

Heads are compared where they hold more than a norm, a mean and a linear map. Without a case: `token_pruning` (the official
block takes its scores from its own attention, ours makes them), `residual_reduction` (a part of `token_row_reduction`),
residuals (`attention_residual` has third-party code only), and what only adds a table, a token or a linear map.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any
from unittest import mock

import torch
from operator_calls import FOLDED, MOMENTS, Zero, self_attention, without
from operator_sides import CLASSES, Case, Here
from torch import Tensor, nn

from nas.search_spaces.registry import Kind

STEM, DOWN, HEAD, NORM = Kind.STEM, Kind.DOWNSAMPLE, Kind.HEAD, Kind.NORM
BYOB = "timm.models.byobnet:"
MAXVIT = "timm.models.maxxvit:"
FASTVIT = "timm.models.fastvit:"
NEXT_VIT = "timm.models.nextvit:"


def embedded(module: Any, x: Tensor, here: Here) -> Any:
    """A vision transformer up to its first block."""
    return module._pos_embed(module.patch_embed(x))


def trunk(module: Any, x: Tensor, here: Here) -> Any:
    """The branches of CrossViT with their last norms, which our heads have."""
    return torch.cat([branch.flatten(1) for branch in module.forward_features(x)], dim=1)


def nested(module: Any, x: Tensor, here: Here) -> Any:
    """TNT up to its first block: the pixels, and the patches made of them."""
    pixels = module.pixel_embed(x, module.pixel_pos)
    patches = module.norm2_proj(module.proj(module.norm1_proj(pixels.reshape(len(x), module.num_patches, -1))))
    patches = torch.cat((module.cls_token.expand(len(x), -1, -1), patches), dim=1) + module.patch_pos
    return torch.cat((pixels.reshape(len(x), -1), patches.flatten(1)), dim=1)


def next_stem(found: Any, here: Here) -> nn.Module:
    """Next-ViT's stem and the widening of its first block."""
    model = found.NextViT(3)
    return nn.Sequential(model.stem, model.stages[0].blocks[0].patch_embed)


def classified(module: Any, x: Tensor, here: Here) -> Any:
    """The end of VOLO and XCiT: class attention, norm and linear map."""
    return module.head(module.norm(module.forward_cls(x))[:, 0])


def class_layers(found: Any, here: Here) -> nn.Module:
    """VOLO without its trunk and its second classifier."""
    model = found.VOLO(
        [1, 1, 1, 1], num_classes=CLASSES, embed_dims=(192, here.width, here.width, here.width), num_heads=(6, 12, 12, 12),
        post_layers=("ca",) * here["layers"],
    )  # fmt: skip
    model.network, model.patch_embed, model.aux_head = nn.ModuleList(), nn.Identity(), None
    return model  # type: ignore[no-any-return]


def scaled_class_layers(found: Any, here: Here) -> nn.Module:
    """XCiT without its trunk."""
    model = found.Xcit(
        embed_dim=here.width, depth=1, num_heads=here["heads"], num_classes=CLASSES, cls_attn_layers=here["layers"], eta=1.0,
        tokens_norm=True,
    )  # fmt: skip
    model.blocks, model.patch_embed = nn.ModuleList(), nn.Identity()
    return model  # type: ignore[no-any-return]


def final_conv(found: Any, here: Here) -> nn.Sequential:
    """FastViT's last convolution and its head."""
    wide = here.width * 2
    conv = found.MobileOneBlock(here.width, wide, 3, group_size=1, use_se=True, act_layer=nn.GELU, num_conv_branches=1)
    return nn.Sequential(conv, found.ClassifierHead(wide, CLASSES, pool_type="avg"))


def attention_half(found: Any, here: Here) -> nn.Module:
    """CoAtNet's transformer block with stride 2, without its MLP."""
    half = (here.size // 2, here.size // 2)
    config = found.MaxxVitTransformerCfg(dim_head=here.width // here["heads"], rel_pos_type="bias")
    relative = found.get_rel_pos_cls(config, half)
    block = found.TransformerBlock2d(here.in_width, here.width, stride=2, rel_pos_cls=relative, cfg=config)
    block.mlp = Zero()
    return without(block, "norm2")


def final_conv_deployed(found: Any, here: Here) -> nn.Module:
    """The same with its branches in one kernel."""
    whole = final_conv(found, here)
    whole[0].reparameterize()  # type: ignore[operator]
    return whole


def reduced_row(found: Any, here: Here) -> nn.Module:
    """ViT-ResNAS's reduction, whose zeros it wants on a GPU."""
    with mock.patch.object(Tensor, "cuda", lambda tensor: tensor):
        return found(math.isqrt(here.size), here.in_width, here.width, distill_token=False)  # type: ignore[no-any-return]


class Widened(nn.Module):
    """What Next-ViT's transformer block does between its attention and its MLP."""

    def __init__(self, found: Any, here: Here) -> None:
        super().__init__()
        block = found.NextTransformerBlock(here.in_width, here.width, 0.0)
        self.projection, self.mhca = block.projection, block.mhca

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_width, H, W) -> (B, width, H, W)."""
        y = self.projection(x)
        return torch.cat([x, y + self.mhca(y)], dim=1)


STAGES = (
    Case(
        "patchify", "patchify", 96, 224, {"stride": 4, "end_norm": "layer"}, "timm.layers:PatchEmbed",
        lambda C, h: C(h.size, 4, 3, h.width, norm_layer=nn.LayerNorm, output_fmt="NHWC"), kind=STEM, in_width=3,
    ),
    Case(
        "overlap stem", "overlap", 64, 224, {"stride": 4, "end_norm": "layer"}, "timm.models.pvt_v2:OverlapPatchEmbed",
        lambda C, h: C(7, 4, 3, h.width), kind=STEM, in_width=3,
    ),
    Case(
        "conv_patch", "conv_patch", 192, 224, {"stride": 8}, "timm.models.volo:PatchEmbed",
        lambda C, h: C(h.size, True, 2, 8, 3, 64, h.width), kind=STEM, in_width=3,
    ),
    Case(
        "strided_convs tinyvit", "strided_convs", 64, 224, {"stride": 4}, "timm.models.tiny_vit:PatchEmbed",
        lambda C, h: C(3, h.width, nn.GELU), kind=STEM, in_width=3,
    ),
    Case(
        "strided_convs mambaout", "strided_convs", 96, 224, {"stride": 4, "inner_norm": "layer", "eps": 1e-6},
        "timm.models.mambaout:Stem", lambda C, h: C(3, h.width), kind=STEM, in_width=3,
    ),
    Case(
        "conv_pair", "conv_pair", 64, 224,
        {"stride": 2, "activation": "gelu_tanh", "bias": True, "even": True, "eps": 0.001}, MAXVIT + "Stem",
        lambda C, h: C(3, h.width, padding="same", bias=True, act_layer="gelu_tanh", norm_eps=1e-3), kind=STEM, in_width=3,
    ),
    Case(
        "deep_conv", "deep_conv", 96, 224, {"stride": 4, "inner": 64}, NEXT_VIT, next_stem, kind=STEM, in_width=3,
    ),
    Case(
        "double_convs", "double_convs", 64, 224, {"stride": 4}, "LMMMEng/OverLoCK:models/overlock.py:stem",
        lambda f, h: f(3, h.width), kind=STEM, in_width=3,
    ),
    Case(
        "even_convs", "even_convs", 64, 224, {"stride": 4}, "OliverRensu/SG-Former:sgformer.py:Head",
        lambda C, h: C(h.width).conv, kind=STEM, in_width=3,
    ),
    Case(
        "reparam_convs", "reparam_convs", 64, 256, {"stride": 4}, FASTVIT + "convolutional_stem",
        lambda f, h: f(3, h.width), kind=STEM, in_width=3,
    ),
    Case(
        "reparam_convs deployed", "reparam_convs", 64, 256, {"stride": 4}, FASTVIT + "convolutional_stem",
        lambda f, h: f(3, h.width, inference_mode=True), kind=STEM, in_width=3, training=False, memory=False, slow=FOLDED,
    ),
    Case(
        "pooled_conv", "pooled_conv", 64, 224, {"stride": 4}, BYOB + "create_byob_stem",
        lambda f, h: f(3, h.width, "7x7", "maxpool")[0], kind=STEM, in_width=3,
    ),
    Case(
        "tokens", "tokens", 192, 224, {"stride": 16}, "timm.models.vision_transformer:VisionTransformer",
        lambda C, h: C(h.size, 16, embed_dim=h.width, depth=0, num_heads=3), call=embedded, kind=STEM, in_width=3,
    ),
    Case(
        "tokens_to_token", "tokens_to_token", 256, 224, {"stride": 16},
        "yitu-opensource/T2T-ViT:models/t2t_vit.py:T2T_module", lambda C, h: C(h.size, "performer", 3, h.width, 64),
        kind=STEM, in_width=3,
    ),
    Case(
        "nested_tokens", "nested_tokens", 768, 224, {"stride": 16, "pixels": 4, "apart": True}, "timm.models.tnt:TNT",
        lambda C, h: C(h.size, embed_dim=h.width // 2, inner_dim=24, depth=0), call=nested, kind=STEM, in_width=3,
    ),
    Case(
        "two_branch_trunk", "two_branch_trunk", 288, 240, {"patch": 12, "heads": 3, "blocks": 3},
        "timm.models.crossvit:CrossVit",
        lambda C, h: C(
            h.size, (1.0, 224 / 240), (12, 16), embed_dim=(96, 192), depth=[[1, 4, 0]] * 3, num_heads=[3, 3],
            mlp_ratio=[4, 4, 1],
        ),
        call=trunk, kind=STEM, in_width=3,
    ),
    Case(
        "attention downsample", "attention", 256, 14, {"heads": 8, "key_width": 16, "value_ratio": 4},
        "timm.models.levit:AttentionDownsample",
        lambda C, h: C(h.in_width, h.width, 16, h["heads"], 4.0, resolution=h.size, act_layer=nn.Hardswish), "tokens",
        kind=DOWN, in_width=128,
    ),
    Case(
        "average", "average", 192, 28, {"bias": False, "end_norm": "batch"}, NEXT_VIT + "PatchEmbed",
        lambda C, h: C(h.in_width, h.width, 2), kind=DOWN, in_width=96,
    ),
    Case(
        "bottleneck downsample", "bottleneck", 512, 56, {"ratio": 4}, BYOB + "BottleneckBlock",
        lambda C, h: C(h.in_width, h.width, stride=2, bottle_ratio=0.25, downsample="conv1x1"), kind=DOWN, in_width=256,
    ),
    Case(
        "inverted_bottleneck", "inverted_bottleneck", 64, 64, {"ratio": 4}, "timm.models._efficientnet_blocks:InvertedResidual",
        lambda C, h: C(h.in_width, h.width, stride=2, exp_ratio=4.0, act_layer=nn.SiLU, noskip=True), kind=DOWN, in_width=32,
    ),
    Case(
        "halo_bottleneck downsample", "halo_bottleneck", 1024, 32, {"ratio": 4, "heads": 8, "block": 8, "halo": 2}, BYOB,
        self_attention, kind=DOWN, in_width=512,
    ),
    Case(
        "conv downsample", "conv", 128, 56,
        {"bias": False, "end_norm": "batch", "eps": 1e-6, "activation": "silu"}, "henry-pay/SpaRTAN:src/model/spartan.py:",
        lambda M, h: M.ConvNormAct(
            h.in_width, h.width, 2, stride=2, norm=partial(nn.BatchNorm2d, eps=1e-6), act=nn.functional.silu
        ),
        kind=DOWN, in_width=64,
    ),
    Case(
        "depthwise downsample", "depthwise", 128, 28, {}, "jameslahm/lsnet:model/lsnet.py:Conv2d_BN",
        lambda C, h: nn.Sequential(C(h.in_width, h.in_width, 3, 2, 1, groups=h.in_width), C(h.in_width, h.width)), kind=DOWN,
        in_width=64,
    ),
    Case(
        "mbconv downsample", "mbconv", 128, 56, {}, "timm.models.tiny_vit:PatchMerging",
        lambda C, h: C(h.in_width, h.width, nn.GELU), kind=DOWN, in_width=64,
    ),
    Case(
        "mbconv downsample sgformer", "mbconv", 128, 56, {"norm": "group"}, "OliverRensu/SG-Former:sgformer.py:PatchMerging",
        lambda C, h: C(h.in_width, h.width), kind=DOWN, in_width=64,
    ),
    Case(
        "overlap downsample", "overlap", 128, 56, {"end_norm": "layer"}, "timm.models.pvt_v2:OverlapPatchEmbed",
        lambda C, h: C(3, 2, h.in_width, h.width), kind=DOWN, in_width=64,
    ),
    Case(
        "patch_merging swin", "patch_merging", 192, 56, {"norm": "before"}, "timm.models.swin_transformer:PatchMerging",
        lambda C, h: C(h.in_width, h.width), "nhwc", kind=DOWN, in_width=96,
    ),
    Case(
        "patch_merging swin_v2", "patch_merging", 192, 64, {"norm": "after"}, "timm.models.swin_transformer_v2:PatchMerging",
        lambda C, h: C(h.in_width, h.width), "nhwc", kind=DOWN, in_width=96,
    ),
    Case(
        "reparam_conv downsample", "reparam_conv", 128, 64, {"kernel": 7}, FASTVIT + "PatchEmbed",
        lambda C, h: C(7, 2, h.in_width, h.width), kind=DOWN, in_width=64,
    ),
    Case(
        "reparam_conv downsample deployed", "reparam_conv", 128, 64, {"kernel": 7}, FASTVIT + "PatchEmbed",
        lambda C, h: C(7, 2, h.in_width, h.width, inference_mode=True), kind=DOWN, in_width=64, training=False, memory=False,
        slow=FOLDED,
    ),
    Case(
        "residual_attention", "residual_attention", 384, 28, {"heads": 12}, MAXVIT, attention_half, kind=DOWN, in_width=192,
    ),
    Case(
        "residual_mbconv", "residual_mbconv", 192, 56, {"ratio": 4}, MAXVIT,
        lambda M, h: M.MbConvBlock(h.in_width, h.width, stride=2, cfg=M.MaxxVitConvCfg()), kind=DOWN, in_width=96,
    ),
    Case(
        "token_row_reduction", "token_row_reduction", 440, 197, {},
        "yilunliao/vit-search:nets/vit_sr_supernet.py:SpatialReductionPatchEmbedding", reduced_row, "tokens", kind=DOWN,
        in_width=220, row=True,
    ),
    Case("widen", "widen", 256, 14, {}, NEXT_VIT, Widened, kind=DOWN, in_width=192),
    Case(
        "class_attention", "class_attention", 384, 14, {"layers": 2, "heads": 12, "expansion": 3}, "timm.models.volo:",
        class_layers, "tokens", classified, kind=HEAD,
    ),
    Case(
        "scaled_class_attention", "scaled_class_attention", 192, 14, {"layers": 2, "heads": 4, "expansion": 4},
        "timm.models.xcit:", scaled_class_layers, "tokens", classified, kind=HEAD,
    ),
    Case("expanded_pool", "expanded_pool", 512, 8, {}, FASTVIT, final_conv, kind=HEAD),
    Case(
        "expanded_pool deployed", "expanded_pool", 512, 8, {}, FASTVIT, final_conv_deployed, kind=HEAD, training=False,
        memory=False, slow=FOLDED,
    ),
    Case(
        "grn", "grn", 384, 56, {}, "timm.layers.grn:GlobalResponseNorm", lambda C, h: C(h.width, channels_last=True), "nhwc",
        kind=NORM,
    ),
    Case("group", "group", 64, 56, {}, "timm.layers:GroupNorm1", lambda C, h: C(h.width), kind=NORM, slow=MOMENTS),
    Case(
        "rep_batch", "rep_batch", 96, 56, {}, "xinghaochen/SLAB:classification/models/prepbn.py:RepBN",
        lambda C, h: C(h.width), "tokens", kind=NORM,
    ),
)  # fmt: skip
"""What stands between and around the blocks of a network."""
