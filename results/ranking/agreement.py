"""How far two rankings agree, with bootstrap intervals, and which operators one of them favours."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from nas.errors import UsageError
from nas.predictors.timings import Array
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.registry import Kind, operator

_DRAWS, LEAST = 2000, 3
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kendall's tau-b and Spearman's rho of two rankings of `n` networks, each with its 95 % bootstrap interval."""

    tau: float
    tau_low: float
    tau_high: float
    rho: float
    rho_low: float
    rho_high: float
    n: int

    def to_mapping(self) -> dict[str, float]:
        """The fields by name, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Bias:
    """By how many places (shares of all) the supernet ranks networks of an operator, or family, higher than training alone.

    The mean over `networks`, weighted by the share of their blocks that have it, with its 95 % bootstrap interval.
    """

    name: str
    shift: float
    low: float
    high: float
    networks: int

    def to_mapping(self) -> dict[str, float | str]:
        """The fields by name, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Lead:
    """By how much the tau of a score is above that of the best of other scores, with the 95 % interval of a paired bootstrap.

    The best is the one with the highest tau on all networks; each sample draws the same networks for both.
    """

    over: str
    difference: float
    low: float
    high: float

    def to_mapping(self) -> dict[str, float | str]:
        """The fields by name, fit for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.difference:+.2f} [{self.low:+.2f}, {self.high:+.2f}] over {self.over}"


def agreement(scores: Sequence[float], truth: Sequence[float], seed: int = 0) -> Agreement:
    """Compare scores with the truth. Raises UsageError for fewer than three networks.

    Constant scores agree with nothing: tau and rho are then 0.
    """
    return mutual_agreement([scores, truth], seed)


def mutual_agreement(rankings: Sequence[Sequence[float]], seed: int = 0) -> Agreement:
    """The mean agreement of all pairs of rankings of the same networks: of trainings with several seeds, say.

    Raises UsageError for fewer than three networks.
    """
    columns = [np.asarray(ranking, dtype=float) for ranking in rankings]
    count = len(columns[0])
    if count < LEAST or any(len(column) != count for column in columns):
        raise UsageError(f"a rank correlation needs at least {LEAST} networks, got {count}; raise --probes")
    pairs, drawn, whole = list(itertools.combinations(columns, 2)), _draws(count, seed), np.arange(count)[None]

    def of(samples: Indices) -> tuple[Array, Array]:
        taus = np.mean([_taus(first, second, samples) for first, second in pairs], axis=0)
        return taus, np.mean([_rhos(first[samples], second[samples]) for first, second in pairs], axis=0)

    (tau, rho), (taus, rhos) = of(whole), of(drawn)
    return Agreement(float(tau[0]), *_interval(taus), float(rho[0]), *_interval(rhos), count)


def lead(scores: Sequence[float], others: Mapping[str, Sequence[float]], truth: Sequence[float], seed: int = 0) -> Lead:
    """How far a score is ahead of the best of the others, which are at least one."""
    mine, right = np.asarray(scores, dtype=float), np.asarray(truth, dtype=float)
    columns = {name: np.asarray(values, dtype=float) for name, values in others.items()}
    whole, drawn = np.arange(len(right))[None], _draws(len(right), seed)
    best = max(columns, key=lambda name: float(_taus(columns[name], right, whole)[0]))

    def ahead(samples: Indices) -> Array:
        return _taus(mine, right, samples) - _taus(columns[best], right, samples)

    return Lead(best, float(ahead(whole)[0]), *_interval(ahead(drawn)))


def family_of(mixer: str) -> str:
    """The family of token mixers that biases are told of: conv, attention, pooling, gating, frequency, recurrence ..."""
    return operator(Kind.TOKEN_MIXER, mixer).group.value


def biases(
    architectures: Sequence[Architecture],
    scores: Sequence[float],
    truth: Sequence[float],
    label: Callable[[str], str] = str,
    seed: int = 0,
) -> list[Bias]:
    """For each token mixer, or what `label` makes of its name, whether the scores favour networks with it.

    The most favoured come first.
    """
    moved = (rankdata(scores) - rankdata(truth)) / max(1, len(truth) - 1)
    shares = [_shares(architecture, label) for architecture in architectures]
    drawn, found = _draws(len(moved), seed), []
    for name in sorted({name for share in shares for name in share}):
        weights = np.array([share.get(name, 0.0) for share in shares])
        totals = weights[drawn].sum(1)
        shifts = np.divide((weights * moved)[drawn].sum(1), totals, out=np.zeros(len(drawn)), where=totals > 0)
        whole = float((weights * moved).sum() / weights.sum())
        found.append(Bias(name, whole, *_interval(shifts), int((weights > 0).sum())))
    return sorted(found, key=lambda bias: -bias.shift)


def _shares(architecture: Architecture, label: Callable[[str], str]) -> Mapping[str, float]:
    """The part of an architecture's blocks that each label has; parallel mixers share theirs."""
    blocks = [block for stage in architecture.stages for block in stage.blocks if block.mixers]
    found: dict[str, float] = {}
    for block in blocks:
        parts = (block.split, 1.0 - block.split) if len(block.mixers) == 2 else (1.0,)
        for op, part in zip(block.mixers, parts, strict=True):
            found[label(op.name)] = found.get(label(op.name), 0.0) + part / len(blocks)
    return found


def _draws(count: int, seed: int) -> Indices:
    """Bootstrap samples of indices, (draws, count)."""
    return np.random.default_rng(seed).integers(0, count, (_DRAWS, count))


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _taus(first: Array, second: Array, drawn: Indices) -> Array:
    """Kendall's tau-b of each sample of indices (draws, n); 0 where all of a sample's values are the same.

    A pair of networks counts as often as both are in a sample, so one matrix of pairs serves all samples.
    """
    signs = [np.sign(values[:, None] - values[None]) for values in (first, second)]
    times = np.stack([np.bincount(sample, minlength=len(first)) for sample in drawn]).astype(float)

    def summed(pairs: Array) -> Array:
        return np.einsum("bi,ij,bj->b", times, pairs, times, optimize=True)

    scale = np.sqrt(summed(np.abs(signs[0])) * summed(np.abs(signs[1])))
    return np.divide(summed(signs[0] * signs[1]), scale, out=np.zeros(len(drawn)), where=scale > 0)


def _rhos(first: Array, second: Array) -> Array:
    """Spearman's rho of each row of two (draws, n) arrays; 0 where all of a row's values are the same."""
    ranks = [rankdata(values, axis=1) for values in (first, second)]
    centred = [values - values.mean(1, keepdims=True) for values in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return np.divide((centred[0] * centred[1]).sum(1), scale, out=np.zeros(len(first)), where=scale > 0)
