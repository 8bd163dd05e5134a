"""Operators that emit or read something beside the map, against the outputs of the official implementations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from nas.search_spaces.registry import Kind, operator

FIXTURES = sorted((Path(__file__).parent / "fixtures" / "beside").glob("*.safetensors"))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_what_is_given_and_emitted_equals_that_of_the_official_implementation(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    op, settings = operator(Kind(about["kind"]), about["operator"]), json.loads(about["settings"])
    op.check(settings, int(about["width"]), int(about["size"]))
    module = op.module(int(about["width"]), int(about["size"]), **settings).eval()
    weights = {name.removeprefix("weight."): t for name, t in tensors.items() if name.startswith("weight.")}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    beside = [tensors[name] for name in sorted(tensors) if name not in ("x", "y") and not name.startswith("weight.")]
    assert beside
    assert all(tensor.std() > 1e-3 for tensor in (tensors["y"], *beside))
    with torch.no_grad():
        if op.emits:
            found, *emitted = module(tensors["x"])
            torch.testing.assert_close(emitted, beside, rtol=1e-5, atol=1e-6)
        else:
            found = module(tensors["x"], *beside)
    torch.testing.assert_close(found, tensors["y"], rtol=1e-5, atol=1e-5)


def test_what_is_significant_is_merged_least() -> None:
    torch.manual_seed(0)
    module = operator(Kind.TOKEN_MIXER, "self_guided_attention").module(8, 4, heads=2, reduction=2).eval()
    x, significance = torch.randn(1, 4, 4, 8), torch.arange(16.0).view(1, 4, 4, 1)
    with torch.no_grad():
        module.merge[0].weight.zero_()
        changed = x.clone()
        changed[:, 0] += 1
        kept = module(x, significance) - module(changed, significance)
        seen = module(x, -significance) - module(changed, -significance)
    assert kept[:, 2:].abs().max() < 1e-6, "the two least significant rows are merged with weight 0"
    assert seen[:, 2:].abs().max() > 1e-4
