"""The standalone module: the same numbers from one readable file that needs torch alone."""

from __future__ import annotations

import ast
import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from nas.errors import SpaceError
from nas.results.bundle import bundle_source
from nas.results.load import run_source
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.backbone import Backbone, build
from nas.search_spaces.registry import Kind, Operator, operators

OPERATORS = list(operators())
LINE = 128


def in_place(op: Operator) -> Architecture:
    """A small architecture with the operator in it, at the last of its legal settings."""
    width, size = 16, 8
    chosen = Op(op.name, op.legal_settings(width, size)[-1]) if op.settings else Op(op.name)
    stem, norm, down, mixer, channel, residual, head = (
        Op.of("patchify", stride=2),
        "layer",
        Op.of("conv"),
        Op.of("depthwise_conv", kernel=3, dilation=1),
        None,
        None,
        Op("average_pool"),
    )
    match op.kind:
        case Kind.STEM:
            stem, down = chosen, Op("keep") if op.out_map else down
        case Kind.NORM:
            norm = op.name
        case Kind.DOWNSAMPLE:
            down = chosen
        case Kind.TOKEN_MIXER:
            mixer = chosen
        case Kind.CHANNEL_MIXER:
            channel = chosen
        case Kind.RESIDUAL:
            residual, channel = chosen, Op.of("mlp", expansion=2)
        case Kind.HEAD:
            head = chosen
    plain = Block((Op.of("depthwise_conv", kernel=3, dilation=1),), None)
    last = Stage(width, norm, down, (Block((mixer,), channel),) * 2, residual)
    for side in (32, 64, 16, 128, 224):
        found = Architecture(side, stem, (Stage(8, norm, None, (plain,)), last), head)
        with contextlib.suppress(SpaceError):
            found.check()
            return found
    raise AssertionError(f"no image suits {op.name}")


def standalone(model: Backbone, folder: Path, num_classes: int = 10, in_channels: int = 1) -> ModuleType:
    path = folder / "backbone.py"
    path.write_text(bundle_source(model, num_classes=num_classes, in_channels=in_channels), encoding="utf-8")
    return run_source(path)


def perturbed(model: Backbone) -> Backbone:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.2)
    return model.eval()


@pytest.mark.parametrize("op", OPERATORS, ids=[f"{op.kind}-{op.name}" for op in OPERATORS])
def test_the_standalone_module_of_every_operator_gives_the_same_bits(op: Operator, tmp_path: Path) -> None:
    architecture = in_place(op)
    model = perturbed(build(architecture, 5, 3))
    module = standalone(model, tmp_path, 5, 3)
    copy = module.Backbone()
    assert list(copy.state_dict()) == list(model.state_dict())
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        for side in (architecture.resolution, 2 * architecture.resolution):
            x = torch.randn(2, 3, side, side)
            assert torch.equal(copy.eval()(x), model(x))


def test_branches_projections_and_stage_maps_are_the_same(backbone: Backbone, mixed: Architecture, tmp_path: Path) -> None:
    module = standalone(backbone, tmp_path)
    save_file(backbone.state_dict(), tmp_path / "weights.safetensors")
    x = torch.randn(2, 1, 32, 32)
    pyramid = build(mixed, 10, 1, features_only=True).eval()
    pyramid.load_state_dict({k: v for k, v in backbone.state_dict().items() if not k.startswith("nodes.head.")})
    with torch.no_grad():
        assert torch.equal(module.load()(x), backbone(x))
        maps, wanted = module.load(features_only=True)(x), pyramid(x)
    assert len(maps) == len(wanted) == 3
    assert all(torch.equal(a, b) for a, b in zip(maps, wanted, strict=True))
    assert module.load(features_only=True).feature_info.get_dicts() == pyramid.feature_info.get_dicts()


def test_the_number_of_classes_and_channels_can_be_chosen(backbone: Backbone, tmp_path: Path) -> None:
    model = standalone(backbone, tmp_path).Backbone(num_classes=7, in_channels=4).eval()
    assert model(torch.zeros(1, 4, 32, 32)).shape == (1, 7)


def test_the_file_imports_torch_and_the_standard_library_alone(backbone: Backbone) -> None:
    tree = ast.parse(bundle_source(backbone, num_classes=10, in_channels=1))
    guarded = {id(n) for t in ast.walk(tree) if isinstance(t, ast.Try) for n in ast.walk(t)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in guarded:
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert all(str(m).partition(".")[0] in {"torch", *sys.stdlib_module_names} for m in modules), ast.unparse(node)


def test_what_only_the_search_needs_is_left_out(backbone: Backbone) -> None:
    source = bundle_source(backbone, num_classes=10, in_channels=1)
    tree = ast.parse(source)
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {getattr(n, "name", "") for n in ast.walk(tree)}
    assert not names & {"register", "Setting", "Kind", "Group", "reference", "centred", "HEADS", "nas"}
    assert "import nas" not in source
    assert "from nas" not in source


def test_the_file_is_formatted_and_clean(backbone: Backbone, tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    standalone(backbone, tmp_path)
    options = ["--isolated", "--line-length", str(LINE)]
    for command in (["format", "--check", *options], ["check", *options, "--select", "E,F,W,I,UP"]):
        done = subprocess.run([ruff, *command, str(tmp_path / "backbone.py")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_as_a_script_where_torch_is_all_there_is(backbone: Backbone, tmp_path: Path) -> None:
    standalone(backbone, tmp_path)
    save_file(backbone.state_dict(), tmp_path / "weights.safetensors")
    # None in sys.modules makes the import fail, as on a machine without the package.
    code = (
        "import sys, runpy\n"
        "for name in ('nas', 'safetensors', 'numpy', 'onnx'): sys.modules[name] = None\n"
        "runpy.run_path('backbone.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(1, 1, 32, 32) -> (1, 10)", done.stderr
