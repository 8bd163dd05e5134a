"""Operators against the outputs of the official implementations, recorded with a fixed seed and the weights they had."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from nas.search_spaces.registry import Kind, operator

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.safetensors"))


def read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def construct(about: dict[str, str]) -> nn.Module:
    """The operator of a recording, whose settings must be legal at its place."""
    kind, width, size = Kind(about["kind"]), int(about["width"]), int(about["size"])
    op, settings = operator(kind, about["operator"]), json.loads(about["settings"])
    op.check(settings, width, size)
    if kind == Kind.NORM:
        return op.module(width, **settings)
    if kind in (Kind.STEM, Kind.DOWNSAMPLE):
        return op.module(int(about["in_width"]), width, *((size,) if op.sized else ()), **settings)
    return op.module(width, size, **settings)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_output_equals_that_of_the_official_implementation(path: Path) -> None:
    about, tensors = read(path)
    module = construct(about).train(about["mode"] == "train")
    weights = {name.removeprefix("weight."): value for name, value in tensors.items() if name.startswith("weight.")}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    with torch.no_grad():
        torch.testing.assert_close(module(tensors["x"]), tensors["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_recording_says_where_it_comes_from_and_is_not_trivial(path: Path) -> None:
    about, tensors = read(path)
    assert re.search(r"@[0-9a-f]{40}|timm \d", about["source"]), about["source"]
    assert path.stat().st_size < 200_000
    assert tensors["y"].std() > 1e-3
    weights = [value for name, value in tensors.items() if name.startswith("weight.") and value.is_floating_point()]
    assert all(value.numel() == 1 or value.std() > 0 for value in weights), "constant weights hide what they are used for"
