"""What a run will cost, said before it starts: one step of each kind is timed and multiplied."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch

from nas.quantities import format_duration
from nas.results.config import SearchConfig
from nas.results.training_device import moved
from nas.search.evaluation import SupernetEvaluator
from nas.search_spaces.architecture import Architecture
from nas.supernet.adaptation import adapt
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
    adapting: float = 0.0
    counting: float = 0.0

    @property
    def total(self) -> float:
        """All phases, and half a minute for verification, export and report."""
        return self.profiling + self.training + self.evaluating + self.adapting + self.finetuning + self.counting + 30.0

    def __str__(self) -> str:
        parts = (
            f"{name} {format_duration(seconds)}"
            for name, seconds in (
                ("profiling", self.profiling),
                ("supernet", self.training),
                ("search", self.evaluating),
                ("adapting candidates", self.adapting),
                ("fine-tuning", self.finetuning),
                ("counting energy", self.counting),
            )
            if seconds > 0
        )
        return f"about {format_duration(self.total)} ({', '.join(parts)})"


def estimate(
    config: SearchConfig,
    supernet: Supernet,
    data: DataSplits,
    profiling: float,
    epochs_left: int,
    evaluations_left: int,
    counting: float = 0.0,
) -> Estimate:
    """Time a training step and an evaluation on this machine; the supernet's weights stay as they are.

    `counting` are the seconds that counting the energy of exported networks takes.
    """
    step = _step_seconds(config, supernet, data) if epochs_left else 0.0
    training = epochs_left * _epoch_seconds(config, data, step)
    workers = config.workers if config.ray else 1
    evaluating = evaluations_left * _evaluation_seconds(config, supernet, data) / workers if evaluations_left else 0.0
    adapting = evaluations_left * _adapting_seconds(config, supernet, data) / workers if evaluations_left else 0.0
    passes = sum(end - begin for begin, end in (lesson.rows for lesson in _plan(config, supernet).lessons))
    per_image = step / config.training.batch / passes
    finetuning = config.finetuning.epochs * len(data.train) * per_image
    return Estimate(profiling, training, evaluating, finetuning, adapting, counting)


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
    count = max(1, min(recipe.batch, len(data.train)) // recipe.accumulate)
    supernet.train()
    plan = _plan(config, supernet)
    options = StepOptions(threads=config.threads, precision=recipe.precision, checkpointing=recipe.checkpointing)
    with one_thread_an_operation(), moved(supernet, config.device), StepRunner(supernet, data, options) as runner:
        batch = data.train.take(torch.arange(count)).to(supernet.device)
        runner.backward(plan, batch.images, batch.labels)
        began = time.perf_counter()
        runner.backward(plan, batch.images, batch.labels)
        took = time.perf_counter() - began
    for parameter in supernet.parameters():
        parameter.grad = None
    return took * recipe.accumulate


def _evaluation_seconds(config: SearchConfig, supernet: Supernet, data: DataSplits) -> float:
    """One candidate's without its adaptation, on average; where candidates are screened, `promote` are scored in full."""
    evaluate = SupernetEvaluator(supernet, data, config.threads, config.screen, config.screen_by)
    full = _mean_seconds(evaluate, None)
    return full if config.screen is None else config.promote * full + (1.0 - config.promote) * _mean_seconds(evaluate, math.inf)


def _adapting_seconds(config: SearchConfig, supernet: Supernet, data: DataSplits) -> float:
    """One candidate's adaptation, on average: the second of two steps of the smallest and the largest member, times all steps.

    Where candidates are screened, `promote` of them are adapted.
    """
    if not config.adapt:
        return 0.0
    share = 1.0 if config.screen is None else config.promote
    members = supernet.space.smallest(), supernet.space.largest()
    return share * config.adapt * sum(_adapting_step(config, supernet, data, member) for member in members) / len(members)


def _adapting_step(config: SearchConfig, supernet: Supernet, data: DataSplits, member: Architecture) -> float:
    one_step, network = replace(config.adaptation(), steps=1), supernet.extract(member)
    adapt(network, data, one_step, member.resolution)
    began = time.perf_counter()
    adapt(network, data, one_step, member.resolution)
    return time.perf_counter() - began


def _mean_seconds(evaluate: SupernetEvaluator, bar: float | None) -> float:
    """What the smallest and the largest member take, on average."""
    space = evaluate.supernet.space
    began = time.perf_counter()
    for member in (space.smallest(), space.largest()):
        evaluate(member.to_json(), bar)
    return (time.perf_counter() - began) / 2
