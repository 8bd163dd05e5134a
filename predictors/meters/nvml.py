"""NVML: the energy counter of NVIDIA's GPUs, Volta and newer, by the package nvidia-ml-py (`hybrid-nas[nvml]`).

`nvmlDeviceGetTotalEnergyConsumption` gives millijoules since the driver was loaded. Its sensor is averaged over up to 100 ms,
and on some boards sampled only part of the time (Yang et al. 2023, "Part-time Power Measurements: nvidia-smi's Lack of
Attention", arXiv:2312.02741), hence the long interval.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import torch

from nas.errors import MeasurementError, in_one_line
from nas.predictors.meter import Counter, register_meter

LIBRARY = "pynvml"
MILLI = 1e-3


@register_meter
class Nvml:
    """The board of PyTorch's current GPU: processor, memory and what feeds them, whichever program uses them."""

    name: ClassVar[str] = "nvml"
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    counts: ClassVar[str] = "the GPU's board, without the CPU that drives it"
    interval: ClassVar[float] = 0.1

    def start(self) -> Counter:
        """See `Meter.start`."""
        try:
            library = importlib.import_module(LIBRARY)
        except ImportError as error:
            raise MeasurementError("the package nvidia-ml-py is missing; pip install 'hybrid-nas[nvml]'") from error
        if not torch.cuda.is_available():
            raise MeasurementError(f"torch {torch.__version__} finds no CUDA device")
        try:
            library.nvmlInit()
            handle = library.nvmlDeviceGetHandleByUUID(_uuid())
            first = int(library.nvmlDeviceGetTotalEnergyConsumption(handle))
        except library.NVMLError as error:
            raise _unreadable(error) from error
        return _Board(library, handle, first)


class _Board:
    """Joules of one board since the start."""

    def __init__(self, library: Any, handle: Any, first: int) -> None:
        self._library, self._handle, self._first = library, handle, first

    def __call__(self) -> float:
        try:
            now = int(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._library.NVMLError as error:
            raise _unreadable(error) from error
        return (now - self._first) * MILLI


def _uuid() -> str:
    """The current GPU as NVML calls it: its numbers are the driver's, not those behind CUDA_VISIBLE_DEVICES."""
    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"


def _unreadable(error: Exception) -> MeasurementError:
    return MeasurementError(f"the GPU's counter cannot be read: {in_one_line(error)}")
