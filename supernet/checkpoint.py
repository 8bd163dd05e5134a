"""Checkpoints: one safetensors file with weights and optimiser state, and the training's progress in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nas.errors import FileError
from nas.files import write_tensors

FORMAT = "nas-checkpoint"
VERSION = 2


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    identity: str,
    progress: Mapping[str, Any],
    averages: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights, their averages, optimiser state and `progress` (JSON values) atomically.

    `identity` names the run they belong to.

    Raises FileError where the disk is full or the folder cannot be written.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    tensors = {f"weight/{name}": tensor.detach().contiguous() for name, tensor in module.state_dict().items()}
    for parameter, state in optimizer.state.items() if optimizer is not None else ():
        for key, value in state.items():
            tensors[f"optimizer/{key}/{names[parameter]}"] = value.detach().contiguous()
    tensors |= {f"average/{name}": tensor.detach().contiguous() for name, tensor in (averages or {}).items()}
    header = {"format": FORMAT, "version": str(VERSION), "identity": identity, "progress": json.dumps(progress)}
    write_tensors(path, tensors, header)


def load_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer | None, identity: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Fill module and optimiser from a checkpoint; returns its progress, and the averages of the weights by name.

    Raises FileError where the file is truncated, of another program or version, or of another run.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            _check(path, header, identity)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise FileError(f"checkpoint {path} is damaged ({error}); delete it to train from the start") from error
    module.load_state_dict({key[7:]: value for key, value in tensors.items() if key.startswith("weight/")})
    if optimizer is not None:
        _restore(module, optimizer, tensors)
    averages = {key.removeprefix("average/"): value for key, value in tensors.items() if key.startswith("average/")}
    return dict(json.loads(header["progress"])), averages


def read_progress(path: Path) -> dict[str, Any]:
    """The progress of a checkpoint without its tensors. Raises FileError where it is damaged or no checkpoint."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FileError(f"checkpoint {path} is damaged ({error}); delete it to train from the start") from error
    _check(path, header, header.get("identity", ""))
    return dict(json.loads(header["progress"]))


def _check(path: Path, header: Mapping[str, str], identity: str) -> None:
    if header.get("format") != FORMAT:
        raise FileError(f"{path} is no checkpoint of nas; choose another folder with --out")
    if header.get("version") != str(VERSION):
        raise FileError(f"checkpoint {path} has version {header.get('version')}, this program writes {VERSION}: train anew")
    if header.get("identity") != identity:
        raise FileError(f"checkpoint {path} belongs to another space, seed, data set or training recipe: choose another --out")


def _restore(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer":
            entry, _, name = rest.partition("/")
            optimizer.state[parameters[name]][entry] = value.to(parameters[name].device)
