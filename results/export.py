"""Handing a network over as ordinary files, each checked against the network before it counts as exported."""

from __future__ import annotations

import copy
import math
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from nas.errors import FileError, UnknownNameError, UsageError
from nas.files import write_json, write_tensors, write_text
from nas.predictors.quantisation import Quantised, quantise
from nas.predictors.tracing import first_cause, trace
from nas.results.bundle import bundle_source
from nas.results.formats import TOLERANCE, TRACED, relative_difference, write_traced
from nas.results.load import (
    ARCHITECTURE,
    INT8,
    ONNX,
    PYTHON,
    RECIPE,
    TORCH,
    WEIGHTS,
    load_backbone,
    load_exported,
    read_tensors,
    run_source,
)
from nas.search_spaces.backbone import Backbone

__all__ = ["DEFAULT_FORMATS", "FORMATS", "TOLERANCE", "Exported", "export", "load_backbone", "load_exported"]

FORMATS = {"json": ARCHITECTURE, "safetensors": WEIGHTS, "python": PYTHON, "onnx": ONNX, "torch": TORCH, "int8": INT8}
DEFAULT_FORMATS = tuple(name for name in FORMATS if name != "int8")


@dataclass(frozen=True)
class Exported:
    """What was written and how well it agrees with the network.

    `files` maps formats (and `recipe`) to paths. `differences` maps the runnable formats to the largest absolute difference
    of a logit over the largest absolute logit: 0 for `python`, at most TOLERANCE for `onnx` and `torch`, whatever it is for
    `int8`, on the calibration images; `quantised` tells which operators that file computes in int8 and which in fp32.
    `dynamic_batch` says of each traced format whether it takes any batch size; else it takes one image.
    """

    directory: Path
    files: Mapping[str, Path]
    differences: Mapping[str, float]
    dynamic_batch: Mapping[str, bool]
    quantised: Quantised | None = None


def export(
    backbone: nn.Module,
    directory: Path,
    *,
    num_classes: int,
    in_channels: int,
    resolution: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    formats: Collection[str] = DEFAULT_FORMATS,
    calibration: Tensor | None = None,
) -> Exported:
    """Write a network to `directory` in the given formats, with `recipe.yaml`, and check each by running it.

    All files are written and checked in a folder beside `directory` and moved into it at the end, so that a failure leaves
    `directory` as it was. The ONNX file has a free dimension `batch`; a runtime that fixes it
    (`SessionOptions.add_free_dimension_override_by_name("batch", 1)`) runs it as fast as a file of fixed shape.
    The format `int8` needs `calibration`, images (n, C, H, W) as the network sees them: `nas.predictors.quantisation`. Raises
    FileError where a file cannot be written or does not give the network's logits, UsageError where the network is no
    float32 classifier of `num_classes` and `in_channels`.
    """
    for name in formats:
        if name not in FORMATS:
            raise UnknownNameError("export format", name, FORMATS)
    if "int8" in formats and calibration is None:
        raise UsageError("the format int8 needs images to calibrate on; give calibration=, or leave int8 out")
    model = _prepared(backbone)
    side = resolution or model.architecture.resolution
    image = torch.randn(2, in_channels, side, side, generator=torch.Generator().manual_seed(0))
    logits = _logits(model, image, num_classes)
    about = {"digest": model.architecture.digest, "num_classes": str(num_classes), "in_channels": str(in_channels)}
    with _staging(directory) as folder:
        if "json" in formats:
            write_json(folder / ARCHITECTURE, model.architecture.to_mapping())
        if "safetensors" in formats:
            _write_weights(model, folder / WEIGHTS, about)
        differences, dynamic = {}, {}
        if "python" in formats:
            write_text(folder / PYTHON, bundle_source(model, num_classes=num_classes, in_channels=in_channels))
            differences["python"] = relative_difference(PYTHON, _run_python(folder, model, image), logits, 0.0)
        wanted = [name for name in TRACED if name in formats or (name == "onnx" and "int8" in formats)]
        traced = trace(model, image[:1]) if wanted else None
        for name in wanted:
            assert traced is not None, "a traced format is wanted"
            differences[name], dynamic[name] = write_traced(TRACED[name], model, traced, folder / FORMATS[name], image, logits)
        quantised = None
        if "int8" in formats and calibration is not None:
            quantised, differences["int8"] = _write_int8(model, folder, calibration, any_batch=dynamic["onnx"])
            dynamic["int8"] = dynamic["onnx"]
            if "onnx" not in formats:
                (folder / ONNX).unlink()
                del differences["onnx"], dynamic["onnx"]
        _write_recipe(folder / RECIPE, about, side, recipe or {}, [FORMATS[name] for name in formats], dynamic, quantised)
        written = {**{name: FORMATS[name] for name in formats}, "recipe": RECIPE}
        _commit(folder, directory)
    return Exported(directory, {k: directory / v for k, v in written.items()}, differences, dynamic, quantised)


