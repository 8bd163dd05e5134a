"""`Run`: the folder of a search, and what can be read out of it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from nas.errors import FileError
from nas.files import read_json
from nas.predictors.target import Target
from nas.results.config import SearchConfig
from nas.results.export import DEFAULT_FORMATS, Exported, export
from nas.results.front import FrontRow, read_front
from nas.results.load import load_backbone
from nas.results.metrics import LATENCY
from nas.results.quantised import calibration_images
from nas.search.archive import Archive
from nas.search.types import Budgets
from nas.search_spaces.backbone import Backbone
from nas.supernet.data import load_data


@dataclass(frozen=True)
class Run:
    """The paths of a run folder; `Run.open(path)` for one that exists."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """A run that exists. Raises FileError where the folder holds none."""
        run = cls(Path(path))
        if not run.config_path.is_file():
            raise FileError(f"{path} is no run folder: it has no config.yaml; `nas search --out {path}` makes one")
        return run

    @property
    def config_path(self) -> Path:
        """What was asked for."""
        return self.path / "config.yaml"

    @property
    def journal(self) -> Path:
        """The archive of all candidates."""
        return self.path / "study.journal"

    @property
    def checkpoint(self) -> Path:
        """The supernet's last checkpoint."""
        return self.path / "supernet" / "checkpoint.safetensors"

    @property
    def latency_table(self) -> Path:
        """The measurements that the latency predictor is fitted to."""
        return self.path / "latency" / "table.json"

    def table_of(self, metric: str, target: Target) -> Path:
        """The table of one target of the run; that of its own target, `latency`, is `latency_table`."""
        if metric == LATENCY:
            return self.latency_table
        return self.path / "latency" / f"{re.sub('[^a-z0-9]+', '-', str(target).lower()).strip('-')}.json"

    @property
    def origins(self) -> Path:
        """What was taken over from other runs."""
        return self.path / "origins.json"

    @property
    def closest_path(self) -> Path:
        """The architecture that came closest, where nothing met the budgets."""
        return self.path / "closest.json"

    @property
    def verification(self) -> Path:
        """The networks measured as exported."""
        return self.path / "verification.json"

    @property
    def phases(self) -> Path:
        """Seconds spent in each phase."""
        return self.path / "phases.json"

    @property
    def summary_path(self) -> Path:
        """The outcome, for machines."""
        return self.path / "summary.json"

    @property
    def winner_path(self) -> Path:
        """The folder of the exported winner."""
        return self.path / "winner"

    @property
    def front_path(self) -> Path:
        """The front as CSV."""
        return self.path / "front.csv"

    @property
    def report_path(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def config(self) -> SearchConfig:
        """What was asked for. Raises FileError for a damaged file."""
        return SearchConfig.load(self.config_path)

    def summary(self) -> dict[str, Any]:
        """The outcome. Raises FileError where the run is not finished."""
        if not self.summary_path.is_file():
            raise FileError(f"run {self.path} is not finished; `nas search --resume {self.path}` goes on with it")
        found = read_json(self.summary_path, "summary")
        if not isinstance(found, dict):
            raise FileError(f"summary {self.summary_path} is damaged; `nas search --resume {self.path}` writes it again")
        return found

    def front(self) -> list[FrontRow]:
        """The feasible candidates that no other one beats in both accuracy and latency."""
        return read_front(self.front_path)

    def winner(self) -> Backbone:
        """The winner with its trained weights, as a plain module in evaluation mode."""
        return load_backbone(self.require_winner())

    def require_winner(self) -> Path:
        """The folder of the exported winner. Raises FileError where there is none yet."""
        if not self.winner_path.is_dir():
            raise FileError(f"run {self.path} has no winner yet; `nas search --resume {self.path}` goes on with it")
        return self.winner_path

    def export(self, directory: str | Path, formats: Collection[str] = DEFAULT_FORMATS) -> Exported:
        """Write the winner to a folder in the given formats, each checked against the network.

        The format `int8` is calibrated on the run's training images, which are read again.
        """
        summary = self.summary()
        return export(
            self.winner(),
            Path(directory),
            num_classes=summary["num_classes"],
            in_channels=summary["in_channels"],
            recipe={"from": str(self.path), "summary": json.loads(json.dumps(summary))},
            formats=formats,
            calibration=self._calibration() if "int8" in formats else None,
        )

    def _calibration(self) -> Tensor:
        config, side = self.config(), self.winner().architecture.resolution
        data = load_data(config.data, max(config.search_space().resolutions), config.train_images, config.validation_images)
        return calibration_images(data, side)

    def archive(self) -> Archive:
        """All candidates, for reading; none where the run has not got so far."""
        config = self.config()
        location = config.storage or self.journal
        budgets = Budgets(config.budgets)
        return Archive(location, config.search_space(), config.objectives, budgets, config.identity(), reading=True)
