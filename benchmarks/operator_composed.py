"""Operators that official repositories hold in parts: the parts put together as their model does, on what runs without a GPU.

Kernels for CUDA or Triton are replaced by the forms in plain torch which the same repository keeps beside them, never by ones
made for this benchmark; where there are none, the case says so and is not run. Those forms are written to be read: a ratio says
how ours compares with what one gets there without a GPU, not with the kernels; their memory is not compared.

neighbourhood_attention and the last stage of attention_scan use the CPU kernels of natten, up to 0.17.5, built from source.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from operator_calls import MLP, Zero, beside, lacking, without
from operator_sides import Case, Here
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.registry import Kind

IFORMER = "sail-sg/iFormer:models/inception_transformer.py:HighMixer with the end of Mixer"
STVIT = "changsn/STViT-R:models/layers.py:Attention with the maxima of multi_scale_semantic_token1"
A2MAMBA = "LMMMEng/A2Mamba:models/a2mamba.py:"
NAT = "SHI-Labs/Neighborhood-Attention-Transformer:classification/nat.py: with natten's kernels for CPUs"
AFF = "microsoft/TokenMixers:Adaptive Frequency Filters/affnet/modules/aff_block.py:AFFBlock"
ALONE = "official: codes, anchors and centre are not trained, ours are"


class Clusters(nn.Module):
    """STViT's attention of cluster maxima to themselves and the map, and, with `back`, of the map to them."""

    def __init__(self, found: Any, here: Here, *, back: bool = False) -> None:
        super().__init__()
        attentions = (found(here.width, None, here["heads"], qkv_bias=True) for _ in range(1 + back))
        self.attentions, self.grid, self.size = nn.ModuleList(attentions), here["grid"], here.size

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C), or (B, grid^2, C) without `back`."""
        image = x.transpose(1, 2).unflatten(2, (self.size, self.size))
        tokens = F.adaptive_max_pool2d(image, self.grid).flatten(2).transpose(1, 2)
        tokens = tokens + self.attentions[0](tokens, torch.cat([tokens, x], dim=1))
        y: Tensor = self.attentions[1](x, tokens) if len(self.attentions) > 1 else tokens
        return y


class HighFrequencies(nn.Module):
    """Inception Transformer's mixer without its low frequencies."""

    def __init__(self, found: Any, here: Here) -> None:
        super().__init__()
        self.high, wide = found(here.width), 2 * here.width
        self.conv_fuse = nn.Conv2d(wide, wide, 3, padding=1, bias=False, groups=wide)
        self.proj = nn.Conv2d(wide, here.width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), as Mixer.forward."""
        y = self.high(x.permute(0, 3, 1, 2).contiguous())
        return self.proj(y + self.conv_fuse(y)).permute(0, 2, 3, 1).contiguous()  # type: ignore[no-any-return]


def hashed(found: Any, here: Here) -> nn.Module:
    """EcoFormer's attention after its codes were fitted."""
    found.args = SimpleNamespace(nbits=here["bits"], m=25)
    found.KernelSH = beside(found, "hashing/ksh.py").KernelSH
    module = found.EcoformerSelfAttention(here.width, here["heads"], qkv_bias=True)
    module.fast_attention.is_trained = True
    module.fast_attention.ksh.anchor.normal_()
    return module  # type: ignore[no-any-return]


def cross_attention(found: Any, here: Here) -> nn.Module:
    """FcaFormer's block without norms, local convolution and MLP; its summary is of what an earlier block gave."""
    block = found(here.width, (here.size, here.size), here["depth"], here["depth"], True, here["heads"])
    block.s_up, block.mlp = False, Zero()
    return without(block, "norm1", "norm2", "local_conv")


def summarised(module: Any, x: Tensor, here: Here) -> Any:
    """FcaFormer's block on x and on the summary of a block before, which is as large as x."""
    image = x.transpose(1, 2).unflatten(2, (here.size, here.size))
    return module(x, module.dw_conv(image).flatten(2).transpose(1, 2))


def frequency_layers(found: Any, here: Here) -> nn.Module:
    """AFFNet's block with the activation that ours has; its other options are the defaults."""
    options = SimpleNamespace(**{"model.activation.name": "relu"})
    return found(options, here.width, here.width, 2 * here.width, here["layers"], head_dim=here.width)  # type: ignore[no-any-return]


