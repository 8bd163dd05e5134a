"""The int8 file of a winner: what it is calibrated on, and how accurate it is on the run's images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from nas.predictors.quantisation import operators_of
from nas.results.formats import TRACED
from nas.results.load import INT8
from nas.supernet.calibration import calibration_index, score
from nas.supernet.data import DataSplits


@dataclass(frozen=True)
class Int8Accuracy:
    """The accuracy of `backbone.int8.onnx` on validation and test images, and what of it is int8 at all."""

    validation: float
    test: float
    operators: str

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any] | None) -> Self | None:
        """What a summary says of it; nothing where there is no int8 file."""
        return None if data is None else cls(**data)


class OnnxNetwork(nn.Module):
    """An ONNX file as a module from images (B, C, H, W) to logits; `any_batch` as `Exported.dynamic_batch` says it."""

    def __init__(self, path: Path, *, any_batch: bool) -> None:
        super().__init__()
        self.run, self.any_batch = TRACED["onnx"].open(path), any_batch

    def forward(self, image: Tensor) -> Tensor:
        """The file's logits."""
        return self.run(image) if self.any_batch else torch.cat([self.run(one[None]) for one in image])


def calibration_images(data: DataSplits, resolution: int) -> Tensor:
    """Training images as the network sees them, evenly from all classes."""
    return data.prepare(data.train.images[calibration_index(len(data.train))], resolution)


def int8_accuracy(folder: Path, data: DataSplits, resolution: int, *, any_batch: bool) -> Int8Accuracy:
    """The accuracy of the int8 file in an export folder. Raises FileError where it does not run."""
    network = OnnxNetwork(folder / INT8, any_batch=any_batch)
    validation, test = (score(network, data, part, resolution).accuracy for part in (data.validation, data.test))
    return Int8Accuracy(validation, test, str(operators_of(folder / INT8)))
