"""What a run will cost, said before it starts: one step of each kind is timed and multiplied."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from nas.quantities import format_duration
from nas.results.config import SearchConfig
from nas.search.evaluation import SupernetEvaluator
from nas.supernet.data import DataSplits
from nas.supernet.step import StepOptions, StepRunner
from nas.supernet.strategies import Draw, StepPlan, training_strategy
from nas.supernet.supernet import Supernet
from nas.supernet.training import one_thread_an_operation


@dataclass(frozen=True)
class Estimate:
    """Expected seconds of each phase; what a resumed run has behind it counts as nothing."""

    profiling: float
    training: float
    evaluating: float
    finetuning: float

    @property
    def total(self) -> float:
        """All phases, and half a minute for verification, export and report."""
        return self.profiling + self.training + self.evaluating + self.finetuning + 30.0

    def __str__(self) -> str:
        parts = (
            f"{name} {format_duration(seconds)}"
            for name, seconds in (
                ("profiling", self.profiling),
                ("supernet", self.training),
                ("search", self.evaluating),
                ("fine-tuning", self.finetuning),
            )
            if seconds > 0
        )
        return f"about {format_duration(self.total)} ({', '.join(parts)})"


def estimate(
    config: SearchConfig, supernet: Supernet, data: DataSplits, profiling: float, epochs_left: int, evaluations_left: int
) -> Estimate:
    """Time a training step and an evaluation on this machine; the supernet's weights stay as they are."""
    step = _step_seconds(config, supernet, data) if epochs_left else 0.0
    training = epochs_left * _epoch_seconds(config, data, step)
    workers = config.workers if config.ray else 1
    evaluating = evaluations_left * _evaluation_seconds(config, supernet, data) / workers if evaluations_left else 0.0
    passes = sum(end - begin for begin, end in (lesson.rows for lesson in _plan(config, supernet).lessons))
    per_image = step / config.training.batch / passes
    return Estimate(profiling, training, evaluating, config.finetuning.epochs * len(data.train) * per_image)


def training_seconds(config: SearchConfig, supernet: Supernet, data: DataSplits, epochs: int) -> float:
    """Expected seconds of some epochs by one worker."""
    return epochs * _epoch_seconds(config, data, _step_seconds(config, supernet, data))


def _epoch_seconds(config: SearchConfig, data: DataSplits, step: float) -> float:
    """All steps, and two seconds for the validation of the corners."""
    return math.ceil(len(data.train) / config.training.batch) * step + 2.0


def _plan(config: SearchConfig, supernet: Supernet) -> StepPlan:
    """A step from the middle of a training, where every strategy trains as many networks as it ever does."""
    return training_strategy(config.training.strategy).plan(Draw(supernet.space, config.seed, 5, 10, config.training.networks))


def _step_seconds(config: SearchConfig, supernet: Supernet, data: DataSplits) -> float:
    """One turn of a step, as the recipe has it, times their number; a teacher's share is left out."""
    recipe = config.training
    batch = data.train.take(torch.arange(max(1, min(recipe.batch, len(data.train)) // recipe.accumulate)))
    supernet.train()
    plan = _plan(config, supernet)
    options = StepOptions(threads=config.threads, precision=recipe.precision, checkpointing=recipe.checkpointing)
    with one_thread_an_operation(), StepRunner(supernet, data, options) as runner:
        runner.backward(plan, batch.images, batch.labels)
        began = time.perf_counter()
        runner.backward(plan, batch.images, batch.labels)
        took = time.perf_counter() - began
    for parameter in supernet.parameters():
        parameter.grad = None
    return took * recipe.accumulate


def _evaluation_seconds(config: SearchConfig, supernet: Supernet, data: DataSplits) -> float:
    """One candidate's, on average; where candidates are screened, `promote` of them are scored in full."""
    evaluate = SupernetEvaluator(supernet, data, config.threads, config.screen, config.screen_by)
    full = _mean_seconds(evaluate, None)
    return full if config.screen is None else config.promote * full + (1.0 - config.promote) * _mean_seconds(evaluate, math.inf)


def _mean_seconds(evaluate: SupernetEvaluator, bar: float | None) -> float:
    """What the smallest and the largest member take, on average."""
    space = evaluate.supernet.space
    began = time.perf_counter()
    for member in (space.smallest(), space.largest()):
        evaluate(member.to_json(), bar)
    return (time.perf_counter() - began) / 2