def scanning(found: Any, here: Here) -> nn.Module:
    """VMamba's mixer on csms6s.py selective_scan_torch and csm_triton.py CrossScanF, CrossMergeF."""
    scans, orders = beside(found, "csms6s.py"), beside(found, "csm_triton.py")
    found.selective_scan_fn = lambda *tensors, backend=None: scans.selective_scan_torch(*tensors)
    found.cross_scan_fn = lambda x, *, in_channel_first, out_channel_first, scans, force_torch: orders.CrossScanF.apply(
        x, in_channel_first, out_channel_first, False, scans
    )
    found.cross_merge_fn = lambda x, *, in_channel_first, out_channel_first, scans, force_torch: orders.CrossMergeF.apply(
        x, in_channel_first, out_channel_first, False, scans
    )
    return found.SS2D(here.width, 1, 2.0, conv_bias=False, forward_type="v05_noz")  # type: ignore[no-any-return]


def delta_layer(found: Any, here: Here) -> nn.Module:
    """DeltaNet on naive.py delta_rule_chunkwise, layernorm.py rms_norm_ref and test_conv.py causal_conv1d_ref_torch."""
    naive, norms = beside(found, "../ops/delta_rule/naive.py"), beside(found, "../modules/layernorm.py")
    short = beside(found, "../../tests/modules/test_conv.py").causal_conv1d_ref_torch

    class ShortConvolution(nn.Conv1d):
        def __init__(self, hidden_size: int, kernel_size: int, bias: bool, activation: str) -> None:
            super().__init__(hidden_size, hidden_size, kernel_size, groups=hidden_size, bias=bias)
            self.activation = activation

        def forward(self, x: Tensor, **named: Any) -> Any:  # type: ignore[override]
            return short(x.transpose(1, 2), self.weight[:, 0], self.bias, activation=self.activation).transpose(1, 2), None

    class RMSNorm(nn.Module):
        def __init__(self, width: int, eps: float, dtype: torch.dtype) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.ones(width, dtype=dtype)), eps

        def forward(self, x: Tensor) -> Any:
            return norms.rms_norm_ref(x, self.weight, None, eps=self.eps)

    def chunk_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, **named: Any) -> Any:
        q, k = (F.normalize(each, dim=-1, p=2) for each in (q, k))
        out, state = naive.delta_rule_chunkwise(*(each.transpose(1, 2) for each in (q, k, v, beta)))
        return out.transpose(1, 2), state

    found.ShortConvolution, found.RMSNorm, found.chunk_delta_rule = ShortConvolution, RMSNorm, chunk_delta_rule
    found.get_layer_cache = found.update_layer_cache = lambda *arguments, **named: None
    found.unpad_hidden_states = lambda x, *beside: (x, None, None)
    found.repad_hidden_states = lambda x, *beside: x
    return found.DeltaNet(hidden_size=here.width, num_heads=here["heads"])  # type: ignore[no-any-return]


def neighbours(found: Any, here: Here) -> nn.Module:
    """NAT's attention, as its blocks build it."""
    bias = {"rel_pos_bias": True} if found.is_natten_post_017 else {"bias": True}
    return found.NeighborhoodAttention(  # type: ignore[no-any-return]
        here.width, kernel_size=here["kernel"], dilation=here["dilation"], num_heads=here["heads"], qkv_bias=True, **bias
    )


def global_pairs(found: Any, here: Here) -> nn.Module:
    """A2Mamba's attention of the last stage, with the tables that the model makes once a stage."""
    module = found.Attention(
        here.width, here["heads"], here["kernel"], global_mode=True, image_size=(here.size, here.size), use_rpb=True
    )
    module.tables = found.RoPE(here.width, here["heads"])((here.size, here.size))
    return module  # type: ignore[no-any-return]


