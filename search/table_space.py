"""`TableSpace`: the rows of a table as a search space, so that strategies search it through the interfaces of a real run."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from nas.errors import SpaceError
from nas.search_spaces.genotype import Gene, Genotype
from nas.search_spaces.registry import Value

FORMAT = "nas-table-row"
_EDGE = re.compile(r"e(\d)(\d)$")
_CELL_OPERATORS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its index there, its choices gene by gene, and a digest of both names and choices."""

    index: int
    choices: tuple[Value, ...]
    digest: str

    def to_json(self) -> str:
        """What `TableSpace.from_json` reads."""
        return json.dumps({"format": FORMAT, "choices": list(self.choices)}, separators=(",", ":"))


class TableSpace:
    """The rows of `genes`, (rows, genes) of whole numbers, all distinct, as members.

    A genotype that is no row stands for the nearest row: the fewest genes that differ, for ordered genes by how far. Genes
    whose values are 0, 1, 2 ... are kinds, others (kernels, expansions) are ordered. Where the genes are the edges of a
    cell (`e01`, `e02` ... from node to node, as NAS-Bench-201's), choices are named after its operators, and `graph` is the
    cell; elsewhere it is the chain of the genes.
    """

    def __init__(self, name: str, gene_names: tuple[str, ...], genes: NDArray[np.int64]) -> None:
        if len(genes) == 0 or len(np.unique(genes, axis=0)) != len(genes):
            raise SpaceError(f"table {name!r} has no rows, or rows of the same genes; leave one of each")
        self.name = name
        self.edges = _edges(gene_names)
        values = [sorted(set(column.tolist())) for column in genes.T]
        names = _CELL_OPERATORS if self.edges and genes.max() < len(_CELL_OPERATORS) else None
        self._meaning = [{value: names[value] if names else value for value in column} for column in values]
        self.genes = tuple(
            Gene(gene, tuple(meaning.values()), column != list(range(len(column))))
            for gene, column, meaning in zip(gene_names, values, self._meaning, strict=True)
        )
        self._codes = np.stack([np.searchsorted(column, genes[:, i]) for i, column in enumerate(values)], axis=1).astype(
            np.int16
        )
        self._steps = _steps(self.genes)
        self._marks = np.concatenate([table[self._codes[:, i]] for i, table in enumerate(self._steps)], axis=1)
        self._index = {tuple(row): number for number, row in enumerate(self._codes.tolist())}
        self._position = [{choice: i for i, choice in enumerate(gene.choices)} for gene in self.genes]
        self._rows: dict[int, Row] = {}

    @property
    def dense(self) -> bool:
        """Whether most genotypes are rows."""
        return 2 * len(self._codes) > math.prod(len(gene.choices) for gene in self.genes)

    @cached_property
    def _names(self) -> list[str]:
        return [gene.name for gene in self.genes]

    def row(self, index: int) -> Row:
        """The member of a row of the table."""
        found = self._rows.get(index)
        if found is None:
            choices = tuple(gene.choices[code] for gene, code in zip(self.genes, self._codes[index], strict=True))
            text = json.dumps([self._names, list(choices)], separators=(",", ":"))
            found = Row(index, choices, blake2b(text.encode(), digest_size=8).hexdigest())
            self._rows[index] = found
        return found

    def encode(self, architecture: Row) -> Genotype:
        """The choices by gene."""
        return dict(zip(self._names, architecture.choices, strict=True))

    def encoded(self, architecture: Row) -> tuple[Genotype, list[str]]:
        """The choices by gene; all genes play a part."""
        return self.encode(architecture), list(self._names)

    def decode(self, genes: Mapping[str, Value]) -> Row:
        """The row of these choices, or the nearest one, of equally near ones the first."""
        return self._nearest(self._code(genes), None)

    def sample(self, rng: random.Random) -> Row:
        """Any row."""
        return self.row(rng.randrange(len(self._codes)))

    def mutate(self, architecture: Row, rng: random.Random) -> Row:
        """The row nearest to `architecture` with one gene changed at random, which is not `architecture` itself."""
        genes = [i for i, gene in enumerate(self.genes) if len(gene.choices) > 1]
        if not genes or len(self._codes) == 1:
            return architecture
        code = list(self._codes[architecture.index])
        gene = rng.choice(genes)
        code[gene] = rng.choice([value for value in range(len(self.genes[gene].choices)) if value != code[gene]])
        return self._nearest(tuple(int(value) for value in code), architecture.index)

    def crossover(self, first: Row, second: Row, rng: random.Random) -> Row:
        """The row nearest to the genes of either parent, gene by gene."""
        pairs = zip(self._codes[first.index].tolist(), self._codes[second.index].tolist(), strict=True)
        return self._nearest(tuple(mine if rng.random() < 0.5 else theirs for mine, theirs in pairs), None)

    def neighbours(self, architecture: Row) -> Iterator[Row]:
        """The distinct other rows nearest to each change of one gene."""
        code = self._codes[architecture.index].tolist()
        seen = {architecture.index}
        for gene, known in enumerate(self.genes):
            for value in range(len(known.choices)):
                if value != code[gene]:
                    found = self._nearest((*code[:gene], value, *code[gene + 1 :]), architecture.index)
                    if found.index not in seen:
                        seen.add(found.index)
                        yield found

    def smallest(self, rng: random.Random | None = None) -> Row:
        """The row nearest to the first choice of every ordered gene; kinds are drawn by `rng`."""
        return self.decode({g.name: g.choices[0] if g.ordered or rng is None else rng.choice(g.choices) for g in self.genes})

    def size(self) -> int:
        """How many rows there are."""
        return len(self._codes)

    def from_json(self, text: str) -> Row:
        """The row that `Row.to_json` wrote. Raises SpaceError for any other text and for a row of another table."""
        try:
            found = json.loads(text)
            choices = dict(zip(self._names, found["choices"], strict=True)) if found["format"] == FORMAT else {}
            return self.row(self._index[self._code(choices)])
        except (ValueError, KeyError, TypeError) as error:
            raise SpaceError(f"not a row of table {self.name!r}: {text[:80]}") from error

    def to_mapping(self) -> dict[str, Any]:
        """The name, the genes and a fingerprint of the rows."""
        fingerprint = blake2b(np.ascontiguousarray(self._codes).tobytes(), digest_size=8).hexdigest()
        return {"name": self.name, "genes": {g.name: list(g.choices) for g in self.genes}, "rows": fingerprint}

    def graph(self, architecture: Row) -> nx.DiGraph:
        """The row as a directed graph of operators, each node with the attribute `operator`.

        In a cell an operator reads what enters its edge's source; `none` and what no path from input to output uses are left
        out. In a chain each gene is a node behind the one before.
        """
        if self.edges:
            return _cell(self.edges, architecture.choices)
        found = nx.DiGraph()
        for number, (name, choice) in enumerate(zip(self._names, architecture.choices, strict=True)):
            found.add_node(number, operator=f"{name.rstrip('0123456789')}={choice}")
            if number:
                found.add_edge(number - 1, number)
        return found

    def _code(self, genes: Mapping[str, Value]) -> tuple[int, ...]:
        return tuple(position[genes[name]] for position, name in zip(self._position, self._names, strict=True))

    def _nearest(self, code: tuple[int, ...], without: int | None) -> Row:
        found = self._index.get(code)
        if found is not None and found != without:
            return self.row(found)
        # Of numbers that are 0 or w, w |a - b| is (a + b) w - 2 a b: one product with all rows, exact, as all are whole.
        marks = np.concatenate([table[value] for table, value in zip(self._steps, code, strict=True)])
        distance = self._marks @ np.where(marks > 0, -1.0, 1.0).astype(self._marks.dtype)
        if without is not None:
            distance[without] = np.inf
        return self.row(int(np.argmin(distance)))


