"""Drawing and changing members of a space: sampling, mutation, crossover, neighbourhood, corners."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Architecture
from nas.search_spaces.genotype import Genotype

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace

_ATTEMPTS = 100


def random_genotype(space: SearchSpace, rng: random.Random) -> Genotype:
    """Every gene drawn uniformly from its choices."""
    return {gene.name: rng.choice(gene.choices) for gene in space.genes}


def corner(space: SearchSpace, end: int, rng: random.Random | None) -> Genotype:
    """Ordered genes at their cheapest (`end` 0) or dearest (-1); kinds drawn by `rng`, or their first without one."""
    return {
        gene.name: gene.choices[end] if gene.ordered else (rng.choice(gene.choices) if rng else gene.choices[0])
        for gene in space.genes
    }


def mutate(space: SearchSpace, architecture: Architecture, rng: random.Random) -> Architecture:
    """Change one gene that plays a part; silent genes that wake up are drawn anew.

    Returns the architecture itself only where no change was found in 100 attempts (a space of one member).
    """
    genes, active = _filled(space, architecture, rng)
    choices = {gene.name: gene.choices for gene in space.genes}
    changeable = [name for name in active if len(choices[name]) > 1]
    for _ in range(_ATTEMPTS if changeable else 0):
        name = rng.choice(changeable)
        other = rng.choice([choice for choice in choices[name] if choice != genes[name]])
        child = space.decode({**genes, name: other})
        if child != architecture:
            return child
    return architecture


def crossover(space: SearchSpace, first: Architecture, second: Architecture, rng: random.Random) -> Architecture:
    """Gene by gene from either parent; where one parent's gene is silent the other's counts."""
    mine, active = _filled(space, first, rng)
    theirs, others = _filled(space, second, rng)
    only_mine, only_theirs = set(active) - set(others), set(others) - set(active)
    child = {}
    for name, value in mine.items():
        from_first = name in only_mine or (name not in only_theirs and rng.random() < 0.5)
        child[name] = value if from_first else theirs[name]
    return space.decode(child)


def neighbours(space: SearchSpace, architecture: Architecture) -> Iterator[Architecture]:
    """Each distinct member one change of an active gene away; silent genes that wake up have their first choice."""
    genes, active = space.encoded(architecture)
    seen = {architecture}
    choices = {gene.name: gene.choices for gene in space.genes}
    for name in active:
        for choice in choices[name]:
            child = space.decode({**genes, name: choice})
            if child not in seen:
                seen.add(child)
                yield child


def _filled(space: SearchSpace, architecture: Architecture, rng: random.Random) -> tuple[Genotype, list[str]]:
    """The genotype with its silent genes drawn at random, and the names of the others."""
    genes, active = space.encoded(architecture)
    return {**random_genotype(space, rng), **{name: genes[name] for name in active}}, active
