"""Choosing the engine of a training by trying: some steps of both sides in turn, by the network that will train."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.quantities import format_duration, format_time
from nas.supernet.calibration import device_of
from nas.supernet.engine import AUTO, OFF, ON, Engine, Tell, Wish, keep_engine, kept_engine, tried_on
from nas.supernet.layout import CHANNELS_LAST, CONTIGUOUS, laid_out

Forward = Callable[[Tensor], Tensor]
PAYS = 0.97
"""A compiled network is chosen where a step takes at most this part of the time: less is in the spread of a few steps."""
SECONDS_A_TENSOR, LEAST_AHEAD = 0.9, 10.0
"""Compiling a training step takes one core SECONDS_A_TENSOR a parameter (benchmarks/training_engine.py), and is tried where the
steps ahead take LEAST_AHEAD times as long. On a CPU `auto` does not try it: there it does not pay (docs/training.md)."""
_LEAST_ROUNDS, _MOST_ROUNDS, _SECONDS = 2, 8, 3.0


class NotCompiledError(Exception):
    """Why a network could not be compiled, in a few words."""


class Trial:
    """Forward and backward passes of one network in training mode on one batch.

    `batch` gives images (B, C, H, W), ready for the network, and their labels; it is called when they are needed.
    """

    def __init__(self, network: nn.Module, batch: Callable[[], tuple[Tensor, Tensor]], smoothing: float) -> None:
        self.network, self.smoothing, self.device = network, smoothing, device_of(network)
        self.parameters = list(network.parameters())
        self._make = batch

    @cached_property
    def batch(self) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        return self._make()

    def step(self, forward: Forward, memory_format: str) -> None:
        """A loss and its gradients, which are dropped; returns when the device has computed them."""
        images, labels = self.batch
        loss = F.cross_entropy(forward(laid_out(images, memory_format)), labels, label_smoothing=self.smoothing)
        torch.autograd.grad(loss, self.parameters, allow_unused=True)
        wait_for(self.device)

    def compiled(self, memory_format: str) -> tuple[Forward, float]:
        """The network compiled for batches like this one, and the seconds that took. Raises NotCompiledError."""
        # Dynamo keeps a bounded number of compilations per code object, and every network shares the same forward.
        torch.compiler.reset()
        forward = torch.compile(self.network, dynamic=False)
        try:
            return forward, seconds_of(lambda: self.step(forward, memory_format))
        except Exception as error:  # whatever the compiler, or the C++ or CUDA compiler behind it, stumbles over
            reason = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
            raise NotCompiledError(reason[:160]) from error


def begin_alone(trial: Trial, wish: Wish, checkpoint: Path, steps: int, tell: Tell) -> tuple[Engine, Forward]:
    """The engine of one network's training of so many more steps, and what to call for its logits.

    As the training of this checkpoint began, or, of a new one, as the wish says and trials show; told where it rests on trials.
    The network stays what it was. Raises FileError for a damaged record.
    """
    with unchanged(trial.network):
        engine = kept_engine(checkpoint, wish)
        if engine is None:
            engine, forward = _decided(trial, wish, steps)
            keep_engine(checkpoint, wish, engine, tell)
            return engine, forward
        if not engine.compiled:
            return engine, trial.network
        try:
            return engine, trial.compiled(engine.memory_format)[0]
        except NotCompiledError as error:
            tell(f"this training began with its network compiled and goes on without, torch.compile failed: {error}")
            return replace(engine, compiled=False), trial.network


def faster_format(step: Callable[[str], None]) -> Engine:
    """The engine, not compiled, with whose memory format `step` takes less time."""
    last, contiguous = in_turn(lambda: step(CHANNELS_LAST), lambda: step(CONTIGUOUS))
    chosen = CHANNELS_LAST if last <= contiguous else CONTIGUOUS
    return Engine(chosen, why=f"{format_time(last)} a step channels-last, {format_time(contiguous)} contiguous")


def in_turn(first: Callable[[], None], second: Callable[[], None]) -> tuple[float, float]:
    """Median seconds of two steps that are run A B B A until some seconds are spent, each once before."""
    times: tuple[list[float], list[float]] = ([], [])
    first()
    second()
    began = time.perf_counter()
    for turn in range(_MOST_ROUNDS):
        if turn >= _LEAST_ROUNDS and time.perf_counter() - began > _SECONDS:
            break
        for side, step in ((0, first), (1, second), (1, second), (0, first)):
            times[side].append(seconds_of(step))
    return statistics.median(times[0]), statistics.median(times[1])


def seconds_of(step: Callable[[], None]) -> float:
    """What one call takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def wait_for(device: torch.device) -> None:
    """Return when the device has computed what it was given."""
    if device.type not in ("cpu", "meta"):
        torch.accelerator.synchronize(device)


@contextlib.contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """A network in training mode, whose mode, statistics and random draws are afterwards as they were before."""
    device, training = device_of(network), network.training
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    with forked_random(device):
        network.train()
        try:
            yield
        finally:
            network.train(training)
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)


def forked_random(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Draws inside leave the random states of the CPU and of the device as they were."""
    accelerated = device.type not in ("cpu", "meta")
    return torch.random.fork_rng([device] if accelerated else [], device_type=device.type if accelerated else "cuda")


def _decided(trial: Trial, wish: Wish, steps: int) -> tuple[Engine, Forward]:
    """The engine of a new training."""
    network, engine = trial.network, Engine.wished(wish)
    if wish.memory_format == AUTO and tried_on(trial.device):
        engine = faster_format(lambda form: trial.step(network, form))
    form = engine.memory_format
    if wish.compile == OFF or (wish.compile == AUTO and not tried_on(trial.device)):
        return engine, network
    if wish.compile == AUTO and (reason := _too_short(trial, form, steps)):
        return engine.because(reason), network
    try:
        forward, seconds = trial.compiled(form)
    except NotCompiledError as error:
        return engine.because(f"torch.compile failed: {error}"), network
    if wish.compile == ON:
        return replace(engine, compiled=True).because(f"compiled in {format_duration(seconds)}"), forward
    plain, fast = in_turn(lambda: trial.step(network, form), lambda: trial.step(forward, form))
    told = f"{format_time(plain)} a step, {format_time(fast)} compiled, which took {format_duration(seconds)}"
    pays = fast <= PAYS * plain
    return replace(engine, compiled=pays).because(told), forward if pays else network


def _too_short(trial: Trial, form: str, steps: int) -> str:
    """Why compiling would be a large part of the training even if it helped; empty where it would not."""
    compiling = SECONDS_A_TENSOR * len(trial.parameters)

    def step() -> None:
        trial.step(trial.network, form)

    step()
    if steps * seconds_of(step) >= LEAST_AHEAD * compiling:
        return ""
    return f"{steps} steps are too few to pay for about {format_duration(compiling)} of compiling"