def _prepared(backbone: nn.Module) -> Backbone:
    """A copy on the CPU in evaluation mode."""
    if not isinstance(backbone, Backbone) or backbone.feature_info is not None:
        raise UsageError(
            f"only a classifier of nas.build can be exported, got {type(backbone).__name__}; features_only is its option"
        )
    model = copy.deepcopy(backbone).cpu().eval()
    kinds = {str(p.dtype) for p in model.parameters()}
    if kinds != {"torch.float32"}:
        raise UsageError(f"weights are exported as float32, got {', '.join(sorted(kinds))}; call .float() on the network first")
    return model


def _logits(model: nn.Module, image: Tensor, num_classes: int) -> Tensor:
    try:
        with torch.no_grad():
            logits: Tensor = model(image)
    except RuntimeError as error:
        raise UsageError(f"the network does not take images {tuple(image.shape)}: {first_cause(error)}") from error
    if logits.shape[1] != num_classes:
        raise UsageError(f"the network has {logits.shape[1]} classes, not num_classes={num_classes}")
    if not logits.isfinite().all():
        raise FileError("the network's logits are not finite; train it again with a lower learning rate before exporting")
    return logits


def _run_python(folder: Path, model: nn.Module, image: Tensor) -> Tensor:
    """The logits of the standalone module with the saved weights (where they are not asked for, with the network's)."""
    module = run_source(folder / PYTHON)
    standalone = module.Backbone()
    standalone.load_state_dict(read_tensors(folder / WEIGHTS)[0] if (folder / WEIGHTS).exists() else model.state_dict())
    with torch.no_grad():
        logits: Tensor = standalone.eval()(image)
    return logits


def _write_int8(model: nn.Module, folder: Path, images: Tensor, *, any_batch: bool) -> tuple[Quantised, float]:
    """The int8 form of the ONNX file beside it, and by how much its logits of the images differ from the network's."""
    found = quantise(folder / ONNX, folder / INT8, images)
    run = TRACED["onnx"].open(folder / INT8)
    outputs = run(images) if any_batch else torch.cat([run(image[None]) for image in images])
    with torch.no_grad():
        return found, relative_difference(INT8, outputs, model(images), math.inf)


def _write_weights(model: nn.Module, path: Path, about: dict[str, str]) -> None:
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    write_tensors(path, tensors, {"format": "pt", **about})


def _write_recipe(
    path: Path,
    about: Mapping[str, str],
    side: int,
    recipe: Mapping[str, Any],
    files: list[str],
    dynamic: Mapping[str, bool],
    quantised: Quantised | None,
) -> None:
    data = {
        "network": about["digest"],
        "num_classes": int(about["num_classes"]),
        "input": {"layout": "batch, channels, height, width", "channels": int(about["in_channels"]), "size": side},
        "files": sorted(files),
        "any_batch_size": dict(dynamic),
        "recipe": dict(recipe),
    }
    if quantised is not None:
        data["int8"] = {"operators_in_int8": dict(quantised.int8), "operators_in_fp32": dict(quantised.fp32)}
    try:
        write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    except yaml.YAMLError as error:
        raise UsageError(f"a recipe holds plain numbers, texts, lists and mappings: {first_cause(error)}") from error


@contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    """A fresh folder beside `directory`, removed at the end."""
    folder = directory.absolute().parent / f".{directory.name}-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise FileError(
            f"cannot write {directory}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _commit(folder: Path, directory: Path) -> None:
    """Sync the files of `folder` and move them into `directory`, at once where that does not exist yet."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.iterdir():
        path.chmod(mode)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if not directory.exists():
        folder.rename(directory)
        return
    for path in sorted(folder.iterdir()):
        path.replace(directory / path.name)
