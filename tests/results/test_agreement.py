"""Rank agreement against hand counts, its intervals, and biases that were put in on purpose."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

import nas
from nas.errors import UsageError
from nas.results.ranking.agreement import agreement, biases, family_of, lead, mutual_agreement
from nas.results.ranking.probes import most_similar, probes
from nas.search_spaces.complexity import block_macs


def counted_tau(first: list[float], second: list[float]) -> float:
    """Concordant less discordant pairs, without ties."""
    pairs = list(itertools.combinations(range(len(first)), 2))
    return sum(1 if (first[i] - first[j]) * (second[i] - second[j]) > 0 else -1 for i, j in pairs) / len(pairs)


@settings(deadline=None)
@given(st.permutations(range(9)))
def test_tau_counts_the_pairs_in_the_same_order(order: list[int]) -> None:
    found = agreement([float(value) for value in order], [float(value) for value in range(9)])
    assert found.tau == pytest.approx(counted_tau([float(v) for v in order], list(map(float, range(9)))))
    assert -1.0 <= found.tau_low <= found.tau_high <= 1.0
    assert -1.0 <= found.rho_low <= found.rho_high <= 1.0
    assert found.n == 9


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=12))
def test_ties_are_counted_as_scipy_counts_them(pairs: list[tuple[int, int]]) -> None:
    first, second = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    found = agreement(first, second)
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert found.tau == pytest.approx(kendalltau(first, second).statistic)
        assert found.rho == pytest.approx(spearmanr(first, second).statistic)
    else:
        assert (found.tau, found.rho) == (0.0, 0.0)


def test_the_interval_narrows_with_more_networks() -> None:
    rng = random.Random(0)
    truth = [rng.random() for _ in range(200)]
    scores = [value + rng.gauss(0, 0.2) for value in truth]
    few, many = agreement(scores[:20], truth[:20]), agreement(scores, truth)
    assert many.tau_high - many.tau_low < 0.6 * (few.tau_high - few.tau_low)
    assert many.tau_low < many.tau < many.tau_high


def test_constant_scores_agree_with_nothing() -> None:
    found = agreement([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.tau, found.rho, found.tau_low, found.tau_high) == (0.0, 0.0, 0.0, 0.0)


def test_two_networks_are_too_few() -> None:
    with pytest.raises(UsageError, match="at least 3 networks, got 2; raise --probes"):
        agreement([1.0, 2.0], [1.0, 2.0])


def test_an_operator_that_the_scores_favour_is_found() -> None:
    space = nas.load_space("tiny")
    found = [space.sample(random.Random(seed)) for seed in range(200)]
    truth = [random.Random(seed).random() for seed in range(200)]

    def share(architecture: nas.Architecture, name: str) -> float:
        blocks = [block for stage in architecture.stages for block in stage.blocks]
        return sum(block.mixers[0].name == name for block in blocks) / len(blocks)

    scores = [t + 4.0 * share(a, "pooling") - 4.0 * share(a, "gated_conv") for t, a in zip(truth, found, strict=True)]
    ranked = biases(found, scores, truth)
    assert ranked[0].name == "pooling"
    assert ranked[0].low > 0.0
    assert ranked[-1].name == "gated_conv"
    assert ranked[-1].high < 0.0
    families = {bias.name: bias for bias in biases(found, scores, truth, family_of)}
    assert families.keys() == {family_of(name) for name in {name for names in space.mixers for name in names}}
    assert families["pooling"].low > 0.0 > families["gating"].high


def test_probes_span_the_costs_and_a_quarter_is_alike() -> None:
    space = nas.load_space("tiny")
    found = probes(space, 24, 0)
    assert found == probes(space, 24, 0) != probes(space, 24, 1)
    assert len(set(found)) == 24
    assert all(space.contains(architecture) for architecture in found)
    macs = [float(block_macs(architecture)) for architecture in found]
    assert macs == sorted(macs)
    assert macs[-1] / macs[0] >= 8.0
    alike = [macs[index] for index in most_similar(macs)]
    assert len(alike) == 6
    assert max(alike) / min(alike) < 1.1


def test_a_small_space_gives_all_it_has() -> None:
    small = dataclasses.replace(
        nas.load_space("tiny"), stems=("conv",), norms=("layer",), downsamples=("conv",), depths=((1,),) * 3,
        widths=((16,), (32,), (64, 96)), mixers=(("pooling",),) * 3, splits=(1.0,), channel_mixers=("mlp",),
        placements=("free",), settings={"expansion": (2,), "pool": (3,)},
    )  # fmt: skip
    assert len(probes(small, 50, 0)) == small.size() == 2


@settings(deadline=None, max_examples=20)
@given(st.lists(st.permutations(range(6)), min_size=2, max_size=4))
def test_several_rankings_agree_as_their_pairs_do_on_average(rankings: list[list[int]]) -> None:
    found = mutual_agreement(rankings)
    pairs = [agreement(first, second) for first, second in itertools.combinations(rankings, 2)]
    assert found.tau == pytest.approx(sum(pair.tau for pair in pairs) / len(pairs))
    assert found.rho == pytest.approx(sum(pair.rho for pair in pairs) / len(pairs))
    assert found.tau_low <= found.tau_high


def test_a_score_leads_over_the_best_of_the_others_by_what_both_tell_of_the_same_networks() -> None:
    rng = random.Random(1)
    truth = [rng.random() for _ in range(40)]
    good, fair, bad = ([value + rng.gauss(0, width) for value in truth] for width in (0.05, 0.3, 3.0))
    found = lead(good, {"bad": bad, "fair": fair}, truth)
    assert found.over == "fair"
    assert found.difference == pytest.approx(agreement(good, truth).tau - agreement(fair, truth).tau)
    assert 0.0 < found.low < found.difference < found.high
    assert str(found) == f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}] over fair"
    same = lead(good, {"itself": [2 * value for value in good]}, truth)
    assert (same.difference, same.low, same.high) == (0.0, 0.0, 0.0), "pairs are drawn together"
