"""The fixed-length genotype: one gene for every decision of the largest member, so that any sampler works on it.

Genes of absent blocks and of operators not chosen are silent. Mixers of a block share the genes of settings that have the
same name (`s0b1.kernel`), so a kernel size survives a change of operator. `decode` repairs: a mixer that the rule of
placement forbids gives way to the next one allowed, a setting that is illegal at its place to the nearest legal one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import SpaceError
from nas.search_spaces.architecture import LAYER_SCALE, Architecture, Block, Op, Stage
from nas.search_spaces.graph import branch_widths, joins_branches
from nas.search_spaces.joint import Group, groups
from nas.search_spaces.maps import Map
from nas.search_spaces.placement import PLACEMENTS, Placement
from nas.search_spaces.registry import Kind, Settings, Value, operator
from nas.search_spaces.surroundings import downsample_of, head_of, map_behind, needed, stem_map, stem_of

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace

Genotype = dict[str, Value]
Choices = dict[str, tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class Gene:
    """A decision: its name, its choices, and whether these are ordered from cheap to dear or are mere kinds."""

    name: str
    choices: tuple[Value, ...]
    ordered: bool


def genes(space: SearchSpace) -> tuple[Gene, ...]:
    """All genes of a space, in the order in which a network is built."""
    found = [Gene("resolution", tuple(sorted(space.resolutions)), True), Gene("placement", space.placements, False)]
    found.append(Gene("stem", space.stems, False))
    found.extend([Gene("head", space.heads, False)] if len(space.heads) > 1 else [])
    for stage, depths in enumerate(space.depths):
        found.append(Gene(f"s{stage}.depth", tuple(sorted(depths)), True))
        found.append(Gene(f"s{stage}.width", tuple(sorted(space.widths[stage])), True))
        found.append(Gene(f"s{stage}.norm", space.norms, False))
        if stage > 0:
            found.append(Gene(f"s{stage}.downsample", space.downsamples, False))
            wanted = _union(needed(space, Kind.DOWNSAMPLE, name) for name in space.downsamples)
            found.extend(Gene(f"s{stage}.downsample.{setting}", choices, True) for setting, choices in wanted.items())
        if len(space.residuals) > 1:
            found.append(Gene(f"s{stage}.residual", space.residuals, False))
        for block in range(max(depths)):
            found.extend(_block_genes(space, stage, f"s{stage}b{block}"))
    return tuple(found)


def _block_genes(space: SearchSpace, stage: int, name: str) -> Iterator[Gene]:
    mixers = space.mixers[stage]
    yield Gene(f"{name}.mixer", mixers, False)
    partners = space.partners if len(space.splits) > 1 else ()
    if partners:
        yield Gene(f"{name}.split", space.splits, False)
        yield Gene(f"{name}.partner", partners, False)
    for setting, choices in space.setting_genes[stage].items():
        yield Gene(f"{name}.{setting}", choices, True)
    yield Gene(f"{name}.channel_mixer", space.channel_mixers, False)
    channels = _union(space.choices_of(Kind.CHANNEL_MIXER, channel) for channel in space.channel_mixers)
    for setting, choices in channels.items():
        yield Gene(f"{name}.channel.{setting}", choices, True)


def setting_genes(space: SearchSpace, stage: int) -> Choices:
    """The choices of the settings of a stage's token mixers and their partners."""
    partners = space.partners if len(space.splits) > 1 else ()
    names = dict.fromkeys((*space.mixers[stage], *partners))
    return _union(space.choices_of(Kind.TOKEN_MIXER, name) for name in names)


def _union(operators: Iterable[Mapping[str, tuple[Value, ...]]]) -> Choices:
    """The choices of settings that several operators have in common, in the order (rising or falling) of the first.

    Where one has numbers and another names for it, the names follow the numbers.
    """
    found: Choices = {}
    for settings in operators:
        for setting, choices in settings.items():
            known = found.get(setting, choices)
            merged = dict.fromkeys((*known, *choices))
            words = [value for value in merged if isinstance(value, str)]
            numbers = [value for value in known if not isinstance(value, str)]
            falling = len(numbers) > 1 and numbers[0] > numbers[-1]
            rest = sorted((value for value in merged if not isinstance(value, str)), reverse=falling)
            found[setting] = (*rest, *sorted(words))
    return dict(sorted(found.items()))


def decode(space: SearchSpace, genotype: Mapping[str, Value]) -> Architecture:
    """The phenotype. Raises SpaceError where a gene is missing, unknown, or has none of its choices."""
    require_choices(space, genotype)
    return _Decoder(space, genotype).architecture()