COMPOSED = (
    Case(
        "cluster_attention", "cluster_attention", 384, 14, {"heads": 12, "grid": 6, "start": "max"}, STVIT,
        lambda C, h: Clusters(C, h, back=True), "tokens",
    ),
    Case(
        "semantic_tokens", "semantic_tokens", 384, 14, {"heads": 12, "grid": 6}, STVIT, Clusters, "tokens",
        kind=Kind.DOWNSAMPLE, in_width=384,
    ),
    Case(
        "forward_cross_attention", "forward_cross_attention", 192, 14, {"heads": 6, "depth": 1},
        "hkzhang-git/FcaFormer:image_classification/models/fcaformer.py:FcaBlock", cross_attention, "tokens",
        lambda m, x, h: summarised(m, x, h)[0], skips=1,
    ),
    Case("frequency_block", "frequency_block", 96, 32, {"layers": 2, "blocks": 8}, AFF, frequency_layers),
    Case(
        "hash_attention", "hash_attention", 64, 56, {"heads": 1, "bits": 16}, "ziplab/EcoFormer:pvt/performer.py:", hashed,
        "tokens", slow=ALONE,
    ),
    Case("high_frequency_conv", "high_frequency_conv", 96, 56, {"kernel": 3}, IFORMER, HighFrequencies, "nhwc"),
    Case(
        "neighbourhood_attention", "neighbourhood_attention", 64, 56, {"heads": 2, "kernel": 7, "dilation": 1},
        NAT, neighbours, "nhwc",
    ),
    Case(
        "neighbourhood_attention dinat", "neighbourhood_attention", 64, 56, {"heads": 2, "kernel": 7, "dilation": 8},
        NAT, neighbours, "nhwc",
    ),
    Case(
        "selective_scan", "selective_scan", 96, 28,
        {"state": 1, "directions": 4, "expansion": 2, "gate": False, "conv_bias": False},
        "MzeroMiko/VMamba:classification/models/vmamba.py: with selective_scan_torch, CrossScanF and CrossMergeF", scanning,
        "nhwc", memory=False,
    ),
    Case(
        "delta_rule", "delta_rule", 128, 16, {"heads": 2, "directions": 1},
        "fla-org/flash-linear-attention:fla/layers/delta_net.py: with its delta_rule_chunkwise and torch norm and convolution",
        delta_layer, "tokens", memory=False,
    ),
    Case(
        "attention_scan", "attention_scan", 64, 28, {"heads": 2, "kernel": 7}, A2MAMBA + "Attention",
        lacking("a GPU: A2SSM's states come from selective_scan_cuda_oflex_rh, which is CUDA source and nothing else"),
    ),
    Case(
        "attention_scan global_pairs", "attention_scan", 192, 7, {"heads": 8, "kernel": 7, "ending": "global_pairs"}, A2MAMBA,
        global_pairs, call=lambda m, x, h: m(x, m.tables), memory=False,
    ),
    Case(
        "large_small_conv", "large_small_conv", 128, 28, {"kernel": 7, "small": 3}, "jameslahm/lsnet:model/lsnet.py:LSConv",
        lacking("a GPU: LSConv's aggregation, model/ska.py SKA, is Triton kernels and nothing else"),
    ),
    Case(
        "sliding_attention", "sliding_attention", 64, 28, {"heads": 1, "kernel": 3, "dilation": 1},
        "zs670980918/MSA-Conv:core/op/Transformer_in_Convolution.py:MSA_Conv_2d",
        lacking("a GPU: core/op/msa_conv.cpp is linked with CUDA source, and includes headers which the repository lacks"),
    ),
    Case(
        "kan_mlp", "kan_mlp", 64, 28, {"expansion": 2, "grid": 8}, "Omid-Nejati/MedViTV2:fasterkan.py:FasterKAN",
        lambda C, h: C([h.width, h["expansion"] * h.width, h.width], num_grids=h["grid"]), "nhwc",
        lambda m, x, h: m(x.flatten(0, 2)).view(x.shape), kind=MLP,
    ),
    Case(
        "recalibrated_mlp", "recalibrated_mlp", 192, 197, {"expansion": 4, "class_token": True},
        "ArieSeirack/DHVT:vision_transformer.py:DAFF", lambda C, h: C(h.width, 4 * h.width), "tokens", kind=MLP, row=True,
        memory=False,
    ),
)  # fmt: skip
"""What official repositories have in parts."""
