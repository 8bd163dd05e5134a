"""What a search needs of a search space: a protocol that `SearchSpace` and `TableSpace` meet, and any other space may."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import networkx as nx

from nas.search_spaces.genotype import Gene, Genotype
from nas.search_spaces.registry import Value


class Space(Protocol):
    """A set of members with a fixed-length genotype. See `nas.search_spaces.space.SearchSpace` for each method.

    Members are opaque to a search, hence `Any`: immutable, hashable values with a stable `digest` and `to_json()`. They are
    called architectures throughout, which is what they are in every search but a benchmark's.
    """

    @property
    def name(self) -> str:
        """What messages call the space."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        """One gene for every decision, in a fixed order."""

    @property
    def dense(self) -> bool:
        """Whether a change of one gene gives a member near by; not so where members are rows scattered over a large space."""

    def encode(self, architecture: Any) -> Genotype:
        """The canonical genotype."""

    def encoded(self, architecture: Any) -> tuple[Genotype, list[str]]:
        """The canonical genotype and the names of the genes that play a part."""

    def decode(self, genes: Mapping[str, Value]) -> Any:
        """The member of a genotype, or the one nearest to it."""

    def sample(self, rng: random.Random) -> Any:
        """A random member."""

    def mutate(self, architecture: Any, rng: random.Random) -> Any:
        """A member that differs a little."""

    def crossover(self, first: Any, second: Any, rng: random.Random) -> Any:
        """A member between two. Their other order and a generator in the same state give its sibling."""

    def neighbours(self, architecture: Any) -> Iterator[Any]:
        """All distinct members a single change away."""

    def smallest(self, rng: random.Random | None = None) -> Any:
        """A member that is probably cheap."""

    def size(self) -> int:
        """How many members there are."""

    def from_json(self, text: str) -> Any:
        """The member that `to_json` wrote. Raises UsageError for any other text."""

    def graph(self, architecture: Any) -> nx.DiGraph:
        """A member as a directed acyclic graph whose nodes have the attribute `operator`."""

    def to_mapping(self) -> dict[str, Any]:
        """The space as plain values: equal for equal spaces."""