def _steps(genes: tuple[Gene, ...]) -> list[NDArray[np.floating[Any]]]:
    """For each gene the marks of its choices (choices, columns), whose absolute differences sum to the distance of two choices.

    That is, up to a factor that all genes share and that makes it whole, 1 for two kinds, and for an ordered gene how far
    apart the choices are, relative to the furthest.
    """
    counts = [len(gene.choices) for gene in genes]
    whole = 2 * math.lcm(*(max(count - 1, 1) for count in counts))
    exact = np.float32 if whole * sum(counts) < 2**24 else np.float64
    found = []
    for gene, count in zip(genes, counts, strict=True):
        marks = np.tril(np.ones((count, count)), -1)[:, : count - 1] if gene.ordered else np.eye(count)
        weight = whole // max(count - 1, 1) if gene.ordered else whole // 2
        found.append((weight * marks).astype(exact))
    return found


def _edges(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """The source and target of each gene, where all are edges of a cell from lower to higher nodes; else nothing."""
    matches = [_EDGE.match(name) for name in names]
    found = tuple((int(match[1]), int(match[2])) for match in matches if match)
    whole = len(found) == len(names) and len(set(found)) == len(found) and all(source < target for source, target in found)
    last = max((target for _, target in found), default=0)
    return found if whole and len(found) == last * (last + 1) // 2 else ()


def _cell(edges: tuple[tuple[int, int], ...], operators: tuple[Value, ...]) -> nx.DiGraph:
    live = {edge: str(operator) for edge, operator in zip(edges, operators, strict=True) if operator != "none"}
    last = max(target for _, target in edges)
    reached, useful = {0}, {last}
    for source, target in sorted(live):
        reached |= {target} if source in reached else set()
    for source, target in sorted(live, reverse=True):
        useful |= {source} if target in useful else set()
    kept = {edge: operator for edge, operator in live.items() if edge[0] in reached and edge[1] in useful}
    found = nx.DiGraph()
    found.add_node("input", operator="input")
    found.add_node("output", operator="output")
    for edge, operator in kept.items():
        found.add_node(edge, operator=operator)
    for source, target in kept:
        for before in [other for other in kept if other[1] == source] if source else ["input"]:
            found.add_edge(before, (source, target))
        if target == last:
            found.add_edge((source, target), "output")
    return found
