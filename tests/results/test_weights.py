"""The reader that an exported file carries with it, against the safetensors package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from nas.results.weights import parse_weights, read_weights

TENSORS = {
    "matrix": torch.randn(3, 5),
    "half": torch.randn(7).half(),
    "brain": torch.randn(2, 2, 2).bfloat16(),
    "double": torch.randn(3).double(),
    "count": torch.tensor(12),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "truth": torch.tensor([True, False, True]),
    "empty": torch.empty(0, 4),
}


def test_every_kind_of_tensor_is_read_as_the_package_reads_it() -> None:
    found = parse_weights(save(TENSORS, metadata={"format": "pt"}))
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_reading_works_with_and_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors")
    with_package = read_weights(tmp_path / "w.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    without = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(with_package[name], without[name]) for name in TENSORS)


@pytest.mark.parametrize("size", [0, 5, 40, -1])
def test_truncated_weights_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="truncated"):
        parse_weights(save(TENSORS)[:size])
