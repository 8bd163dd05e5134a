"""Reading a safetensors file with torch alone: what an exported `backbone.py` carries with it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, with the safetensors package where it is installed."""
    try:
        from safetensors.torch import load_file
    except ImportError:
        return parse_weights(path.read_bytes())
    return load_file(path)


def parse_weights(data: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file: 8 bytes of header length, a JSON header, then the numbers.

    Raises ValueError where the bytes are no such file or end too early.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < 8 or start > len(data):
        raise ValueError("the weights are truncated or no safetensors file")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        if last > len(data):
            raise ValueError(f"the weights are truncated: {name} ends at byte {last} of {len(data)}")
        dtype = DTYPES[entry["dtype"]]
        flat = torch.frombuffer(bytearray(data[first:last]), dtype=dtype) if last > first else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors
