"""Operators against the modules of official repositories, at the places that the published models have them at."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from operator_calls import CACHE, COPIED, FOLDED, MLP, STABLE, First, Zero, with_sides, without
from operator_composed import COMPOSED
from operator_sides import Case, Here
from operator_stages import STAGES
from torch import Tensor, nn

from nas.search_spaces.operators.token_mixers.pyramid_pooled_attention import PYRAMIDS

RMT = "qhfan/RMT:classfication_release/RMT.py:"
TRANSXNET = "LMMMEng/TransXNet:models/transxnet.py:"
OVERLOCK = "LMMMEng/OverLoCK:models/overlock.py:"
IFORMER = "sail-sg/iFormer:models/inception_transformer.py:"
SG_FORMER = "OliverRensu/SG-Former:sgformer.py:Attention"
SPARTAN = "henry-pay/SpaRTAN:src/model/spartan.py:"
DRSFORMER = "cschenxiang/DRSformer:basicsr/models/archs/DRSformer_arch.py:"
DHVT = "ArieSeirack/DHVT:vision_transformer.py:"
OUTPUTS = ("BASIS", "BASIS_COEF", "ATTN_MASK")


def decayed(name: str, *, chunks: bool) -> Any:
    """Builds an attention of RMT or PPMA that keeps the tables which the model makes once a stage."""

    def build(found: Any, here: Here) -> nn.Module:
        module = getattr(found, name)(here.width, here["heads"])
        tables = found.RetNetRelPos2d(here.width, here["heads"], 2, 4)
        module.tables = tables((here.size, here.size), chunkwise_recurrent=chunks)
        return module  # type: ignore[no-any-return]

    return build


def with_tables(module: Any, x: Tensor, here: Here) -> Any:
    """RMT's module(x, tables)."""
    return module(x, module.tables)


def first_head(found: Any, here: Here) -> nn.Module:
    """StyleSwin's block without what its style does, and without its MLP."""
    found.AdaptiveInstanceNorm = First
    block = found.StyleSwinTransformerBlock(here.width, (here.size, here.size), here["heads"], window_size=here["window"])
    block.mlp = Zero()
    return block  # type: ignore[no-any-return]


