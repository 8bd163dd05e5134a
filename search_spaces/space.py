"""`SearchSpace`: the typed, validated declaration of what is searched; everything else about it follows from here."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

from nas.errors import SpaceError, UnknownNameError
from nas.search_spaces import counting, genotype, validation, variation
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.genotype import Gene, Genotype
from nas.search_spaces.independence import Independence
from nas.search_spaces.maps import Map
from nas.search_spaces.registry import Kind, Value, operator
from nas.search_spaces.surroundings import downsamples_of, stem_map, stem_of

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All architectures that the fields allow. Tuples of tuples have one entry a stage.

    `splits` are the parts of the channels that a block's first mixer may have, the rest going to a partner in parallel;
    1.0 means no partner. `settings` narrows or widens the operators' own choices by name (`{"kernel": (3, 5)}`), cheapest
    first. `placements` are the rules of which an architecture must obey at least one. `norms` and `residuals` may carry
    settings (`layer(eps=1e-05)`). Residuals, one a stage, and heads are searched where more than one is listed.

    `strides` says by what each stage but the first divides the map, 2 or 1; where it is empty, by 2. A stage of stride 1
    begins with a downsample that keeps the map (`keep`) or leaves fewer tokens (`token_pruning`, `semantic_tokens`). In a
    stage where a downsample does not fit, the next of the list that does takes its place; so does a single mixer where two in
    parallel would stand in a residual that cannot join them.
    """

    name: str
    resolutions: tuple[int, ...]
    stems: tuple[str, ...]
    stem_stride: int
    downsamples: tuple[str, ...]
    norms: tuple[str, ...]
    depths: tuple[tuple[int, ...], ...]
    widths: tuple[tuple[int, ...], ...]
    mixers: tuple[tuple[str, ...], ...]
    partners: tuple[str, ...] = ()
    splits: tuple[float, ...] = (1.0,)
    channel_mixers: tuple[str, ...] = ("mlp",)
    placements: tuple[str, ...] = ("free",)
    residuals: tuple[str, ...] = ("layer_scale",)
    heads: tuple[str, ...] = ("average_pool",)
    settings: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    strides: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        validation.validate(self)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], base: SearchSpace | None = None) -> Self:
        """The space of `base` with the fields of `data` in their place; lists stand for tuples.

        `mixers` may be one flat list for all stages; `settings` are merged by name; of the base's rules of placement those
        stay that the new mixers can obey. Raises SpaceError or UnknownNameError, with the nearest field name.
        """
        if cls is SearchSpace and ("anchor" in data or type(base) not in (SearchSpace, type(None))):
            from nas.search_spaces.anchored import SpaceAround

            return cast("Self", SpaceAround.from_mapping(data, base))
        known = {f.name: f for f in dataclasses.fields(cls) if f.init}
        for name in data:
            if name not in known:
                raise UnknownNameError("search-space field", name, known)
        merged: dict[str, Any] = {} if base is None else {name: getattr(base, name) for name in known}
        merged.update({name: _tuples(value) for name, value in data.items() if name != "settings"})
        merged["settings"] = {**merged.get("settings", {}), **validation.settings_mapping(data.get("settings", {}))}
        missing = sorted(name for name, f in known.items() if f.default is f.default_factory and name not in merged)
        if missing:
            raise SpaceError(f"a search space needs {missing}; start from a preset: 'preset: tiny'")
        merged["mixers"] = _per_stage(merged["mixers"], merged["depths"])
        if base is not None and "placements" in known and "mixers" in data and "placements" not in data:
            free = cls(**{**merged, "placements": ("free",)})
            merged["placements"] = tuple(name for name in base.placements if validation.obeyable(free, name))
        return cls(**merged)

    def to_mapping(self) -> dict[str, Any]:
        """The fields as plain lists and dictionaries: `from_mapping(space.to_mapping()) == space`."""
        return {f.name: _lists(getattr(self, f.name)) for f in dataclasses.fields(self) if f.init}

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """One gene for every decision of the largest member, in a fixed order."""
        return genotype.genes(self)

    @cached_property
    def genes_of_block(self) -> dict[str, list[str]]:
        """The names of each block's genes, by the block's name."""
        found: dict[str, list[str]] = {}
        for gene in self.genes:
            owner = gene.name.split(".", 1)[0]
            if "b" in owner:
                found.setdefault(owner, []).append(gene.name)
        return found

    def encode(self, architecture: Architecture) -> Genotype:
        """The canonical genotype; genes that play no part have their first choice. Raises SpaceError for a stranger."""
        return self.encoded(architecture)[0]

    def encoded(self, architecture: Architecture) -> tuple[Genotype, list[str]]:
        """The canonical genotype and the names of the genes that play a part. Raises SpaceError for a stranger."""
        return genotype.encode(self, architecture)

    def decode(self, genes: Mapping[str, Value]) -> Architecture:
        """The architecture of a genotype: illegal settings take the nearest legal value, silent genes fall away."""
        return genotype.decode(self, genes)

    def from_json(self, text: str) -> Architecture:
        """The architecture that `to_json` wrote, a member or not. Raises SpaceError for any other text."""
        return Architecture.from_json(text)

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The frozen networkx graph of an architecture's nodes; see `nas.search_spaces.graph`."""
        return architecture.graph()

    @property
    def dense(self) -> bool:
        """Every genotype is a member, so a change of one gene is a small change of the architecture."""
        return True

    def contains(self, architecture: Architecture) -> bool:
        """Whether some genotype of this space decodes to the architecture."""
        try:
            return self.decode(self.encode(architecture)) == architecture
        except SpaceError:
            return False

    def sample(self, rng: random.Random) -> Architecture:
        """A member with every gene drawn uniformly."""
        return self.decode(variation.random_genotype(self, rng))

    def mutate(self, architecture: Architecture, rng: random.Random) -> Architecture:
        """A member that differs in one gene that plays a part."""
        return variation.mutate(self, architecture, rng)

    def crossover(self, first: Architecture, second: Architecture, rng: random.Random) -> Architecture:
        """A member whose genes come from either parent, gene by gene."""
        return variation.crossover(self, first, second, rng)

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """All distinct members that differ in one gene that plays a part."""
        return variation.neighbours(self, architecture)

    def smallest(self, rng: random.Random | None = None) -> Architecture:
        """The cheapest choice of every ordered gene; kinds of operators are drawn by `rng`, or the first without one."""
        return self.decode(variation.corner(self, 0, rng))

    def largest(self, rng: random.Random | None = None) -> Architecture:
        """The dearest choice of every ordered gene; kinds of operators are drawn by `rng`, or the first without one."""
        return self.decode(variation.corner(self, -1, rng))

    def size(self) -> int:
        """How many distinct architectures the space holds, exactly."""
        return counting.size(self)

    def choices_of(self, kind: Kind, name: str) -> dict[str, tuple[Value, ...]]:
        """The choices of an operator's settings in this space; optional ones only where the space lists choices for them.

        Of the listed choices those count that are of the operator's type: `rates` are names here and numbers there.
        """
        found = {}
        for key, setting in operator(kind, name).settings.items():
            kinds = {type(choice) for choice in setting.choices}
            listed = tuple(choice for choice in self.settings.get(key, ()) if type(choice) in kinds)
            if listed or setting.default is None:
                found[key] = listed or setting.usual
        return found

    def stride_of(self, stage: int) -> int:
        """By what a stage behind the first divides the map."""
        return self.strides[stage - 1] if self.strides else 2

    def stage_size(self, resolution: int, stage: int) -> int:
        """Height and width of the map in a stage where nothing but the strides changes it."""
        return resolution // self.stem_stride // math.prod(self.stride_of(before) for before in range(1, stage + 1))

    @cached_property
    def maps(self) -> dict[int, tuple[tuple[Map, ...], ...]]:
        """For each resolution, the maps that each stage may work on."""
        return {side: self._maps(side) for side in self.resolutions}

    def _maps(self, side: int) -> tuple[tuple[Map, ...], ...]:
        stems = [stem_of(self, name, width, side) for name in self.stems for width in self.widths[0]]
        maps = [stem_map(self, stem, side) for stem in stems if stem is not None]
        found = [{at for at in maps if at is not None}]
        for stage in range(1, len(self.depths)):
            before = itertools.product(self.downsamples, self.widths[stage], found[-1])
            fitting = (downsamples_of(self, name, width, at, self.stride_of(stage)) for name, width, at in before)
            found.append({at for options in fitting for at in options.values()})
        return tuple(tuple(sorted(maps)) for maps in found)

    def maps_of(self, stage: int) -> tuple[Map, ...]:
        """The maps that a stage may work on, at any resolution."""
        return tuple(sorted({at for stages in self.maps.values() for at in stages[stage]}))

    @cached_property
    def setting_genes(self) -> tuple[dict[str, tuple[Value, ...]], ...]:
        """For each stage the choices of the settings that its mixers share by name."""
        return tuple(genotype.setting_genes(self, stage) for stage in range(len(self.depths)))

    @cached_property
    def genes_like(self) -> tuple[int, ...]:
        """For each stage the first stage whose mixers share the same settings."""
        return tuple(self.setting_genes.index(genes) for genes in self.setting_genes)

    @cached_property
    def independence(self) -> Independence:
        """Which settings of its operators depend on each other."""
        return Independence(self)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def _per_stage(mixers: Any, depths: Any) -> Any:
    flat = isinstance(mixers, tuple) and all(isinstance(item, str) for item in mixers)
    return (mixers,) * len(depths) if flat and isinstance(depths, tuple) else mixers
