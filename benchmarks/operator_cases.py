"""Operators at the places where published models have them, and what timm has there."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from operator_calls import FOLDED, MLP, NARROW, PLANES, THREE, bare, self_attention, with_sides, with_size, without
from operator_sides import Case, Here
from torch import Tensor, nn

SWIN = "timm.models.swin_transformer:SwinTransformerBlock"
SWIN_V2 = "timm.models.swin_transformer_v2:SwinTransformerV2Block"


def attention_of(module: Any, x: Tensor, here: Here) -> Any:
    """The attention of a Swin block: windows, shift and mask, without norm and residual."""
    return module._attn(x)


def over_tokens(module: Any, x: Tensor, here: Here) -> Any:
    """module on each channel's row of tokens."""
    return module(x.transpose(1, 2)).transpose(1, 2)


def partition(kind: str, side: str) -> Any:
    """Builds MaxViT's attention in windows or grids."""

    def build(found: Any, here: Here) -> nn.Module:
        sides = (here[side], here[side])
        config = found.MaxxVitTransformerCfg(window_size=sides, grid_size=sides, dim_head=32)
        return bare(found.PartitionAttentionCl(here.width, kind, config))

    return build


def partitioned(module: Any, x: Tensor, here: Here) -> Any:
    """MaxViT's attention without norm and residual."""
    return module._partition_attn(x)


def conv_transformer(found: Any, here: Here) -> nn.Module:
    """MobileViT's block with SiLU, on 2 x 2 patches."""
    layers = found.LayerFn(conv_norm_act=partial(found.LayerFn.conv_norm_act, act_layer=nn.SiLU), act=nn.SiLU)
    return found.MobileVitBlock(  # type: ignore[no-any-return]
        here.width, transformer_dim=here["inner"], transformer_depth=here["layers"], patch_size=2, num_heads=here["heads"],
        layers=layers,
    )  # fmt: skip


