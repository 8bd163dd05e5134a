"""Exporting several networks at once: the export of one takes seconds on one core, and is most of what a profile costs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from nas.errors import MeasurementError
from nas.predictors.export_worker import job_of
from nas.predictors.remote.place import ships_onnx
from nas.predictors.target import Target
from nas.search_spaces.architecture import Architecture

MOST = 4
"""Processes at most: each holds PyTorch and the exporter, some 600 MB."""


def reads_onnx(target: Target) -> bool:
    """Whether networks reach the target as ONNX files."""
    return target.runtime == "onnxruntime" or ships_onnx(target)


def usual_workers() -> int:
    """As many processes as this one may use cores, and MOST at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST)


class ExportPool:
    """Processes that export architectures, with fresh weights, as the target reads them; a context that ends them.

    None is started on a single core or before it is needed, nor for a single network, which one that is there exports.
    """

    def __init__(self, target: Target, num_classes: int, in_channels: int, workers: int | None = None) -> None:
        self._target, self._outputs = target, (num_classes, in_channels)
        self.workers = usual_workers() if workers is None else workers
        self._folder = tempfile.TemporaryDirectory(prefix="nas-exports-")
        self._idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
        self._started: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._started:
            process.kill()
            with contextlib.suppress(OSError):
                process.communicate()
        self._folder.cleanup()

    def files(self, architectures: Sequence[Architecture]) -> dict[str, Path | MeasurementError]:
        """By digest the file of each architecture, or why it has none; empty where nothing is gained by processes.

        An architecture whose process died is missing; where one dies before any has answered, no more are started. The caller
        may delete the files.
        """
        number = min(self.workers, len(architectures))
        running = any(process.poll() is None for process in self._started)
        if number < (1 if running else 2) or not reads_onnx(self._target):
            return {}
        with ThreadPoolExecutor(number) as threads:
            found = list(threads.map(self._file, architectures))
        return {item.digest: file for item, file in zip(architectures, found, strict=True) if file is not None}

    def _file(self, architecture: Architecture) -> Path | MeasurementError | None:
        folder, process = Path(self._folder.name) / architecture.digest, None
        try:
            folder.mkdir(exist_ok=True)
            process = self._process()
            answer = json.loads(_asked(process, job_of(architecture, self._target, *self._outputs, folder)))
        except (OSError, ValueError):  # it died: short of memory, killed; the caller exports this one itself
            if process is not None:
                process.kill()
            if not self._answered:
                self.workers = 0
            return None
        self._answered = True
        self._idle.put(process)
        return Path(answer["path"]) if "path" in answer else MeasurementError(answer["error"])

    def _process(self) -> subprocess.Popen[str]:
        """A process that does nothing, a new one where there is none."""
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        command = [sys.executable, "-P", "-m", "nas.predictors.export_worker"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
        )
        with self._lock:
            self._started.append(process)
        return process


def _asked(process: subprocess.Popen[str], line: str) -> str:
    """The line with which a process answers; "" where it died before it did. May raise OSError."""
    assert process.stdin is not None, "it is a pipe"
    assert process.stdout is not None, "it is a pipe"
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline()
