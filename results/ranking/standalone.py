"""Training a probe alone: from fresh weights, resumable, its outcome a small file that is written once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from nas.errors import FileError, NasError
from nas.files import read_json, write_json
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.supernet.calibration import score
from nas.supernet.data import DataSplits
from nas.supernet.finetune import FinetuneRecipe, finetune


class ProbeTrainer:
    """Architecture JSON -> `accuracy` and `loss` on the validation split after training alone, no numbers where it failed.

    Works in `folder`, where the checkpoint and the outcome of each probe stay: what is done is not done again, what was
    interrupted goes on. Pickles, so that it travels to workers; these must see the same folder.
    """

    def __init__(self, data: DataSplits, recipe: FinetuneRecipe, folder: Path, identity: str, threads: int = 1) -> None:
        self.data, self.recipe, self.folder, self.identity, self.threads = data, recipe, folder, identity, threads

    def outcome(self, architecture: Architecture) -> Mapping[str, float] | None:
        """What an earlier training gave, if it is done. Raises FileError for the outcome of another recipe or data."""
        path = self.folder / f"{architecture.digest}.json"
        if not path.exists():
            return None
        found = read_json(path, "outcome of a probe")
        if not isinstance(found, Mapping) or found.get("identity") != self.identity:
            raise FileError(f"{path} belongs to another recipe, seed or data set: choose another --out")
        return {name: float(found.get(name, "nan")) for name in ("accuracy", "loss")}

    def __call__(self, architecture_json: str) -> Mapping[str, float]:
        """Accuracy as a fraction, loss in nats."""
        architecture = Architecture.from_json(architecture_json)
        known = self.outcome(architecture)
        if known is not None:
            return known
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            found: Mapping[str, float] = self._trained(architecture)
            written: Mapping[str, float | str] = found
        except NasError as error:
            found, written = {"accuracy": math.nan, "loss": math.nan}, {"error": str(error)}
        finally:
            torch.set_num_threads(before)
        path = self.folder / f"{architecture.digest}.json"
        write_json(path, {"identity": self.identity, "architecture": architecture_json, **written})
        self._checkpoint(architecture).unlink(missing_ok=True)
        return found

    def _checkpoint(self, architecture: Architecture) -> Path:
        return self.folder / f"{architecture.digest}.safetensors"

    def _trained(self, architecture: Architecture) -> Mapping[str, float]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            network = build(architecture, len(self.data.classes), self.data.in_channels)
        side, identity = architecture.resolution, f"{architecture.digest}:{self.identity}"
        finetune(network, self.data, self.recipe, side, self._checkpoint(architecture), identity)
        found = score(network, self.data, self.data.validation, side)
        return {"accuracy": found.accuracy, "loss": found.loss}
