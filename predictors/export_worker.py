"""A process that exports networks to ONNX: one job a line of JSON on its input, one answer a line on its output.

It ends when its input does, so it never outlives the process that started it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from nas.errors import MeasurementError, in_one_line
from nas.predictors.fresh_weights import told_apart
from nas.predictors.measure import noise
from nas.predictors.runtimes.onnxruntime import onnx_file
from nas.predictors.target import Target
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build


def job_of(architecture: Architecture, target: Target, num_classes: int, in_channels: int, folder: Path) -> str:
    """The line that asks for the file of an architecture in `folder`, which must exist."""
    names = {"architecture": architecture.to_mapping(), "target": str(target), "folder": str(folder)}
    return json.dumps({**names, "num_classes": num_classes, "in_channels": in_channels})


def answer(line: str) -> dict[str, Any]:
    """The `path` of the file that a line asks for, or the `error` for which there is none."""
    job = json.loads(line)
    architecture, target = Architecture.from_mapping(job["architecture"]), Target.parse(job["target"])
    try:
        model = told_apart(build(architecture, job["num_classes"], job["in_channels"]))
        example = noise(target, architecture.resolution, job["in_channels"])
        return {"path": str(onnx_file(model, example, target, Path(job["folder"])))}
    except MeasurementError as error:
        return {"error": str(error)}
    except (OSError, MemoryError):  # this machine's lack, not the network's: who asked may fare better
        raise
    except Exception as error:  # whatever a library raises is the network's refusal, as where this process measures
        return {"error": f"the network cannot be exported to ONNX: {in_one_line(error)}"}


def main() -> None:
    """Answer until the input ends. What libraries print goes to the error stream, not between the answers."""
    torch.set_num_threads(1)
    gc.disable()  # the exporter makes millions of small objects: collecting them takes a sixth of the time
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        answers.write(json.dumps(answer(line)) + "\n")
        answers.flush()
        gc.collect()


if __name__ == "__main__":
    main()
