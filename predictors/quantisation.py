"""int8 by ONNX Runtime's static quantiser: which operators become int8, what they are calibrated on, what stays in fp32.

Convolutions and matrix products, which hold nearly all MACs, become int8; norms, softmax, activations and sums stay in fp32,
where int8 costs accuracy and saves little time. Weights are signed with a scale a channel, activations unsigned with a scale
a tensor, which is what x86 and ARM multiply fastest (https://onnxruntime.ai/docs/performance/model-optimizations/
quantization.html, "Data type selection"). Weights take 7 of their 8 bits: x86 without VNNI adds pairs of products in 16 bits,
where those of 8 bits saturate. On such a machine logits of random networks were 14 to 31 % of the largest off by 8 bits, and 2
to 14 % by 7; a file of 8 bits made elsewhere would break there without a word.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nas.errors import FileError
from nas.predictors.tracing import first_cause, quiet

OPERATORS = ("Conv", "Gemm", "MatMul")
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
BATCH_IMAGES = 8
_MOVES = frozenset(
    ("Cast", "Concat", "Constant", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Shape", "Slice",
     "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantised:
    """How many operators of each ONNX type compute in int8 and in fp32; those that only move data are not counted."""

    int8: Mapping[str, int]
    fp32: Mapping[str, int]

    def __str__(self) -> str:
        told = [", ".join(f"{n} {name}" for name, n in sorted(found.items())) or "none" for found in (self.int8, self.fp32)]
        return f"in int8: {told[0]}; in fp32: {told[1]}"


def quantise(path: Path, out: Path, images: Tensor) -> Quantised:
    """Write the int8 form of the ONNX file at `path` to `out`.

    `images` (n, C, H, W), as the network sees them, are what the ranges of the activations are taken from: the smallest and
    largest value of each tensor. The file holds QuantizeLinear and DequantizeLinear around int8 operators (QDQ).
    Raises FileError where the network cannot be quantised.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        with quiet(), tempfile.TemporaryDirectory(prefix="nas-int8-") as folder:
            prepared = Path(folder) / "prepared.onnx"
            # The symbolic inference knows fewer operators than the exporter, which has written every shape into the file.
            quant_pre_process(path, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                out,
                _reader(prepared, images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                per_channel=True,
                reduce_range=True,  # 7 bits
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:
        raise FileError(f"the network cannot be quantised to int8: {first_cause(error)}; choose precision=fp32") from error
    return operators_of(out)


def operators_of(path: Path) -> Quantised:
    """Which operators of an ONNX file compute in int8: those that read what DequantizeLinear gives. Raises FileError."""
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:
        raise FileError(f"cannot read {path}: {first_cause(error)}; export it again") from error
    given = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    int8: Counter[str] = Counter()
    fp32: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in CONVERSIONS and node.op_type not in _MOVES:
            computes = node.op_type in OPERATORS and given.issuperset(node.input[:2])
            (int8 if computes else fp32)[node.op_type] += 1
    return Quantised(dict(int8), dict(fp32))


def precision_of(path: Path) -> str:
    """`int8` for an ONNX file with int8 operators, else `fp32`. Raises FileError where it cannot be read."""
    return "int8" if operators_of(path).int8 else "fp32"


def _reader(path: Path, images: Tensor) -> Any:
    """The images in the form the quantiser reads them: batches, or one by one where the file takes one image."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    given = onnx.load(path, load_external_data=False).graph.input[0]
    fixed = given.type.tensor_type.shape.dim[0].dim_value
    # A file of a fixed batch size takes whole batches only; the rest of the images is left out.
    whole = len(images) // fixed * fixed if fixed else len(images)

    def batches() -> Iterator[dict[str, Any]]:
        for batch in images[:whole].split(fixed or BATCH_IMAGES):
            yield {given.name: batch.detach().cpu().numpy()}

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = batches()

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

    return Reader()
