"""Extracted networks run in ONNX Runtime as in PyTorch."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from nas.results.export import export
from nas.search_spaces.presets import load_space
from nas.search_spaces.space import SearchSpace
from nas.supernet.supernet import Supernet


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["miniature", pytest.param("tiny", marks=pytest.mark.thorough)])
def test_an_extracted_network_gives_the_supernets_logits_in_onnxruntime(
    miniature: SearchSpace, tmp_path: Path, name: str
) -> None:
    supernet = Supernet(miniature if name == miniature.name else load_space(name), 10, 1).eval()
    architecture = supernet.space.sample(random.Random(0))
    written = export(supernet.extract(architecture), tmp_path / "out", num_classes=10, in_channels=1, formats=("onnx",))
    x = torch.randn(1, 1, architecture.resolution, architecture.resolution, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(written.files["onnx"], providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        expected = supernet(x, architecture).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
