"""Non-negative amounts of a network's operations, whose priced sum is a first guess of its time.

By class of operation: multiply-adds, elements moved, calls; and two amounts that say how well the work suits the machine: the
larger of compute and traffic (the roofline of Williams et al. 2009, Communications of the ACM 52(4)) at a few ratios of the
two, and multiply-adds with the sides of matrices rounded up to whole tiles. A device's prices choose among them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from nas.predictors.tables.models.fusion import Kernel, kernels
from nas.predictors.tables.models.operations import ATTENTION, CONVOLUTION, PRODUCTS, RESULT, Operation

RATIOS = (16, 64, 256)
"""Multiply-adds in the time of moving one element, from processors to tensor cores."""
TILES = (32, 128)
CACHES = (300_000, 5_000_000)
"""Elements that fit into the caches of processors: a core's own, and the shared one."""
LIBRARY_CLASSES = (
    "stem", "patches", "conv1", "conv3", "conv5", "grouped", "depthwise3", "depthwise5", "depthwise7",
    "linear", "product", "attention",
)  # fmt: skip
OTHER_CLASSES = {
    "batch_norm": {"native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit_no_training"},
    "norm": {
        "native_layer_norm", "native_group_norm", "linalg_vector_norm", "rms_norm", "_fused_rms_norm", "var", "var_mean",
        "rsqrt",
    },
    "activation": {
        "relu", "gelu", "silu", "hardtanh", "hardsigmoid", "hardswish", "sigmoid", "leaky_relu", "elu", "mish", "softplus",
        "tanh", "exp", "clamp", "clamp_min", "selu", "celu", "prelu", "_prelu_kernel", "relu6", "log_sigmoid",
    },
    "arithmetic": {
        "add", "sub", "mul", "div", "addcmul", "neg", "pow", "square", "rsub", "sqrt", "where", "sin", "cos", "lerp", "maximum",
    },
    "copy": {
        "clone", "cat", "copy", "constant_pad_nd", "stack", "index", "index_select", "roll", "flip", "gather", "_to_copy",
        "fill", "zeros", "new_zeros", "repeat", "pixel_shuffle", "pixel_unshuffle", "im2col", "col2im",
        "slice_scatter", "reflection_pad2d",
    },
    "pool": {
        "avg_pool2d", "max_pool2d_with_indices", "mean", "sum", "amax", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "max",
        "upsample_bilinear2d", "upsample_nearest2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "avg_pool1d",
    },
    "softmax": {"_softmax", "_log_softmax", "_safe_softmax"},
    "other": set(),
}  # fmt: skip
_CLASS_OF = {name: kind for kind, names in OTHER_CLASSES.items() for name in names}
LIBRARY_AMOUNTS = (
    "macs", "elements", "calls", *(f"roof{ratio}" for ratio in RATIOS), *(f"tiles{side}" for side in TILES),
)  # fmt: skip
FUSED_AMOUNTS = ("fused.calls", "fused.elements", "fused.far", "fused.farther", "weights")
NAMES = (
    *(f"{kind}.{amount}" for kind in LIBRARY_CLASSES for amount in LIBRARY_AMOUNTS),
    *(f"{kind}.{amount}" for kind in OTHER_CLASSES for amount in ("elements", "calls")),
    "far", "farther", *FUSED_AMOUNTS,
)  # fmt: skip
"""All amounts of one image, in order."""


def amounts(operations: Sequence[Operation]) -> dict[str, float]:
    """The amounts by name; 0 where a network has nothing of the kind."""
    found: Counter[str] = Counter()
    for one in operations:
        if one.name == RESULT:
            continue
        kind = class_of(one)
        found += Counter(_library(kind, one) if kind in LIBRARY_CLASSES else _other(kind, one))
        moved = one.read + one.written + sum(map(math.prod, one.weights))
        found["far"] += moved if moved > CACHES[0] else 0
        found["farther"] += moved if moved > CACHES[1] else 0
        found["weights"] += sum(map(math.prod, one.weights))
    found += _fused(kernels(operations))
    return {name: float(found[name]) for name in NAMES}


def class_of(one: Operation) -> str:
    """The class of an operation."""
    if one.name == ATTENTION:
        return "attention"
    if one.name in PRODUCTS:
        return "linear" if one.weights else "product"
    if one.name != CONVOLUTION:
        return _CLASS_OF.get(one.name, "other")
    _, channels, *kernel = one.filter
    side = max(kernel)
    if one.groups > 1:
        return ("depthwise" + ("3" if side <= 3 else "5" if side <= 5 else "7")) if channels == 1 else "grouped"
    if channels <= 4:
        return "stem"
    if side > 1 and side == one.stride:
        return "patches"
    return "conv1" if side == 1 else "conv3" if side <= 3 else "conv5"


def _library(kind: str, one: Operation) -> dict[str, float]:
    moved = one.read + one.written
    found: dict[str, float] = {"macs": one.macs, "elements": moved, "calls": 1}
    found |= {f"roof{ratio}": max(one.macs / ratio, moved) for ratio in RATIOS}
    found |= {f"tiles{side}": one.macs * _rounding(one, side) for side in TILES}
    return {f"{kind}.{name}": value for name, value in found.items()}


def _rounding(one: Operation, side: int) -> float:
    """By what the work grows when the sides of the weights, or of keys and values, are rounded up to whole tiles."""
    sides: tuple[int, ...]
    if one.name == CONVOLUTION:
        outputs, *inner = one.filter
        sides = (outputs // one.groups, math.prod(inner))
    elif one.name == ATTENTION:
        sides = one.reads[1][-2:]
    else:
        sides = (one.inner, one.writes[0][-1])
    return math.prod(side * math.ceil(value / side) / max(value, 1) for value in sides)


def _other(kind: str, one: Operation) -> dict[str, float]:
    return {f"{kind}.elements": one.read + one.written, f"{kind}.calls": 1}


def _fused(found: Sequence[Kernel]) -> Counter[str]:
    """What is left to do outside libraries once a compiler has joined what it can."""
    moved = [kernel.read + kernel.written for kernel in found if not kernel.library]
    return Counter(
        {
            "fused.calls": len(moved),
            "fused.elements": sum(moved),
            "fused.far": sum(part for part in moved if part > CACHES[0]),
            "fused.farther": sum(part for part in moved if part > CACHES[1]),
        }
    )