def nested(module: Any, x: Tensor, here: Here) -> Any:
    """TNT's block on the patches and, behind the class token, their pixels, which lie side by side in our map."""
    half, side = here.width // 2, here["pixels"] ** 2
    pixels, patches = module(x[:, 1:, half:].reshape(-1, side, half // side), x[..., :half])
    return torch.cat((patches.flatten(1), pixels.view(len(x), -1)), dim=1)


def with_positions(module: Any, x: Tensor, here: Here) -> Any:
    """XCiT's addition of positions."""
    return x + module(len(x), here.size, here.size).reshape(len(x), -1, x.shape[1]).permute(0, 2, 1)


TIMM = (
    Case(
        "window_attention swin", "window_attention", 96, 56, {"heads": 3, "window": 7, "shift": True}, SWIN,
        lambda C, h: bare(C(h.width, (h.size, h.size), h["heads"], window_size=7, shift_size=3)), "nhwc", attention_of,
        slow=THREE,
    ),
    Case(
        "window_attention swin_v2", "window_attention", 96, 64,
        {"heads": 3, "window": 8, "shift": True, "position": "log_cpb", "score": "cosine", "key_bias": False}, SWIN_V2,
        lambda C, h: bare(C(h.width, (h.size, h.size), h["heads"], window_size=8, shift_size=4)), "nhwc", attention_of,
    ),
    Case(
        "window_attention maxvit", "window_attention", 64, 56, {"heads": 2, "window": 7, "shift": False},
        "timm.models.maxxvit:", partition("block", "window"), "nhwc", partitioned,
        slow=THREE,
    ),
    Case(
        "grid_attention", "grid_attention", 64, 56, {"heads": 2, "grid": 7}, "timm.models.maxxvit:",
        partition("grid", "grid"), "nhwc", partitioned,
        slow=THREE,
    ),
    Case(
        "global_attention caformer", "global_attention", 320, 14, {"heads": 10, "bias": False, "out": "plain"},
        "timm.models.metaformer:Attention", lambda C, h: C(h.width, num_heads=h["heads"], head_dim=h.width // h["heads"]),
        "tokens",
        slow=THREE,
    ),
    Case(
        "global_attention convit", "global_attention", 192, 14, {"heads": 4, "position": "gated", "bias": False},
        "timm.models.convit:GPSA", lambda C, h: C(h.width, h["heads"]), "tokens",
    ),
    Case(
        "halo_attention", "halo_attention", 64, 56, {"heads": 4, "block": 8, "halo": 2, "bias": False, "out": "none"},
        "timm.layers.halo_attn:HaloAttn",
        lambda C, h: C(h.width, num_heads=h["heads"], block_size=8, halo_size=2),
    ),
    Case(
        "channel_attention", "channel_attention", 384, 14, {"heads": 8}, "timm.models.xcit:XCA",
        lambda C, h: C(h.width, h["heads"], qkv_bias=True), "tokens",
        slow=THREE,
    ),
    Case(
        "depthwise_pair", "depthwise_pair", 384, 14, {"kernel": 3}, "timm.models.xcit:LPI", lambda C, h: C(h.width),
        "tokens", with_sides,
    ),
    Case(
        "convnext_conv v1", "convnext_conv", 96, 56, {"kernel": 7, "expansion": 4}, "timm.models.convnext:ConvNeXtBlock",
        lambda C, h: C(h.width, ls_init_value=None), skips=1,
    ),
    Case(
        "convnext_conv v2", "convnext_conv", 96, 56, {"kernel": 7, "expansion": 4, "response": True},
        "timm.models.convnext:ConvNeXtBlock", lambda C, h: C(h.width, ls_init_value=None, use_grn=True), skips=1,
    ),
    Case(
        "depthwise_conv", "depthwise_conv", 96, 56, {"kernel": 7, "dilation": 1}, "timm.models.convnext:ConvNeXtBlock",
        lambda C, h: C(h.width).conv_dw,
    ),
    Case(
        "focal_modulation", "focal_modulation", 96, 56, {"levels": 2, "kernel": 3}, "timm.models.focalnet:FocalModulation",
        lambda C, h: C(h.width, focal_window=3, focal_level=2),
    ),
    Case(
        "gated_cnn", "gated_cnn", 96, 56, {"kernel": 7}, "timm.models.mambaout:GatedConvBlock",
        lambda C, h: without(C(h.width), "norm"), "nhwc", skips=1,
    ),
    Case(
        "separable_conv", "separable_conv", 64, 56, {"kernel": 7, "expansion": 2}, "timm.models.metaformer:SepConv",
        lambda C, h: C(h.width),
    ),
    Case("pooling", "pooling", 64, 56, {"pool": 3}, "timm.models.metaformer:Pooling", lambda C, h: C(3)),
    Case(
        "mbconv maxvit", "mbconv", 64, 56, {"kernel": 3, "ratio": 4, "squeeze": 16, "last_norm": False, "eps": 0.001},
        "timm.models.maxxvit:",
        lambda M, h: without(
            M.MbConvBlock(h.width, h.width, cfg=M.MaxxVitConvCfg(norm_eps=1e-3, act_layer="silu")), "pre_norm"
        ),
        skips=1,
    ),
    Case(
        "mbconv tinyvit", "mbconv", 64, 56, {"kernel": 3, "ratio": 4, "act": "gelu", "skip": True},
        "timm.models.tiny_vit:MBConv", lambda C, h: C(h.width, h.width, 4.0, nn.GELU, 0.0),
    ),
    Case(
        "mbconv efficientnet", "mbconv", 80, 28, {"kernel": 3, "ratio": 4, "squeeze": 16},
        "timm.models._efficientnet_blocks:",
        lambda M, h: M.InvertedResidual(
            h.width, h.width, exp_ratio=4.0, act_layer=nn.SiLU, se_layer=partial(M.SqueezeExcite, rd_ratio=1 / 16)
        ),
        skips=1,
    ),
    Case(
        "bottleneck", "bottleneck", 256, 56, {"kernel": 3, "ratio": 4}, "timm.models.byobnet:BottleneckBlock",
        lambda C, h: C(h.width, h.width, bottle_ratio=0.25),
    ),
    Case(
        "halo_bottleneck", "halo_bottleneck", 1024, 16, {"ratio": 4, "heads": 8, "block": 8, "halo": 2},
        "timm.models.byobnet:", self_attention, at_64={"heads": 4},
    ),
    Case(
        "conv_transformer", "conv_transformer", 96, 32, {"heads": 4, "inner": 144, "layers": 2}, "timm.models.mobilevit:",
        conv_transformer,
    ),
    Case(
        "nested_transformer", "nested_transformer", 768, 197,
        {"pixels": 4, "heads": 6, "inner_heads": 4, "class_token": True, "joint_norm": True}, "timm.models.tnt:Block",
        lambda C, h: C(24, 384, 16, h["inner_heads"], h["heads"]), "tokens", nested, row=True, memory=False,
    ),
    Case(
        "fourier_positions", "fourier_positions", 384, 14, {}, "timm.models.xcit:PositionalEncodingFourier",
        lambda C, h: C(dim=h.width), "tokens", with_positions,
    ),
    Case(
        "dense_conv", "dense_conv", 64, 56, {"kernel": 3}, "timm.layers:ConvNormAct",
        lambda C, h: C(h.width, h.width, 3, act_layer=nn.ReLU),
    ),
    Case(
        "grouped_conv", "grouped_conv", 96, 56, {"head_width": 32}, "timm.models.nextvit:ConvAttention",
        lambda C, h: C(h.width, 32),
    ),
    Case(
        "sequence_pooled_attention", "sequence_pooled_attention", 96, 56, {"heads": 3, "reduction": 8},
        "timm.models.nextvit:EfficientAttention",
        lambda C, h: C(h.width, head_dim=h.width // h["heads"], sr_ratio=h["reduction"]), "tokens",
        slow=THREE,
    ),
    Case(
        "inception_conv", "inception_conv", 96, 56, {"band": 11, "divisor": 8}, "timm.models.inception_next:InceptionDWConv2d",
        lambda C, h: C(h.width),
        slow=NARROW,
    ),
    Case(
        "inception_conv block", "inception_conv", 96, 56, {"band": 11, "divisor": 8, "expansion": 4},
        "timm.models.inception_next:MetaNeXtBlock", lambda C, h: C(h.width, ls_init_value=None), skips=1,
    ),
    Case(
        "repmixer", "repmixer", 64, 56, {"kernel": 3}, "timm.models.fastvit:RepMixer",
        lambda C, h: C(h.width, 3, layer_scale_init_value=None), skips=1,
    ),
    Case(
        "repmixer deployed", "repmixer", 64, 56, {"kernel": 3}, "timm.models.fastvit:RepMixer",
        lambda C, h: C(h.width, 3, inference_mode=True), skips=1, training=False, memory=False, slow=FOLDED,
    ),
    Case(
        "multi_scale_conv", "multi_scale_conv", 96, 28, {"kernels": "3-5-7", "project": False},
        "timm.layers.mixed_conv2d:MixedConv2d", lambda C, h: C(h.width, h.width, [3, 5, 7], depthwise=True, bias=True),
    ),
    Case(
        "mixer_mlp", "mixer_mlp", 512, 14, {"tokens": 256}, "timm.models.mlp_mixer:MixerBlock",
        lambda C, h: C(512, h.size**2).mlp_tokens, "tokens", over_tokens,
    ),
    Case(
        "outlook_attention", "outlook_attention", 192, 28, {"heads": 6, "kernel": 3, "stride": 2},
        "timm.models.volo:OutlookAttention", lambda C, h: C(h.width, h["heads"], stride=2), "nhwc",
    ),
    Case(
        "spatial_reduction_attention", "spatial_reduction_attention", 64, 56, {"heads": 1, "reduction": 8},
        "timm.models.pvt_v2:Attention", lambda C, h: C(h.width, h["heads"], sr_ratio=8), "tokens", with_size,
        slow=THREE,
    ),
    Case(
        "spatial_reduction_attention stage 3", "spatial_reduction_attention", 320, 14, {"heads": 5, "reduction": 2},
        "timm.models.pvt_v2:Attention", lambda C, h: C(h.width, h["heads"], sr_ratio=2), "tokens", with_size, memory=False,
        slow=THREE,
    ),
    Case(
        "pooled_key_attention", "pooled_key_attention", 64, 56, {"heads": 1, "grid": 7}, "timm.models.pvt_v2:Attention",
        lambda C, h: C(h.width, h["heads"], linear_attn=True), "tokens", with_size,
    ),
    Case(
        "expanded_value_attention", "expanded_value_attention", 256, 14,
        {"heads": 4, "key_width": 32, "value_ratio": 2, "act": "hardswish", "batch_norm": True},
        "timm.models.levit:Attention",
        lambda C, h: C(h.width, 32, h["heads"], 2.0, resolution=(h.size, h.size), act_layer=nn.Hardswish), "tokens",
    ),
    Case(
        "mlp", "mlp", 96, 56, {"expansion": 4}, "timm.layers:Mlp", lambda C, h: C(h.width, 4 * h.width), "nhwc", kind=MLP
    ),
    Case(
        "conv_mlp", "conv_mlp", 64, 56, {"expansion": 4}, "timm.models.pvt_v2:MlpWithDepthwiseConv",
        lambda C, h: C(h.width, 4 * h.width), "tokens", with_size, kind=MLP,
    ),
    Case(
        "preceded_mlp", "preceded_mlp", 64, 64, {"expansion": 4}, "timm.models.fastvit:ConvMlp",
        lambda C, h: C(h.width, 4 * h.width), kind=MLP,
    ),
    Case(
        "gated_mlp", "gated_mlp", 96, 56, {"expansion": 3, "activation": "silu", "hidden": "whole"}, "timm.layers:SwiGLU",
        lambda C, h: C(h.width, 3 * h.width), "nhwc", kind=MLP,
    ),
    Case(
        "grn_mlp", "grn_mlp", 96, 56, {"expansion": 4}, "timm.layers:GlobalResponseNormMlp",
        lambda C, h: C(h.width, 4 * h.width), "nhwc", kind=MLP,
    ),
    Case(
        "squeeze_excite", "squeeze_excite", 96, 56, {"reduction": 4}, "timm.layers:SEModule",
        lambda C, h: C(h.width, rd_ratio=1 / 4), kind=MLP, slow=PLANES,
    ),
    Case(
        "efficient_channel_attention", "efficient_channel_attention", 96, 56, {"kernel": 5}, "timm.layers:EcaModule",
        lambda C, h: C(kernel_size=5), kind=MLP, slow=PLANES,
    ),
)  # fmt: skip
"""What timm has, in the environment of the tests."""