def encode(space: SearchSpace, architecture: Architecture) -> tuple[Genotype, list[str]]:
    """The canonical genotype and the names of the genes that play a part. Raises SpaceError for a stranger."""
    for placement in space.placements:
        if obeys(PLACEMENTS[placement], architecture):
            break
    else:
        raise SpaceError(f"architecture {architecture.digest} obeys none of the placement rules {list(space.placements)}")
    _check_surroundings(space, architecture)
    maps = _maps(space, architecture)
    active: Genotype = {"resolution": architecture.resolution, "placement": placement, "stem": architecture.stem.name}
    active |= {"head": architecture.head.name} if len(space.heads) > 1 else {}
    for index, stage in enumerate(architecture.stages):
        active |= {f"s{index}.depth": len(stage.blocks), f"s{index}.width": stage.width, f"s{index}.norm": stage.norm}
        if len(space.residuals) > 1:
            active[f"s{index}.residual"] = str(stage.residual or LAYER_SCALE)
        if stage.downsample is not None:
            active[f"s{index}.downsample"] = stage.downsample.name
            searched = needed(space, Kind.DOWNSAMPLE, stage.downsample.name)
            active |= {f"s{index}.downsample.{key}": value for key, value in stage.downsample.settings if key in searched}
        size = maps[index].side
        for number, block in enumerate(stage.blocks):
            active |= _encode_block(space, f"s{index}b{number}", block, index, stage.width, size)
    genotype = {gene.name: active.pop(gene.name, gene.choices[0]) for gene in space.genes}
    if active:
        raise SpaceError(f"architecture {architecture.digest} has what space {space.name!r} lacks: {sorted(active)[0]}")
    require_choices(space, genotype)
    playing = _names(architecture)
    return genotype, [name for name in genotype if name in playing]


def _check_surroundings(space: SearchSpace, architecture: Architecture) -> None:
    """Raise SpaceError where the head, a residual or a norm of its own is nothing that a gene of the space says."""
    overrides = [architecture.stem_norm, architecture.head_norm, *(stage.downsample_norm for stage in architecture.stages)]
    if any(overrides) or architecture.overview:
        raise SpaceError(
            f"architecture {architecture.digest} has an overview or a norm of its own, which no genotype expresses"
        )
    strange = {str(stage.residual or LAYER_SCALE) for stage in architecture.stages} - set(space.residuals)
    strange |= {architecture.head.name} - set(space.heads)
    if strange:
        raise SpaceError(f"architecture {architecture.digest} has what space {space.name!r} lacks: {min(strange)}")


def _maps(space: SearchSpace, architecture: Architecture) -> list[Map]:
    """The maps on which the stages work. Raises SpaceError where these are not what the space's strides ask for."""
    maps, stages = [stem_map(space, architecture.stem, architecture.resolution)], architecture.stages
    for index, stage in enumerate(stages[1 : len(space.depths)], 1):
        before, down = maps[-1], stage.downsample
        maps.append(None if before is None or down is None else map_behind(down, before, space.stride_of(index)))
    found = [at for at in maps if at is not None]
    if not len(found) == len(stages) == len(space.depths):
        raise SpaceError(f"architecture {architecture.digest} has other maps than those of space {space.name!r}")
    return found


def _names(architecture: Architecture) -> set[str]:
    """The genes that play a part in an architecture."""
    found = {"resolution", "placement", "stem", "head"}
    for index, stage in enumerate(architecture.stages):
        found |= {f"s{index}.{part}" for part in ("depth", "width", "norm", "downsample", "residual")}
        if stage.downsample is not None:
            found |= {f"s{index}.downsample.{key}" for key in operator(Kind.DOWNSAMPLE, stage.downsample.name).settings}
        joins = joins_branches((stage.residual or LAYER_SCALE).name)
        for number, block in enumerate(stage.blocks):
            name = f"s{index}b{number}"
            found |= {f"{name}.mixer", f"{name}.channel_mixer"} | ({f"{name}.split"} if joins else set())
            found |= {f"{name}.{key}" for op in block.mixers for key in operator(Kind.TOKEN_MIXER, op.name).settings}
            if block.channel_mixer is not None:
                settings = operator(Kind.CHANNEL_MIXER, block.channel_mixer.name).settings
                found |= {f"{name}.channel.{key}" for key in settings}
            if len(block.mixers) == 2:
                found.add(f"{name}.partner")
    return found


def obeys(rule: Placement, architecture: Architecture) -> bool:
    """Whether the mixers of an architecture obey a rule of placement."""
    state = ""
    for stage in architecture.stages:
        state = rule.enter_stage(state)
        for block in (block for block in stage.blocks if block.mixers):
            following = rule.step(state, operator(Kind.TOKEN_MIXER, block.mixers[0].name))
            if following is None:
                return False
            state = following
    return True


