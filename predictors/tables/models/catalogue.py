"""Amounts of real networks by name and image size: from a file of them, and from timm for those that it lacks.

timm (Wightman 2019, https://github.com/huggingface/pytorch-image-models) builds a network by its name without weights.
"""

from __future__ import annotations

import csv
import gzip
import io
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas.errors import FileError, UsageError
from nas.files import replacing
from nas.predictors.tables.models.amounts import NAMES, amounts
from nas.predictors.tables.models.operations import operations
from nas.predictors.timings import Array

Key = tuple[str, int]
Known = Mapping[Key, Array]
"""The amounts (len(NAMES),) of networks by name and image size."""

SHIPPED = Path(__file__).resolve().parents[3] / "benchmarks" / "data" / "timm_models.csv.gz"
"""The file of a checkout; an installed package has none."""


def read_catalogue(path: Path) -> dict[Key, Array]:
    """The amounts that a file holds. Raises FileError where it cannot be read or is of another version."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            head, *lines = csv.reader(file)
        if tuple(head) != ("model", "size", *NAMES):
            raise FileError(
                f"amounts {path} have other columns than this version's; write them anew with benchmarks/timm_models.py"
            )
        return {(name, int(size)): np.array(values, np.float64) for name, size, *values in lines}
    except (OSError, EOFError, ValueError) as error:
        raise FileError(f"cannot read amounts {path}: {error}; write them anew with benchmarks/timm_models.py") from error


def write_catalogue(path: Path, known: Known) -> None:
    """Write amounts to five digits, atomically and the same for the same amounts. Raises FileError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "size", *NAMES))
    writer.writerows((*key, *(f"{value:.5g}" for value in known[key])) for key in sorted(known))
    with replacing(path) as scratch, scratch.open("wb") as file, gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed:
        packed.write(text.getvalue().encode())


def find_amounts(keys: Iterable[Key], path: Path | None = None) -> dict[Key, Array]:
    """The amounts of those networks that are known: from the file at `path` (default: the checkout's, if there is one),
    else from timm, if it is installed."""
    wanted = set(keys)
    known = read_catalogue(path or SHIPPED) if path is not None or SHIPPED.is_file() else {}
    timm = timm_module() if wanted - known.keys() else None
    made = {key: traced(timm, *key) for key in sorted(wanted - known.keys())} if timm else {}
    return {key: known[key] for key in wanted & known.keys()} | {key: one for key, one in made.items() if one is not None}


def timm_module() -> Any:
    """timm, or None where it, or the torchvision that it imports, does not work."""
    try:
        import timm
    except (ImportError, RuntimeError):
        return None
    return timm


def traced(timm: Any, name: str, size: int) -> Array | None:
    """The amounts of a network of timm's; None for a name that it does not know, and where no image of that size runs."""
    if not timm.is_model(name):
        return None
    for settings in ({}, {"img_size": size}):
        try:
            with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = timm.create_model(name, pretrained=False, **settings).eval()
                # Branches that are one kernel at inference are measured as one, by timm's benchmark too.
                model = timm.utils.reparameterize_model(model, inplace=True)
            found = amounts(operations(model, size))
        except (UsageError, TypeError, NotImplementedError, RuntimeError):
            continue
        return np.array([found[column] for column in NAMES])
    return None
