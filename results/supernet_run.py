"""A run's data and supernet: what `nas train`, `nas rank` and `nas search` have in common."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from nas.errors import FileError, UsageError
from nas.files import copy_file, read_json, write_json
from nas.predictors.threads import threads
from nas.progress import Reporter, Silent, Step
from nas.quantities import format_duration
from nas.results.config import SearchConfig
from nas.results.estimate import training_seconds
from nas.results.origins import weights_digest
from nas.results.run import Run
from nas.results.training_device import CPU, moved, require_here
from nas.search_spaces.backbone import Backbone
from nas.supernet.data import DataSplits, load_data
from nas.supernet.pretrained import pretrained, start_from
from nas.supernet.primitives import remember_few
from nas.supernet.step import Teacher
from nas.supernet.supernet import Supernet
from nas.supernet.teachers import teacher
from nas.supernet.training import TrainingHistory, require_trainable, train, trained_epochs
from nas.supernet.workers import launched


class SupernetRun:
    """One run in its folder, as far as its supernet goes. `first` tells whether this is the first of several workers."""

    def __init__(self, folder: Path, config: SearchConfig, reporter: Reporter | None = None) -> None:
        self.folder, self.config = Run(folder), config
        self.reporter: Reporter = reporter or Silent()
        self.space = config.search_space()
        self.first = True

    @cached_property
    def data(self) -> DataSplits:
        """The images, read once."""
        config = self.config
        return load_data(config.data, max(self.space.resolutions), config.train_images, config.validation_images)

    @cached_property
    def supernet(self) -> Supernet:
        """The shared weights."""
        unshared = self.config.training.unshared
        return Supernet(self.space, *self.outputs, seed=self.config.seed, unshared=unshared)

    @cached_property
    def teacher(self) -> Teacher | None:
        """The network from outside that the supernet learns from, if there is one. Raises what `teachers.teacher` raises."""
        return teacher(self.config.training.teacher, self.data)

    @cached_property
    def pretrained(self) -> Backbone | None:
        """The published network that the supernet starts from, if there is one. Raises what `pretrained.pretrained` raises."""
        return pretrained(self.config.training.init)

    @property
    def outputs(self) -> tuple[int, int]:
        """Classes and input channels."""
        return len(self.data.classes), self.data.in_channels

    def start(self, workers: int = 1) -> None:
        """Read the data, make the folder, and write down what was asked for; `workers` will share each training batch."""
        require_here(self.config.device, elsewhere=workers > 1)
        require_trainable(self.config.training, self.data, workers)
        if self.config.supernet is not None and not self.folder.checkpoint.exists():
            other = Run.open(self.config.supernet)
            require_epochs(other, other.config().training.epochs)
        elif trained_epochs(self.folder.checkpoint) < self.config.training.epochs:
            _ = self.teacher
            if not self.folder.checkpoint.exists():
                self.require_pretrained()
        self.require_same_data()
        self.config = replace(self.config, data_fingerprint=self.data.fingerprint, supernet_digest=self._given_weights())
        self.require_files()
        for remark in self.data.remarks:
            self.reporter.note(remark)
        self.reporter.note(f"run folder: {self.folder.path}")
        self.config.save(self.folder.config_path)

    def require_same_data(self) -> None:
        """Raise UsageError where the images are not those that the run began with."""
        if self.config.data_fingerprint not in ("", self.data.fingerprint):
            raise UsageError(f"data {self.config.data!r} has changed since the run began: start a new run with another --out")

    def _given_weights(self) -> str:
        """A digest of the weights that are taken from another run; empty where none are."""
        if self.config.supernet is None:
            return ""
        mine = self.folder.checkpoint
        return weights_digest(mine if mine.exists() else Run.open(self.config.supernet).checkpoint)

    def require_files(self) -> None:
        """Raise an error where a file that the run rests on cannot be used; called before anything is written."""

    def require_pretrained(self) -> None:
        """Give the supernet its first weights, if it starts from any, and tell so. Raises what `start_from` raises."""
        if self.pretrained is not None:
            fresh = start_from(self.supernet, self.pretrained)
            head = f"; the classifier is new, for {len(self.data.classes)} classes" if fresh else ""
            self.reporter.note(f"the supernet starts from {self.config.training.init}{head}")

    def train(self) -> None:
        """Train the supernet, or go on with its checkpoint; by all workers that `torchrun` or Ray Train has started.

        What is trained to the end is read alone, on the CPU: its device need not be on this machine.
        """
        config = self.config
        if config.supernet is not None and not self.folder.checkpoint.exists():
            copy_file(Run.open(config.supernet).checkpoint, self.folder.checkpoint)
        left = config.training.epochs - trained_epochs(self.folder.checkpoint)
        device = config.device if left > 0 else CPU
        with self.phase("Supernet") as step, launched() as workers, moved(self.supernet, device):
            self.first = workers.rank == 0
            self.history = train(
                self.supernet, self.data, config.training, self.folder.checkpoint, step, config.threads,
                teacher=self.teacher if left > 0 else None, workers=workers,
                pretrained=None if self.folder.checkpoint.exists() else self.pretrained, tell=self.reporter.note,
            )  # fmt: skip
        for row in self.history.rollbacks:
            self.reporter.note(f"the loss diverged at step {row['step']:.0f}: went back to step {row['to']:.0f}")
        self.supernet.eval()

    def train_supernet(self) -> TrainingHistory:
        """The supernet's training alone, as `nas train` does it: one worker, those of `torchrun`, or of Ray Train.

        Under `torchrun` every worker calls this on the same folder. Raises what reading the data and training raise.
        """
        config = self.config
        remember_few()
        with threads(config.threads), launched() as workers:
            self.first = workers.rank == 0
            if self.first:
                require_here(config.device, elsewhere=config.ray is not None)
                self.start(max(config.workers, workers.size))
                left = config.training.epochs - trained_epochs(self.folder.checkpoint)
                if left > 0:
                    seconds = training_seconds(config, self.supernet, self.data, left) / max(config.workers, workers.size)
                    self.reporter.note(f"{left} epochs take about {format_duration(seconds)}")
            workers.wait()
            if config.ray is not None and workers.size == 1:
                from nas.results.ray_training import train_with_ray

                train_with_ray(self.folder.path, config.ray, config.workers, config.threads)
            self.train()
        return self.history

    def require_trained(self) -> None:
        """Read the supernet's weights. Raises FileError where its training is not finished."""
        require_epochs(self.folder, self.config.training.epochs)
        self.train()

    @contextlib.contextmanager
    def phase(self, title: str) -> Iterator[Step]:
        """A phase with progress, its seconds added to `phases.json` by the first worker alone."""
        began = time.perf_counter()
        try:
            with self.reporter.phase(title) as step:
                yield step
        finally:
            if self.first:
                spent = read_json(self.folder.phases, "phase times") if self.folder.phases.exists() else {}
                spent[title] = spent.get(title, 0.0) + time.perf_counter() - began
                write_json(self.folder.phases, spent)


def require_epochs(folder: Run, wanted: int) -> None:
    """Raise FileError where the supernet of a run is not trained to the end."""
    done = trained_epochs(folder.checkpoint)
    if done < wanted:
        raise FileError(
            f"the supernet of {folder.path} has {done} of {wanted} epochs behind it: "
            f"`nas train --resume {folder.path}` trains it"
        )
