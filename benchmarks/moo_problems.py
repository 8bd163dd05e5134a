"""The problems of benchmarks/moo.py: ZDT1-3, DTLZ2 and constrained MW problems, and the unit cube that they are searched in.

The cube is a search space whose `crossover` and `mutate` are those of pymoo's NSGA-II, simulated binary and polynomial.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import networkx as nx
import numpy as np

from nas.search_spaces.genotype import Gene

Vector = tuple[float, ...]
Values = tuple[float, float, float]
CROSSOVER_INDEX, MUTATION_INDEX = 15.0, 20.0


@dataclass(frozen=True)
class Point:
    """A member: a vector of numbers from 0 to 1."""

    x: Vector

    @property
    def digest(self) -> str:
        """Different for different vectors."""
        return blake2b(np.array(self.x).tobytes(), digest_size=8).hexdigest()

    def to_json(self) -> str:
        """The vector as JSON."""
        return json.dumps(self.x)


class Cube:
    """The unit cube as a space: what NSGA-II asks of one."""

    genes: tuple[Gene, ...] = ()
    dense = True

    def __init__(self, name: str, width: int) -> None:
        self.name, self.width = name, width

    def sample(self, rng: random.Random) -> Point:
        """A uniform point."""
        return Point(tuple(rng.random() for _ in range(self.width)))

    def crossover(self, first: Point, second: Point, rng: random.Random) -> Point:
        """Simulated binary crossover within bounds, one of the two children; Deb and Agrawal 1995.

        The other child is that of the same draws with the parents in the other order.
        """
        child = []
        for mine, theirs in zip(first.x, second.x, strict=True):
            low, high = min(mine, theirs), max(mine, theirs)
            if rng.random() < 0.5 and high - low > 1e-14:
                drawn, left = rng.random(), (rng.random() < 0.5) == (mine < theirs)
                edge = low if left else 1.0 - high
                alpha = 2.0 - (1.0 + 2.0 * edge / (high - low)) ** -(CROSSOVER_INDEX + 1.0)
                ratio = drawn * alpha if drawn <= 1.0 / alpha else 1.0 / (2.0 - drawn * alpha)
                reach = ratio ** (1.0 / (CROSSOVER_INDEX + 1.0)) * (high - low)
                child.append(min(1.0, max(0.0, 0.5 * (low + high + (-reach if left else reach)))))
            else:
                child.append(mine)
        return Point(tuple(child))

    def mutate(self, point: Point, rng: random.Random) -> Point:
        """Polynomial mutation within bounds of at least one number, each with the probability 1 / width; Deb 2001."""
        while True:
            changed = Point(tuple(_mutated(x, rng) if rng.random() < 1.0 / self.width else x for x in point.x))
            if changed != point:
                return changed

    def size(self) -> int:
        """More than can be counted."""
        return 10**18

    def to_mapping(self) -> dict[str, Any]:
        """Name and width."""
        return {"name": self.name, "width": self.width}

    def _none(self, *_: Any) -> Any:
        raise NotImplementedError("a cube has no genes and no graph")

    encode = encoded = decode = smallest = from_json = _none

    def neighbours(self, point: Point) -> Iterator[Point]:
        """None: a cube has no nearest points."""
        return iter(())

    def graph(self, point: Point) -> nx.DiGraph:
        """None."""
        return self._none()


def _mutated(x: float, rng: random.Random) -> float:
    drawn, power = rng.random(), MUTATION_INDEX + 1.0
    if drawn < 0.5:
        return x + (2.0 * drawn + (1.0 - 2.0 * drawn) * (1.0 - x) ** power) ** (1.0 / power) - 1.0
    return x + 1.0 - (2.0 * (1.0 - drawn) + 2.0 * (drawn - 0.5) * x**power) ** (1.0 / power)


def zdt(kind: int) -> Callable[[Vector], Values]:
    """ZDT1, ZDT2 or ZDT3; Zitzler, Deb and Thiele 2000."""

    def values(x: Vector) -> Values:
        g = 1.0 + 9.0 * sum(x[1:]) / (len(x) - 1)
        ratio = x[0] / g
        h = 1.0 - ratio**2 if kind == 2 else 1.0 - math.sqrt(ratio)
        return x[0], g * (h - ratio * math.sin(10.0 * math.pi * x[0]) if kind == 3 else h), 0.0

    return values


def dtlz2(x: Vector) -> Values:
    """DTLZ2 with two objectives; Deb et al. 2002."""
    g = sum((v - 0.5) ** 2 for v in x[1:])
    return (1.0 + g) * math.cos(0.5 * math.pi * x[0]), (1.0 + g) * math.sin(0.5 * math.pi * x[0]), 0.0


def _linked(x: Vector) -> float:
    return 1.0 + sum(2.0 * (x[i] + (x[i - 1] - 0.5) ** 2 - 1.0) ** 2 for i in range(1, len(x)))


def mw1(x: Vector) -> Values:
    """MW1; Ma and Wang 2019, "Evolutionary Constrained Multiobjective Optimization: Test Suite Construction"."""
    width = len(x)
    aims = (x[i] ** (width - 2) - 0.5 - i / (2.0 * width) for i in range(1, width))
    g = 1.0 + sum(1.0 - math.exp(-10.0 * aim * aim) for aim in aims)
    f1, f2 = x[0], g * (1.0 - 0.85 * x[0] / g)
    wave = math.sin(2.0 * math.pi * math.sqrt(2.0) * (f2 - f1))
    return f1, f2, max(0.0, f1 + f2 - 1.0 - 0.5 * wave**8)


def mw3(x: Vector) -> Values:
    """MW3: a front on the border of a wavy band of feasible points."""
    g = _linked(x)
    f1, f2 = x[0], g * (1.0 - x[0] / g)
    wave = math.sin(0.75 * math.pi * math.sqrt(2.0) * (f2 - f1))
    above, below = f1 + f2 - 1.05 - 0.45 * wave**6, 0.85 - f1 - f2 + 0.3 * wave**2
    return f1, f2, max(0.0, above) + max(0.0, below)


def mw7(x: Vector) -> Values:
    """MW7: a curved front, part of which the constraints move."""
    g = _linked(x)
    f1 = g * x[0]
    f2 = g * math.sqrt(max(0.0, 1.0 - (f1 / g) ** 2))
    angle = math.atan2(f2, f1)
    above = f1**2 + f2**2 - (1.2 + 0.4 * math.sin(4.0 * angle) ** 16) ** 2
    below = (1.15 - 0.2 * math.sin(4.0 * angle) ** 8) ** 2 - f1**2 - f2**2
    return f1, f2, max(0.0, above) + max(0.0, below)


PROBLEMS: dict[str, tuple[Callable[[Vector], Values], int]] = {
    "zdt1": (zdt(1), 30), "zdt2": (zdt(2), 30), "zdt3": (zdt(3), 30), "dtlz2": (dtlz2, 11),
    "mw1": (mw1, 15), "mw3": (mw3, 15), "mw7": (mw7, 15),
}  # fmt: skip
