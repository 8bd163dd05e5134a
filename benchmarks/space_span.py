"""What a latency budget can decide: the span of a space on a target, from its fastest members to its slowest.

    python benchmarks/space_span.py [--space tiny] [--target cpu:eager] [--members 100]

Measures random members, the smallest ones of every kind of operator (by greedy descent), and the largest ones with each mixer
beside each partner throughout, interleaved in groups.
Writes benchmarks/results/space_span.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from pathlib import Path

from nas.predictors.environment import environment
from nas.predictors.interleaving import Effort
from nas.predictors.measure import measure_many
from nas.predictors.target import Target
from nas.quantities import format_time
from nas.results.feasibility import fastest
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.presets import load_space
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.variation import corner

RESULTS = Path(__file__).parent / "results" / "space_span.json"
GROUP = 10


def latencies(members: list[Architecture], target: Target) -> list[float]:
    """Median seconds of each member."""
    found: list[float] = []
    for start in range(0, len(members), GROUP):
        group = members[start : start + GROUP]
        models = [build(member, 10, 1) for member in group]
        sides = [member.resolution for member in group]
        effort = Effort(0.4, rounds=3)
        found += [item.median for item in measure_many(models, target, sides, in_channels=1, effort=effort)]
    return sorted(found)


def largest_members(space: SearchSpace) -> list[Architecture]:
    """The largest member with each mixer throughout, alone and beside each partner."""
    dearest = corner(space, -1, None)
    found = []
    for mixer, partner in itertools.product({name for stage in space.mixers for name in stage}, (None, *space.partners)):
        wanted = {"mixer": mixer, "norm": space.norms[-1], "channel_mixer": space.channel_mixers[-1], "placement": "free"}
        wanted |= {"split": 1.0} if partner is None else {"split": 0.5, "partner": partner}
        kinds = {
            gene.name: wanted[last]
            for gene in space.genes
            if (last := gene.name.split(".")[-1]) in wanted and wanted[last] in gene.choices
        }
        found.append(space.decode({**dearest, **kinds}))
    return sorted(set(found), key=lambda architecture: architecture.digest)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--target", default="cpu:eager,threads=1,batch=1")
    parser.add_argument("--members", type=int, default=100)
    options = parser.parse_args()
    space, target, rng = load_space(options.space), Target.parse(options.target), random.Random(0)
    least = fastest(space, target, 1, 10, lambda done, total, words: None)
    drawn = latencies([space.sample(rng) for _ in range(options.members)], target)
    large = latencies(largest_members(space), target)
    rows = {
        "fastest found": least.measurement.median,
        **{f"random, {share} % quantile": drawn[len(drawn) * share // 100] for share in (10, 25, 50, 75, 90)},
        "largest with one mixer, median": large[len(large) // 2],
        "slowest found": max(drawn[-1], large[-1]),
    }
    for name, seconds in rows.items():
        print(f"{name:<32} {format_time(seconds)}")
    RESULTS.parent.mkdir(exist_ok=True)
    found = {"seconds": rows, "options": vars(options), "environment": environment(target.runtime)}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
