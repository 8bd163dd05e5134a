"""The names that the README and other programs rely on work as they are written there."""

from __future__ import annotations

import importlib
import inspect
import random
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import nas
from nas.errors import FileError, NasError, UnknownNameError, UsageError
from nas.search_spaces.architecture import Architecture


@pytest.fixture(scope="module")
def architecture() -> Architecture:
    return nas.load_space("tiny").sample(random.Random(0))


def test_all_is_sorted_and_every_name_of_it_exists() -> None:
    assert nas.__all__ == sorted(nas.__all__)
    assert set(nas.__all__) <= set(dir(nas))
    for name in nas.__all__:
        assert getattr(nas, name) is getattr(importlib.import_module("nas"), name)
    found: dict[str, Any] = {}
    exec("from nas import *", found)
    assert set(nas.__all__) <= set(found)


def test_the_names_of_the_design_are_there() -> None:
    wanted = {"Architecture", "Run", "SearchSpace", "Supernet", "Target", "build", "cost", "load_space", "measure", "operators"}
    assert wanted | {"search"} <= set(nas.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'nas' has no attribute 'serach'"):
        nas.serach  # noqa: B018


@pytest.mark.parametrize("statement", ["import nas", "import nas; dir(nas)", "from nas import errors, quantities"])
def test_importing_nas_is_light(statement: str) -> None:
    code = f"import sys; {statement}; print([name for name in ('torch', 'ray', 'optuna', 'datasets') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_spaces_are_loaded_by_name_or_path_and_drawn_from(tmp_path: Path, architecture: Architecture) -> None:
    space = nas.load_space("tiny")
    assert isinstance(space, nas.SearchSpace)
    assert isinstance(architecture, nas.Architecture)
    path = tmp_path / "mine.yaml"
    path.write_text("preset: tiny\nwidths: [[8], [16], [32]]\n")
    assert nas.load_space(path).widths == nas.load_space(str(path)).widths == ((8,), (16,), (32,))


def test_architectures_go_through_json_and_have_a_digest_and_a_graph(architecture: Architecture) -> None:
    assert nas.Architecture.from_json(architecture.to_json()) == architecture
    assert len(architecture.digest) == 16
    assert int(architecture.digest, 16) >= 0
    assert architecture.graph(resolution=32).nodes["head"]["kind"] == "head"


def test_networks_are_built_with_logits_or_features(architecture: Architecture) -> None:
    model = nas.build(architecture, num_classes=10, in_channels=3)
    assert isinstance(model, nn.Module)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert model(torch.randn(1, 3, 48, 64)).shape == (1, 10)
    pyramid = nas.build(architecture, features_only=True)
    maps = pyramid(torch.randn(1, 3, 32, 32))
    assert [m.shape[1] for m in maps] == pyramid.feature_info.channels()


def test_cost_counts_parameters_multiply_adds_and_activations(architecture: Architecture) -> None:
    cost = nas.cost(architecture, resolution=32)
    assert isinstance(cost, nas.Cost)
    assert cost.params == sum(parameter.numel() for parameter in nas.build(architecture).parameters())
    assert cost.macs > 0
    assert cost.activation_bytes > 0
    assert nas.cost(architecture, resolution=64).macs > 3 * cost.macs


def test_operators_are_found_by_name() -> None:
    assert "window_attention" in nas.operators.names()
    assert nas.operators.names() == sorted(nas.operators.names())
    assert nas.operators.get("window_attention").name == "window_attention"
    assert "layer" in nas.operators.names("norm")
    with pytest.raises(UnknownNameError, match="Did you mean 'window_attention'"):
        nas.operators.get("window_atention")


def test_supernets_run_and_extract(architecture: Architecture) -> None:
    space = nas.load_space("tiny")
    small = type(space).from_mapping({"depths": [[1], [1], [1]], "norms": ["layer"]}, space)
    net = nas.Supernet(small, num_classes=10, in_channels=1).eval()
    drawn, x = small.sample(random.Random(0)), torch.randn(2, 1, 32, 32)
    assert net(x, drawn).shape == (2, 10)
    assert torch.equal(net.extract(drawn)(x), net(x, drawn))


def test_targets_are_parsed_and_measured_on(architecture: Architecture) -> None:
    target = nas.Target.parse("cpu:eager,threads=1,batch=1,precision=fp32")
    assert nas.Target.parse(str(target)) == target
    found = nas.measure(nas.build(architecture), target, resolution=32, budget_seconds=0.3, accept_noise=True)
    assert isinstance(found, nas.Measurement)
    assert 0 < found.low <= found.median <= found.high < 10
    assert found.n > 0
    with pytest.raises(UsageError):
        nas.Target.parse("cpu:onnxruntme")


def test_search_is_a_package_that_can_be_called() -> None:
    assert callable(nas.search)
    assert isinstance(nas.search, types.ModuleType)
    assert importlib.import_module("nas.search") is nas.search
    assert importlib.import_module("nas.search.types").Budgets is not None
    parameters = inspect.signature(importlib.import_module("nas.results.api").search).parameters
    assert {"space", "data", "budgets", "target", "strategy", "evaluations", "out"} <= set(parameters)


def test_a_wrong_search_is_refused_before_it_begins(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UnknownNameError, match="Did you mean 'evolution'"):
        nas.search("tiny", strategy="evolutoin", out=out)
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        nas.search("tini", out=out)
    with pytest.raises(NasError):
        nas.search("tiny", budgets={"latancy": 0.005}, out=out)
    assert not out.exists() or not list(out.iterdir())


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is no run folder"):
        nas.Run.open(tmp_path)
    for name in ("front", "winner", "export"):
        assert callable(getattr(nas.Run, name))


def test_every_error_of_a_user_has_an_exit_code() -> None:
    errors = importlib.import_module("nas.errors")
    codes = {
        name: kind.exit_code for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, NasError)
    }
    assert codes == {
        "NasError": 1, "UsageError": 2, "UnknownNameError": 2, "SpaceError": 2,
        "InfeasibleError": 3, "MeasurementError": 1, "DivergedError": 1, "FileError": 1,
    }  # fmt: skip
