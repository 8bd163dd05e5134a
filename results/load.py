"""Reading back what `export` wrote: the standalone module, or the architecture with its weights."""

from __future__ import annotations

import importlib.util
import sys
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

import safetensors
from torch import Tensor, nn

from nas.errors import FileError, UsageError
from nas.files import read_json, read_text
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone, build

ARCHITECTURE, WEIGHTS, PYTHON = "architecture.json", "weights.safetensors", "backbone.py"
ONNX, TORCH, RECIPE = "backbone.onnx", "backbone.pt2", "recipe.yaml"
INT8 = "backbone.int8.onnx"
REMEDY = "export the network again"


def load_exported(directory: Path) -> nn.Module:
    """The network as it is shipped: `backbone.py` run with the weights beside it, in evaluation mode.

    Runs the Python code in `directory`: only for folders you trust. Raises FileError.
    """
    module = run_source(directory / PYTHON)
    try:
        model: nn.Module = module.load(directory / WEIGHTS)
    except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise FileError(f"{directory / WEIGHTS} does not fit {PYTHON}: {_line(error)}; {REMEDY}") from error
    return model


def run_source(path: Path) -> ModuleType:
    """The module of an exported `backbone.py`, under a name of its own. Raises FileError where it does not run."""
    text = read_text(path, "the standalone network")
    name = f"nas_exported_{blake2b(text.encode(), digest_size=8).hexdigest()}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None, "a spec without a loader is always made"
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise FileError(f"{path} does not run: {_line(error)}; {REMEDY}") from error
    return module


def load_backbone(directory: Path) -> Backbone:
    """The network of `architecture.json` with the weights of `weights.safetensors`, in evaluation mode.

    Reads data alone, no code. Raises FileError where a file is missing, truncated, or of another network or program.
    """
    data = read_json(directory / ARCHITECTURE, "the architecture")
    try:
        architecture = Architecture.from_mapping(data)
    except UsageError as error:
        raise FileError(f"{directory / ARCHITECTURE}: {error}") from error
    weights, about = read_tensors(directory / WEIGHTS)
    if about.get("digest") != architecture.digest:
        raise FileError(f"{directory / WEIGHTS} belongs to network {about.get('digest')}, not {architecture.digest}; {REMEDY}")
    try:
        model = build(architecture, int(about["num_classes"]), int(about["in_channels"]))
        model.load_state_dict(weights)
    except (KeyError, ValueError, RuntimeError, UsageError) as error:
        raise FileError(f"{directory / WEIGHTS} does not fit {ARCHITECTURE}: {_line(error)}; {REMEDY}") from error
    return model.eval()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and its notes. Raises FileError."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise FileError(f"cannot read the weights {path}: {_line(error)}; {REMEDY}") from error


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(lines[:2]) or type(error).__name__
