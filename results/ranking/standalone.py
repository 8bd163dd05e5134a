"""Training a probe alone: from fresh weights, resumable, its outcome a small file that is written once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from nas.errors import DivergedError, FileError, in_one_line
from nas.files import read_json, write_json
from nas.results.ranking.lack_of_memory import lacks_memory
from nas.results.training_device import moved
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.supernet.calibration import score
from nas.supernet.data import DataSplits
from nas.supernet.engine import engine_path, kept_engine
from nas.supernet.finetune import FinetuneRecipe, finetune

_NOTHING: Mapping[str, float] = {"accuracy": math.nan, "loss": math.nan}


class ProbeTrainer:
    """Architecture JSON -> `accuracy` and `loss` on the validation split after training alone, no numbers where it failed.

    It fails where the loss is lost, which comes again, and where memory runs out, which is tried again by the next ranking:
    another program may have had it. Neither holds up the other probes.

    Works in `folder`, where the checkpoint and the outcome of each probe stay: what is done is not done again, what was
    interrupted goes on. Pickles, so that it travels to workers; these must see the same folder.
    """

    def __init__(
        self, data: DataSplits, recipe: FinetuneRecipe, folder: Path, identity: str, threads: int = 1, device: str = "cpu"
    ) -> None:
        self.data, self.recipe, self.folder, self.identity = data, recipe, folder, identity
        self.threads, self.device = threads, device

    def outcome(self, architecture: Architecture) -> Mapping[str, float] | None:
        """What an earlier training gave, if it is done. Raises FileError for the outcome of another recipe or data."""
        path = self.folder / f"{architecture.digest}.json"
        if not path.exists():
            return None
        found = read_json(path, "outcome of a probe")
        if not isinstance(found, Mapping) or found.get("identity") != self.identity:
            raise FileError(f"{path} belongs to another recipe, seed or data set: choose another --out")
        return None if found.get("again") else {name: float(found.get(name, "nan")) for name in ("accuracy", "loss")}

    def __call__(self, architecture_json: str) -> Mapping[str, float]:
        """Accuracy as a fraction, loss in nats. Raises FileError and whatever else may go well the next time."""
        architecture = Architecture.from_json(architecture_json)
        known = self.outcome(architecture)
        if known is not None:
            return known
        path, checkpoint = self.folder / f"{architecture.digest}.json", self._checkpoint(architecture)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            found: Mapping[str, float] = self._trained(architecture)
            written: Mapping[str, float | str | bool] = found
        except DivergedError as error:
            found, written = _NOTHING, {"error": str(error)}
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):  # anything else, a full disk above all, may go well the next time
                raise
            told = f"memory ran out ({in_one_line(error)[:160]}): the same command tries again, or lower --batch"
            found, written = _NOTHING, {"error": told, "again": True}
        finally:
            torch.set_num_threads(before)
        computed = {} if (engine := kept_engine(checkpoint, self.recipe.wish)) is None else {"engine": str(engine)}
        about = {"identity": self.identity, "recipe": self.recipe.decisive(), "data": self.data.fingerprint}
        write_json(path, {**about, "architecture": architecture_json, **computed, **written})
        for file in (checkpoint, engine_path(checkpoint)):
            file.unlink(missing_ok=True)
        return found

    def told(self, architecture: Architecture, name: str) -> str | None:
        """What the file of a probe that is done says: how it computed (`engine`), where that was tried, or its `error`."""
        found = read_json(self.folder / f"{architecture.digest}.json", "outcome of a probe").get(name)
        return None if found is None else str(found)

    def _checkpoint(self, architecture: Architecture) -> Path:
        return self.folder / f"{architecture.digest}.safetensors"

    def _trained(self, architecture: Architecture) -> Mapping[str, float]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            network = build(architecture, len(self.data.classes), self.data.in_channels)
        side, identity = architecture.resolution, f"{architecture.digest}:{self.identity}"
        with moved(network, self.device):
            finetune(network, self.data, self.recipe, side, self._checkpoint(architecture), identity)
        found = score(network, self.data, self.data.validation, side)
        return {"accuracy": found.accuracy, "loss": found.loss}