def mixing_block(found: Any, here: Here) -> nn.Module:
    """OverLoCK's plug-and-play block, which doubles its heads, without convolutions, norms and MLP; its path without NATTEN."""
    found.has_natten = False
    block = found.ContMixBlock(here.width, here["kernel"], here["small"], here["heads"] // 2)
    block.mlp = Zero()
    return without(block, "dwconv1", "norm1", "dwconv2", "norm2")


def deployed_mixing_block(found: Any, here: Here) -> nn.Module:
    """The same with the branches of its large kernel in one."""
    block = mixing_block(found, here)
    block.reparm()  # type: ignore[operator]
    return block


def stripes(found: Any, here: Here) -> nn.Module:
    """CSWin's block without norms and MLP."""
    block = found(here.width, here.size, here["heads"], split_size=here["stripe"], qkv_bias=True)
    block.mlp = Zero()
    return without(block, "norm1", "norm2")


def sorted_groups(found: Any, here: Here) -> nn.Module:
    """CATANet's block without norm and MLP."""
    block = found(here.width, here.width // 2, 64, here["heads"], num_tokens=here["centres"], group_size=here["members"])
    block.mlp.forward = lambda x, x_size: x.new_zeros(())
    block.initted.fill_(value=True)
    return without(block, "norm")


def significance(module: Any, x: Tensor, here: Here) -> Any:
    """SG-Former's attention by a given significance, sorted along rows and along columns."""
    by_rows = x[..., 0]
    by_columns = by_rows.view(-1, here.size, here.size).transpose(1, 2).flatten(1)
    return module(x, here.size, here.size, [by_rows, by_columns])


def pyramid(found: Any, here: Here) -> nn.Module:
    """P2T's attention with the convolutions that all blocks of its stage share."""
    module = found(here.width, here["heads"], qkv_bias=True, pool_ratios=list(PYRAMIDS[here["pyramid"]]))
    convs = (nn.Conv2d(here.width, here.width, 3, padding=1, groups=here.width) for _ in range(4))
    module.shared = nn.ModuleList(convs)
    return module  # type: ignore[no-any-return]


def no_reconstruction() -> SimpleNamespace:
    """Sparsifiner's configuration, as far as its attention reads it: the best predicted keys, nothing reported."""
    off = dict.fromkeys(("PRUNE_ATTN_MATRIX_ROW", *(f"OUT_{name}_SPARSITY" for name in OUTPUTS)), False)
    parts = {"BASIS_COEF": SimpleNamespace(USE_TOPK=False, THRESHOLD=0.0), "ATTN_SCORE": SimpleNamespace(USE_TOPK=True)}
    sparse = SimpleNamespace(BASIS_THRESHOLD=0.0, **parts, **off)
    return SimpleNamespace(LOSS=SimpleNamespace(USE_ATTN_RECON=False), SPAR=sparse)


ALONE = (
    Case(
        "attentive_conv", "attentive_conv", 64, 56, {"kernel": 3}, "price112/Attentive-Convolution:models/AttNet.py:ATConv",
        lambda C, h: C(h.width, nn.GELU, h["kernel"]),
        slow=COPIED,
    ),
    Case(
        "axial_attention rmt", "axial_attention", 64, 56, {"heads": 4}, RMT, decayed("VisionRetentionChunk", chunks=True),
        "nhwc", with_tables,
    ),
    Case(
        "global_attention rmt", "global_attention", 256, 14, {"heads": 8, "lepe": 5, "position": "decay"}, RMT,
        decayed("VisionRetentionAll", chunks=False), "nhwc", with_tables, memory=False,
    ),
    Case(
        "global_attention smt", "global_attention", 256, 14, {"heads": 8, "lepe": 3}, "AFeng-x/SMT:models/smt.py:Attention",
        lambda C, h: C(h.width, sa_num_heads=h["heads"], ca_attention=0, qkv_bias=True), "tokens", with_sides, memory=False,
    ),
    Case(
        "context_attention", "context_attention", 256, 56, {"ratio": 0.25},
        "xvjiarui/GCNet:mmdet/ops/gcb/context_block.py:ContextBlock", lambda C, h: C(h.width, 0.25), skips=1,
        slow=CACHE,
    ),
    Case(
        "context_mixing_conv", "context_mixing_conv", 128, 28, {"heads": 4, "kernel": 13, "small": 5, "value": True},
        "LMMMEng/OverLoCK:models/contmix.py:", mixing_block, skips=2,
    ),
    Case(
        "context_mixing_conv deployed", "context_mixing_conv", 128, 28, {"heads": 4, "kernel": 13, "small": 5, "value": True},
        "LMMMEng/OverLoCK:models/contmix.py:", deployed_mixing_block, skips=2, training=False, memory=False, slow=FOLDED,
    ),
    Case(
        "conv_projection_attention", "conv_projection_attention", 64, 56, {"heads": 1, "kernel": 3, "stride": 2},
        "leoxiaobin/CvT:lib/models/cls_cvt.py:Attention",
        lambda C, h: C(h.width, h.width, h["heads"], qkv_bias=True, stride_kv=2, with_cls_token=False), "tokens", with_sides,
    ),
    Case(
        "decomposed_conv", "decomposed_conv", 64, 28, {"kernel": 3, "dilation": 2}, SPARTAN,
        lambda M, h: M.SMixer(h.width, partial(M.ConvNormAct, groups=h.width // 2)),
    ),
    Case(
        "double_window_attention", "double_window_attention", 128, 56, {"heads": 4, "window": 8},
        "microsoft/StyleSwin:models/generator.py:", first_head, "tokens",
        lambda m, x, h: m(x, x), skips=2,
    ),
    Case(
        "dual_mixer", "dual_mixer", 48, 56, {"heads": 1, "reduction": 8, "kernel": 7}, TRANSXNET + "HybridTokenMixer",
        lambda C, h: C(h.width, h["kernel"], 2, h["heads"], h["reduction"]),
    ),
    Case(
        "dynamic_conv", "dynamic_conv", 64, 56, {"kernel": 7, "mixtures": 2}, TRANSXNET + "DynamicConv2d",
        lambda C, h: C(h.width, h["kernel"], 4, h["mixtures"]),
        slow=COPIED,
    ),
    Case(
        "overlapping_reduction_attention", "overlapping_reduction_attention", 64, 56,
        {"heads": 1, "reduction": 8, "out": "none"}, TRANSXNET + "Attention",
        lambda C, h: C(h.width, h["heads"], sr_ratio=h["reduction"]),
    ),
    Case(
        "enhanced_attention biformer", "enhanced_attention", 256, 14, {"heads": 8, "kernel": 5},
        "rayleizhu/BiFormer:models/_common.py:AttentionLePE", lambda C, h: C(h.width, h["heads"], qkv_bias=True, side_dwconv=5),
        "nhwc", memory=False,
    ),
    Case(
        "enhanced_attention sgformer", "enhanced_attention", 256, 14, {"heads": 8, "kernel": 3, "own_values": True}, SG_FORMER,
        lambda C, h: C(h.width, None, h["heads"], qkv_bias=True), "tokens",
        lambda m, x, h: m(x, h.size, h.size, None), memory=False,
    ),
    Case(
        "routed_attention", "routed_attention", 64, 56, {"heads": 2, "regions": 7, "top_k": 4, "lepe": 5},
        "rayleizhu/BiFormer:ops/bra_legacy.py:BiLevelRoutingAttention",
        lambda C, h: C(h.width, h["heads"], n_win=7, topk=h["top_k"], side_dwconv=5), "nhwc",
    ),
    Case(
        "hybrid_scale_attention", "hybrid_scale_attention", 64, 56, {"heads": 2, "reduction": 8, "window": 7}, SG_FORMER,
        lambda C, h: C(h.width, None, h["heads"], qkv_bias=True, sr_ratio=8), "tokens",
        lambda m, x, h: m(x, h.size, h.size, None),
    ),
    Case(
        "self_guided_attention", "self_guided_attention", 64, 56, {"heads": 2, "reduction": 8}, SG_FORMER,
        lambda C, h: C(h.width, True, h["heads"], qkv_bias=True, sr_ratio=8), "tokens", significance,
    ),
    Case(
        "factorised_attention", "factorised_attention", 64, 28, {"heads": 2, "reduction": 4, "window": 7},
        "q2479036243/FaViT:FaViT/classification/favit.py:Attention",
        lambda C, h: C(h.width, h["heads"], qkv_bias=True, sr_ratio=4, windowsize=7), "tokens", with_sides,
    ),
    Case(
        "fourier_operator", "fourier_operator", 256, 14, {"blocks": 8}, "NVlabs/AFNO-transformer:afno/afno2d.py:AFNO2D",
        lambda C, h: C(h.width, 8), "tokens",
    ),
    Case(
        "frequency_filter", "frequency_filter", 128, 28, {"blocks": 8},
        "microsoft/TokenMixers:Adaptive Frequency Filters/affnet/modules/aff_block.py:AFNO2D_channelfirst",
        lambda C, h: C(SimpleNamespace(), h.width, 8),
    ),
    Case(
        "fourier_transform", "fourier_transform", 256, 14, {"orthonormal": False},
        "rishikksh20/FNet-pytorch:fnet.py:FNetBlock", lambda C, h: C(), "tokens",
    ),
    Case(
        "frequency_split", "frequency_split", 96, 56, {"heads": 3, "attending": 1, "pool": 2}, IFORMER + "Mixer",
        lambda C, h: C(h.width, h["heads"], qkv_bias=True, attention_head=1, pool_size=2), "nhwc", at_64={"heads": 4},
    ),
    Case(
        "pooled_attention", "pooled_attention", 64, 28, {"heads": 2, "pool": 2, "out": "none"}, IFORMER + "LowMixer",
        lambda C, h: C(h.width, h["heads"], qkv_bias=True, pool_size=2),
    ),
    Case(
        "gated_conv", "gated_conv", 128, 28, {"order": 3, "kernel": 7}, "raoyongming/HorNet:hornet.py:gnconv",
        lambda C, h: C(h.width, 3),
    ),
    Case(
        "gated_conv global_local", "gated_conv", 256, 14, {"order": 4, "kernel": 3, "filter": "global_local"},
        "raoyongming/HorNet:hornet.py:",
        lambda M, h: M.gnconv(h.width, 4, gflayer=M.GlobalLocalFilter, h=h.size, w=h.size // 2 + 1),
    ),
    Case(
        "global_filter", "global_filter", 256, 14, {}, "raoyongming/GFNet:gfnet.py:GlobalFilter",
        lambda C, h: C(h.width, h.size, h.size // 2 + 1), "tokens",
    ),
    Case(
        "scale_aware_modulation", "scale_aware_modulation", 64, 56, {"heads": 4, "expansion": 2},
        "AFeng-x/SMT:models/smt.py:Attention", lambda C, h: C(h.width, ca_num_heads=h["heads"], qkv_bias=True), "tokens",
        with_sides,
    ),
    Case(
        "stripe_attention", "stripe_attention", 64, 56, {"heads": 2, "stripe": 1},
        "microsoft/CSWin-Transformer:models/cswin.py:CSWinBlock", stripes, "tokens", skips=2,
    ),
    Case(
        "histogram_attention", "histogram_attention", 64, 28, {"heads": 2},
        "sunshangquan/Histoformer:basicsr/models/archs/histoformer_arch.py:Attention_histogram",
        lambda C, h: C(h.width, h["heads"], False), call=lambda m, x, h: m(x.clone()),  # it sorts what it is given in place
        slow=STABLE,
    ),
    Case(
        "large_kernel_conv", "large_kernel_conv", 64, 56, {"kernel": 17}, OVERLOCK + "DilatedReparamBlock",
        lambda C, h: C(h.width, 17, deploy=False, attempt_use_lk_impl=False),
    ),
    Case(
        "large_kernel_conv deployed", "large_kernel_conv", 64, 56, {"kernel": 17}, OVERLOCK + "DilatedReparamBlock",
        lambda C, h: C(h.width, 17, deploy=True, attempt_use_lk_impl=False), training=False, memory=False, slow=FOLDED,
    ),
    Case(
        "large_kernel_conv merged", "large_kernel_conv", 64, 56, {"kernel": 17, "merged": True},
        OVERLOCK + "DilatedReparamBlock", lambda C, h: C(h.width, 17, deploy=True, attempt_use_lk_impl=False),
    ),
    Case(
        "large_kernel_block", "large_kernel_block", 64, 56, {"kernel": 17, "expansion": 4}, OVERLOCK + "RepConvBlock",
        lambda C, h: C(h.width, 17).proj[1:],
    ),
    Case(
        "large_kernel_block deployed", "large_kernel_block", 64, 56, {"kernel": 17, "expansion": 4}, OVERLOCK + "RepConvBlock",
        lambda C, h: C(h.width, 17, deploy=True).proj[1:], training=False, memory=False, slow=FOLDED,
    ),
    Case(
        "linear_attention", "linear_attention", 96, 28, {"heads": 3, "kernel": 5, "position": True},
        "xinghaochen/SLAB:classification/models/slab_swin.py:SimplifiedLinearAttention",
        lambda C, h: C(h.width, (h.size, h.size), h["heads"]), "tokens",
    ),
    Case(
        "mix_shift_conv", "mix_shift_conv", 96, 56, {"kernels": "1-1-3-5-7", "expansion": 4},
        "JegZheng/MS-MLP:models/ms_mlp.py:MixShiftBlock",
        lambda C, h: C(h.width, (h.size, h.size), 5, [-2, -1, 0, 1, 2], [1, 1, 3, 5, 7], layer_scale_init_value=0), skips=1,
    ),
    Case(
        "performer_attention", "performer_attention", 64, 56, {"heads": 1, "features": 32, "scaled": False, "value_skip": True},
        "yitu-opensource/T2T-ViT:models/token_performer.py:Token_performer", lambda C, h: C(h.width, h.width), "tokens",
        lambda m, x, h: m.single_attn(x),
    ),
    Case(
        "pyramid_pooled_attention", "pyramid_pooled_attention", 64, 56, {"heads": 1, "pyramid": "coarse"},
        "yuhuan-wu/P2T:p2t.py:PoolingAttention", pyramid, "tokens", lambda m, x, h: m(x, h.size, h.size, m.shared),
    ),
    Case(
        "recursive_reduction_attention", "recursive_reduction_attention", 64, 64,
        {"heads": 2, "stride": 4, "recursions": 2, "qk_ratio": 0.5}, "zhengchen1999/RGT:basicsr/archs/rgt_arch.py:RG_SA",
        lambda C, h: C(h.width, h["heads"], qkv_bias=True), "tokens", with_sides, at_64={"recursions": 1}, training=False,
    ),
    Case(
        "reparam_conv", "reparam_conv", 128, 28, {"kernel": 3}, "jameslahm/lsnet:model/lsnet.py:RepVGGDW",
        lambda C, h: C(h.width),
    ),
    Case(
        "reparam_conv deployed", "reparam_conv", 128, 28, {"kernel": 3}, "jameslahm/lsnet:model/lsnet.py:RepVGGDW",
        lambda C, h: C(h.width).eval().fuse(), training=False, memory=False, slow=FOLDED,
    ),
    Case(
        "scattering", "scattering", 64, 56, {"blocks": 4}, "badripatro/svt:svt.py:SVT_channel_mixing", lambda C, h: C(h.width),
        "tokens", with_sides,
    ),
    Case(
        "sorted_group_attention", "sorted_group_attention", 64, 56,
        {"heads": 4, "centres": 16, "members": 256, "qk_ratio": 0.5, "double_out": True},
        "EquationWalker/CATANet:basicsr/archs/catanet_arch.py:TAB", sorted_groups, skips=2, training=False, memory=False,
    ),
    Case(
        "sparse_channel_attention", "sparse_channel_attention", 64, 56, {"heads": 2, "rates": 4}, DRSFORMER + "Attention",
        lambda C, h: C(h.width, h["heads"], True),
    ),
    Case(
        "sparse_attention", "sparse_attention", 384, 197, {"heads": 8, "keep": 0.25, "class_token": True},
        "lim142857/Sparsifiner:src/models/sparsifiner.py:Attention",
        lambda C, h: C(h.width, h.size, h["heads"], 0.25, qkv_bias=True, cfg=no_reconstruction()),
        "tokens", lambda m, x, h: m(x)["x"], row=True, memory=False,
    ),
    Case(
        "head_token_attention", "head_token_attention", 192, 197, {"heads": 4, "class_token": True}, DHVT + "HI_Attention",
        lambda C, h: C(h.width, h["heads"], qkv_bias=True), "tokens", row=True, memory=False,
    ),
    Case(
        "token_mlp_gate", "token_mlp_gate", 256, 14, {"tokens": 256, "expansion": 4},
        "Abdullah-88/NiNformer:ninformer.py:MixerGatingUnit", lambda C, h: C(h.width, h.size**2, 256, 4 * h.width, 0.0),
        "tokens", memory=False,
    ),
    Case(
        "activator_mlp", "activator_mlp", 96, 56, {"expansion": 4}, "Abdullah-88/Activator:activator.py:ActivatorGatingUnit",
        lambda C, h: C(h.width, 4 * h.width), "tokens", kind=MLP,
    ),
    Case(
        "mixed_scale_mlp", "mixed_scale_mlp", 64, 56, {"expansion": 2}, DRSFORMER + "FeedForward",
        lambda C, h: C(h.width, 2, False), kind=MLP,
    ),
    Case(
        "multi_scale_mlp", "multi_scale_mlp", 64, 56, {"expansion": 4}, TRANSXNET + "Mlp",
        lambda C, h: C(h.width, 4 * h.width), kind=MLP,
    ),
    Case(
        "wave_mlp", "wave_mlp", 64, 28, {"expansion": 2, "grouped": True}, SPARTAN,
        lambda M, h: M.CMixer(h.width, 2, partial(M.ConvNormAct, groups=h.width)), kind=MLP,
    ),
)  # fmt: skip
"""Classes of official repositories, as they are."""
OFFICIAL = (*ALONE, *COMPOSED, *STAGES)
"""All that is not of timm, and what stands between blocks."""
