"""PyTorch's operations in ONNX, where the exporter translates none of their kind, or divides them into smaller ones before.

What `UNDIVIDED` makes is what the exporter makes of the smaller ones, so that a runtime ends at the same kernels. A call that
it does not hold for raises ValueError, and the network is divided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

COMPLEX = (14, 15)
"""ONNX's numbers of complex types."""


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(q k^T scale + mask) v in ONNX for tensors of any rank; the exporter's own translation takes four axes only."""
    from onnxscript import opset18 as op

    if is_causal or enable_gqa:
        raise ValueError("attention with is_causal or enable_gqa is not translated")
    rank = len(query.shape)
    factor = op.Constant(value_float=float(query.shape[-1] ** -0.5 if scale is None else scale))
    transposed = op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = op.MatMul(op.Mul(query, factor), transposed)
    if attn_mask is not None and str(attn_mask.dtype) == "BOOL":
        scores = op.Where(attn_mask, scores, op.Constant(value_float=float("-inf")))
    elif attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float, cudnn: bool = False
) -> Any:
    """Batch normalisation by running statistics."""
    from onnxscript import opset18 as op

    if training or weight is None or bias is None or mean is None or variance is None:
        raise ValueError("batch normalisation is translated with weights and running statistics")
    return op.BatchNormalization(x, weight, bias, mean, variance, epsilon=float(eps))


def rms_norm(x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """x / sqrt(mean x^2 + eps) * weight over the last axis."""
    from onnxscript import opset18 as op

    if len(shape) != 1 or eps is None or weight is None:
        raise ValueError("root mean square normalisation is translated over the last axis, with a weight and eps")
    mean = op.ReduceMean(op.Pow(x, op.Constant(value_float=2.0)), op.Constant(value_ints=[-1]), keepdims=1)
    factor = op.Reciprocal(op.Sqrt(op.Add(mean, op.Constant(value_float=float(eps)))))
    return op.Mul(op.Mul(x, factor), weight)


def both(first: Any, second: Any) -> Any:
    """Whether both of two flags are set."""
    from onnxscript import opset18 as op

    if str(first.dtype) != "BOOL" or str(second.dtype) != "BOOL":
        raise ValueError("& is translated between flags")
    return op.And(first, second)


def cast(x: Any, dtype: int, non_blocking: bool = False, copy: bool = False) -> Any:
    """A tensor in another type; `dtype` is ONNX's number of it."""
    from onnxscript import opset18 as op

    if "COMPLEX" in str(x.dtype) or int(dtype) in COMPLEX:
        raise ValueError("ONNX casts no complex numbers")
    return op.Cast(x, to=int(dtype))


def parts(x: Any, chunks: int, dim: int = 0) -> Any:
    """Equal parts of an axis; the exporter's own translation miscounts others."""
    from onnxscript import opset18 as op

    size = x.shape[dim]
    if not isinstance(size, int) or chunks < 2 or size % chunks:
        raise ValueError("chunk is translated to several equal parts of an axis that is not free")
    return op.Split(x, axis=dim, num_outputs=chunks)


def transposed(x: Any) -> Any:
    """A matrix, or a batch of them, with rows for columns."""
    from onnxscript import opset18 as op

    rank = len(x.shape)
    return op.Transpose(x, perm=[*range(rank - 2), rank - 1, rank - 2])


def softshrink(x: Any, lambd: float = 0.5) -> Any:
    """x moved by lambda towards zero, and zero within."""
    from onnxscript import opset18 as op

    bound = op.Constant(value_float=float(lambd))
    moved = op.Sub(x, op.Mul(op.Sign(x), bound))
    return op.Where(op.Greater(op.Abs(x), bound), moved, op.Mul(x, op.Constant(value_float=0.0)))


def square(x: Any) -> Any:
    """x^2."""
    from onnxscript import opset18 as op

    return op.Pow(x, op.Constant(value_float=2.0))


def pool_to(x: Any, size: Sequence[int]) -> Any:
    """The means of as many equal parts of the last of three axes."""
    from onnxscript import opset18 as op

    if len(x.shape) != 3 or x.shape[-1] % size[0]:
        raise ValueError("pooling to a size is translated along the last of three axes, in equal parts")
    part, axis = x.shape[-1] // size[0], op.Constant(value_ints=[-2])
    flat = op.AveragePool(op.Unsqueeze(x, axis), kernel_shape=[1, part], strides=[1, part], count_include_pad=1)
    return op.Squeeze(flat, axis)


_aten: Any = torch.ops.aten
TRANSLATIONS: dict[Any, Callable[..., Any]] = {_aten.scaled_dot_product_attention.default: attention}
"""For every export."""
UNDIVIDED: dict[Any, Callable[..., Any]] = {
    _aten.batch_norm.default: batch_norm,
    _aten.rms_norm.default: rms_norm,
    _aten.__and__.Tensor: both,
    _aten.to.dtype: cast,
    _aten.chunk.default: parts,
    _aten.mT.default: transposed,
    _aten.adaptive_avg_pool1d.default: pool_to,
    _aten.softshrink.default: softshrink,
    _aten.square.default: square,
}
"""For operations as they were traced, which the exporter would divide."""