def _encode_block(space: SearchSpace, name: str, block: Block, stage: int, width: int, size: int) -> Genotype:
    if block.channel_mixer is None or not block.mixers or (block.width, block.residual, block.norm) != (None, None, None):
        raise SpaceError(f"block {name} lacks a mixer or has a width, residual or norm of its own, which no genotype expresses")
    found: Genotype = {f"{name}.mixer": block.mixers[0].name, f"{name}.channel_mixer": block.channel_mixer.name}
    found |= {f"{name}.channel.{key}": value for key, value in _searched(space, Kind.CHANNEL_MIXER, block.channel_mixer)}
    if len(block.mixers) == 1:
        return found | {f"{name}.{key}": value for key, value in _searched(space, Kind.TOKEN_MIXER, block.mixers[0])}
    parts = branch_widths(width, block.split)
    splits = [split for split in space.splits if split < 1.0 and branch_widths(width, split) == parts]
    if not splits:
        raise SpaceError(f"block {name} splits {width} channels into {parts}, which no split of the space gives")
    found |= {f"{name}.split": splits[0], f"{name}.partner": block.mixers[1].name}
    return found | {f"{name}.{key}": v for key, v in shared_settings(space, block.mixers, parts, stage, size).items()}


def _searched(space: SearchSpace, kind: Kind, op: Op) -> Settings:
    """The settings of an operator with the optional ones that the space searches, or that are not at their default."""
    wanted = {key for key, _ in op.settings} | space.choices_of(kind, op.name).keys()
    return tuple((key, value) for key, value in operator(kind, op.name).complete(op.settings).items() if key in wanted)


def shared_settings(space: SearchSpace, mixers: tuple[Op, ...], widths: tuple[int, ...], stage: int, size: int) -> Genotype:
    """Values of the shared setting genes that repair to the settings of both parallel mixers. Raises SpaceError if none do."""
    trial = {key: value for op in reversed(mixers) for key, value in _searched(space, Kind.TOKEN_MIXER, op)}
    if not _gives(space, trial, mixers, widths, size):
        places = zip(mixers, widths, strict=True)
        first, second = (space.independence.at(Kind.TOKEN_MIXER, op.name, width, size) for op, width in places)
        wanted = {op.name: operator(Kind.TOKEN_MIXER, op.name).complete(op.settings) for op in mixers}
        for group in groups(space, first, second) if first.ways and second.ways else ():
            trial |= _agreed(space.setting_genes[stage], group, trial, wanted)
        if not _gives(space, trial, mixers, widths, size):
            raise SpaceError(f"no settings of space {space.name!r} give {mixers[0]} beside {mixers[1]}")
    return trial


def _gives(space: SearchSpace, genes: Genotype, mixers: tuple[Op, ...], widths: tuple[int, ...], size: int) -> bool:
    """Whether shared settings repair to those of parallel mixers."""
    return all(repaired(space, op.name, genes, w, size) == op.settings for op, w in zip(mixers, widths, strict=True))


def _agreed(genes: Choices, group: Group, trial: Genotype, wanted: Mapping[str, Genotype]) -> Genotype:
    """The values nearest to `trial` of a group's shared genes that repair to the wanted ones, or none where none do."""
    names = [name for name in group.shared if name in trial]
    options = [sorted(genes[name], key=lambda v, k=name: v != trial[k]) for name in names]  # type: ignore[misc]
    for values in itertools.product(*options):
        found = dict(zip(names, values, strict=True))
        target = ((part, tuple(wanted[part.operator][name] for name in part.names)) for part in group.parts)
        if all(part.repair({**trial, **found}) == values for part, values in target):
            return found
    return {}


def repaired(space: SearchSpace, name: str, wanted: Mapping[str, Value], width: int, size: int) -> Settings | None:
    """The legal settings of a token mixer nearest to `wanted` in this space, or None."""
    return operator(Kind.TOKEN_MIXER, name).repair(wanted, width, size, space.choices_of(Kind.TOKEN_MIXER, name))


def require_choices(space: SearchSpace, genotype: Mapping[str, Value]) -> None:
    """Raise SpaceError where a gene is missing, unknown, or has none of its choices."""
    if len(genotype) != len(space.genes):
        raise SpaceError(f"a genotype of space {space.name!r} has {len(space.genes)} genes, got {len(genotype)}")
    for gene in space.genes:
        if gene.name not in genotype:
            raise SpaceError(f"the genotype lacks gene {gene.name!r} of space {space.name!r}")
        if genotype[gene.name] not in gene.choices:
            raise SpaceError(f"{gene.name}={genotype[gene.name]!r} is none of {list(gene.choices)} in space {space.name!r}")


class _Decoder:
    """One walk over the genes of a genotype."""

    def __init__(self, space: SearchSpace, genotype: Mapping[str, Value]) -> None:
        self.space, self.of = space, genotype
        self.rule = PLACEMENTS[str(genotype["placement"])]
        self.state, self.joins = "", True

    def architecture(self) -> Architecture:
        space, side = self.space, int(self.of["resolution"])
        stem = stem_of(space, str(self.of["stem"]), int(self.of["s0.width"]), side)
        assert stem is not None, "a space is refused where a stem cannot work"
        at = stem_map(space, stem, side)
        assert at is not None, "a stem works where it makes a map"
        stages = []
        for index in range(len(space.depths)):
            downsample, at = self.downsample(index, at) if index else (None, at)
            stages.append(self.stage(index, downsample, at))
        head = head_of(space, str(self.of.get("head", space.heads[0])), stages[-1].width, at.side)
        assert head is not None, "a space is refused where a head cannot work"
        return Architecture(side, stem, tuple(stages), head)

    def downsample(self, index: int, before: Map) -> tuple[Op, Map]:
        """The wanted downsample, or the next one that fits, and the map behind it."""
        names, stride = self.space.downsamples, self.space.stride_of(index)
        gene, width = f"s{index}.downsample", int(self.of[f"s{index}.width"])
        start = names.index(str(self.of[gene]))
        for name in (*names[start:], *names[:start]):
            wanted = {key: self.of[f"{gene}.{key}"] for key in needed(self.space, Kind.DOWNSAMPLE, name)}
            found = downsample_of(self.space, name, width, before, stride, wanted)
            after = None if found is None else map_behind(found, before, stride)
            if found is not None and after is not None:
                return found, after
        raise SpaceError(f"no downsample of space {self.space.name!r} fits before stage {index} at width {width}")

    def stage(self, index: int, downsample: Op | None, at: Map) -> Stage:
        self.state = self.rule.enter_stage(self.state)
        width = int(self.of[f"s{index}.width"])
        residual = Op.parse(str(self.of.get(f"s{index}.residual", self.space.residuals[0])))
        self.joins = joins_branches(residual.name)
        blocks = tuple(self.block(f"s{index}b{j}", index, width, at.side) for j in range(int(self.of[f"s{index}.depth"])))
        return Stage(width, str(self.of[f"s{index}.norm"]), downsample, blocks, residual)

    def block(self, name: str, stage: int, width: int, size: int) -> Block:
        wanted = {key.split(".", 1)[1]: self.of[key] for key in self.space.genes_of_block[name]}
        channel = operator(Kind.CHANNEL_MIXER, str(wanted["channel_mixer"]))
        settings = channel.repair(
            {key[8:]: value for key, value in wanted.items() if key.startswith("channel.")},
            width, size, self.space.choices_of(Kind.CHANNEL_MIXER, channel.name),
        )  # fmt: skip
        if settings is None:
            raise SpaceError(f"channel mixer {channel.name!r} has no legal setting at {width} channels on a {size}x{size} map")
        mixers, split = self.mixers(wanted, stage, width, size)
        return Block(mixers, Op(channel.name, settings), split)

    def mixers(self, wanted: Mapping[str, Value], stage: int, width: int, size: int) -> tuple[tuple[Op, ...], float]:
        name, settings = self.first_allowed(str(wanted["mixer"]), wanted, stage, width, size)
        split, partner = float(wanted.get("split", 1.0)), str(wanted.get("partner", name))
        if split < 1.0 and partner != name and width >= 16 and self.joins:
            parts = branch_widths(width, split)
            first = repaired(self.space, name, wanted, parts[0], size)
            second = repaired(self.space, partner, wanted, parts[1], size)
            if first is not None and second is not None:
                return (Op(name, first), Op(partner, second)), parts[0] / width
        return (Op(name, settings),), 1.0

    def first_allowed(self, wanted: str, genes: Mapping[str, Value], stage: int, width: int, size: int) -> tuple[str, Settings]:
        """The wanted mixer, or the next one that the rule of placement allows and that can work here."""
        names = self.space.mixers[stage]
        start = names.index(wanted)
        for name in (*names[start:], *names[:start]):
            state = self.rule.step(self.state, operator(Kind.TOKEN_MIXER, name))
            settings = repaired(self.space, name, genes, width, size)
            if state is not None and settings is not None:
                self.state = state
                return name, settings
        raise SpaceError(f"no mixer of stage {stage} of space {self.space.name!r} may stand at width {width}")
