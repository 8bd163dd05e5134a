"""`SpaceAround`: the networks that one backbone can be shrunk to; the backbone itself is the largest of them.

What no gene speaks of is as the backbone has it: stem, downsamples, norms, residuals, head, and each block's own operators with
their settings. So it holds networks that no table of choices for whole stages expresses: windows that shift in every second
block, other expansions in each stage, a norm of the stem's own. A shorter stage keeps its first blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from nas.errors import SpaceError
from nas.search_spaces import validation
from nas.search_spaces.architecture import Architecture, Block, Op
from nas.search_spaces.complexity import mixer_macs
from nas.search_spaces.genotype import Gene, Genotype, require_choices
from nas.search_spaces.registry import Kind, Value, operator
from nas.search_spaces.shrinking import HEADS, frame, operators_of, replacement, require_shrinkable, shrunk, shrunk_block
from nas.search_spaces.space import SearchSpace

Choices = dict[str, tuple[Value, ...]]
Options = dict[Block, Genotype]


@dataclass(frozen=True, kw_only=True)
class SpaceAround(SearchSpace):
    """The members of `anchor` with fewer of its `depths` and `widths`, cheaper `mixers` and smaller `settings`.

    Of the names in `mixers[stage]` a block may take those that cost fewer multiply-adds than its own; of `settings` an
    operator takes the choices below its own value, where it has the setting. All genes are ordered, so that `largest` is the
    anchor whatever is drawn. Raises SpaceError for a backbone that cannot be shrunk, and for choices that it cannot take.
    """

    anchor: Architecture
    stems: tuple[str, ...] = field(init=False)
    stem_stride: int = field(init=False)
    downsamples: tuple[str, ...] = field(init=False)
    norms: tuple[str, ...] = field(init=False)
    partners: tuple[str, ...] = field(init=False)
    splits: tuple[float, ...] = field(init=False)
    channel_mixers: tuple[str, ...] = field(init=False)
    placements: tuple[str, ...] = field(init=False)
    residuals: tuple[str, ...] = field(init=False)
    heads: tuple[str, ...] = field(init=False)
    strides: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        require_shrinkable(self.anchor)
        for name, value in _surroundings(self.anchor).items():
            object.__setattr__(self, name, value)
        self._require_tables()
        for side, stage in itertools.product(self.resolutions, range(len(self.depths))):
            for width in self.widths[stage]:
                self.require_width(stage, width, side)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], base: SearchSpace | None = None) -> Self:
        """As for every space; `anchor` is an architecture or its mapping."""
        anchor = data.get("anchor")
        given = {"anchor": Architecture.from_mapping(anchor)} if isinstance(anchor, Mapping) else {}
        return super().from_mapping({**data, **given}, base)

    def to_mapping(self) -> dict[str, Any]:
        """The fields that are given, as plain lists and dictionaries."""
        return {**super().to_mapping(), "anchor": self.anchor.to_mapping()}

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """One gene for every decision, of blocks those alone that leave a choice."""
        found = [Gene("resolution", tuple(sorted(self.resolutions)), True)]
        found += [Gene("placement", self.placements, False), Gene("stem", self.stems, False)]
        for stage, depths in enumerate(self.depths):
            found.append(Gene(f"s{stage}.depth", tuple(sorted(depths)), True))
            found.append(Gene(f"s{stage}.width", tuple(sorted(self.widths[stage])), True))
            for number, block in enumerate(self.anchor.stages[stage].blocks):
                genes = self.choices_at(stage, block).items()
                found.extend(Gene(f"s{stage}b{number}.{name}", choices, True) for name, choices in genes)
        return tuple(found)

    def decode(self, genes: Mapping[str, Value]) -> Architecture:
        """The architecture of a genotype: what a place forbids takes the nearest legal value, silent genes fall away."""
        require_choices(self, genes)
        return self._member(genes)

    def encoded(self, architecture: Architecture) -> tuple[Genotype, list[str]]:
        """The canonical genotype and the names of the genes that play a part. Raises SpaceError for a stranger."""
        active: Genotype = {"resolution": architecture.resolution, "placement": self.placements[0], "stem": self.stems[0]}
        sizes = self._sizes(architecture.resolution) if architecture.resolution in self.resolutions else ()
        playing = set(active)
        for index, (stage, size) in enumerate(zip(architecture.stages, sizes, strict=False)):
            active |= {f"s{index}.depth": len(stage.blocks), f"s{index}.width": stage.width}
            playing |= {f"s{index}.depth", f"s{index}.width"}
            blocks = zip(stage.blocks, self.anchor.stages[index].blocks, strict=False)
            for number, (block, own) in enumerate(blocks if stage.width in self.widths[index] else ()):
                found = self._options(index, own, stage.width, size).get(block, {})
                active |= {f"s{index}b{number}.{name}": value for name, value in found.items()}
                playing |= {f"s{index}b{number}.{name}" for name in found if _plays(name, block)}
        genotype = {gene.name: active.get(gene.name, gene.choices[0]) for gene in self.genes}
        require_choices(self, genotype)
        if self._member(genotype) != architecture:
            raise SpaceError(f"architecture {architecture.digest} is nothing that the anchor of {self.name!r} shrinks to")
        return genotype, [name for name in genotype if name in playing]

    def size(self) -> int:
        """How many distinct architectures the space holds, exactly."""
        return sum(self._members_at(self._sizes(side)) for side in self.resolutions)

    def choices_of(self, kind: Kind, name: str) -> Choices:
        """What the settings of an operator may be somewhere, as far as the anchor and `settings` speak of them."""
        given = [dict(op.settings) for _, op in operators_of(self.anchor)]
        found: Choices = {}
        for key, setting in operator(kind, name).settings.items():
            values = [settings[key] for settings in given if key in settings]
            values += [1] if key == HEADS else self.settings.get(key, ())
            kinds = {type(choice) for choice in setting.choices}
            listed = tuple(dict.fromkeys(value for value in values if type(value) in kinds))
            found |= {key: listed} if listed else {}
        return found

    def choices_at(self, stage: int, block: Block) -> Choices:
        """The choices of a block of the anchor, cheapest first and its own last; only where there are several."""
        key = (stage, block)
        if key not in self._choices_known:
            width, size = block.width or self.anchor.stages[stage].width, self._sizes(self.anchor.resolution)[stage]
            found: Choices = {}
            if len(block.mixers) == 1:
                found["mixer"] = (*self._cheaper(stage, block.mixers[0], width, size), block.mixers[0].name)
                found |= self._smaller(Kind.TOKEN_MIXER, block.mixers[0], width, size)
            if block.channel_mixer is not None:
                channel = self._smaller(Kind.CHANNEL_MIXER, block.channel_mixer, width, size)
                found |= {f"channel.{name}": choices for name, choices in channel.items()}
            self._choices_known[key] = {name: choices for name, choices in found.items() if len(choices) > 1}
        return self._choices_known[key]

    def covering(self) -> Iterator[Architecture]:
        """Members that together have every node of all members: each option of each block at each width, on each map.

        What stands between two stages is there for every pair of their widths.
        """
        for side in self.resolutions:
            for stage in range(1, len(self.depths)):
                for pair in itertools.product(self.widths[stage - 1], self.widths[stage]):
                    names = (f"s{stage - 1}.width", f"s{stage}.width")
                    yield self._member({**self._dearest, "resolution": side, **dict(zip(names, pair, strict=True))})
            for turn in range(max(map(len, self.widths))):
                yield from self._with_all_options(side, tuple(widths[turn % len(widths)] for widths in self.widths))

    def _with_all_options(self, side: int, widths: tuple[int, ...]) -> Iterator[Architecture]:
        """Members of full depth and given widths, until each block has taken each of its options."""
        genes: Genotype = {**self._dearest, "resolution": side} | {f"s{index}.width": w for index, w in enumerate(widths)}
        options = {
            f"s{index}b{number}": list(self._options(index, block, widths[index], size).values())
            for index, (stage, size) in enumerate(zip(self.anchor.stages, self._sizes(side), strict=True))
            for number, block in enumerate(stage.blocks)
        }
        for turn in range(max(map(len, options.values()))):
            chosen = ((name, each[turn % len(each)]) for name, each in options.items())
            yield self._member(genes | {f"{name}.{key}": value for name, values in chosen for key, value in values.items()})

    def require_width(self, stage: int, width: int, side: int) -> None:
        """Raise SpaceError where the anchor cannot have a width in a stage at a resolution."""
        self._member({**self._dearest, "resolution": side, f"s{stage}.width": width}).check()

    @cached_property
    def _choices_known(self) -> dict[tuple[int, Block], Choices]:
        return {}

    @cached_property
    def _options_known(self) -> dict[tuple[int, Block, int, int], Options]:
        return {}

    @cached_property
    def _sizes_known(self) -> dict[int, tuple[int, ...]]:
        return {}

    @cached_property
    def _dearest(self) -> Genotype:
        return {gene.name: gene.choices[-1] for gene in self.genes}

    def _sizes(self, side: int) -> tuple[int, ...]:
        """The size of each stage's map that operators are told, at a resolution."""
        if side not in self._sizes_known:
            self._sizes_known[side] = frame(self.anchor, tuple(stage.width for stage in self.anchor.stages), side).sizes
        return self._sizes_known[side]

    def _member(self, genes: Mapping[str, Value]) -> Architecture:
        side, widths = int(genes["resolution"]), tuple(int(genes[f"s{index}.width"]) for index in range(len(self.depths)))
        around, stages = frame(self.anchor, widths, side), []
        for index, (stage, width, size) in enumerate(zip(self.anchor.stages, widths, around.sizes, strict=True)):
            blocks = []
            for number, block in enumerate(stage.blocks[: int(genes[f"s{index}.depth"])]):
                wanted = {name: genes[f"s{index}b{number}.{name}"] for name in self.choices_at(index, block)}
                blocks.append(shrunk_block(block, wanted, stage.width, width, size))
            stages.append(replace(stage, width=width, downsample=around.downsamples[index], blocks=tuple(blocks)))
        return replace(self.anchor, resolution=side, stem=around.stem, stages=tuple(stages), head=around.head)

    def _options(self, stage: int, own: Block, width: int, size: int) -> Options:
        """Every block that one of the anchor's may become at a place, with the first choices that make it."""
        key = (stage, own, width, size)
        if key not in self._options_known:
            choices, found = self.choices_at(stage, own), Options()
            for values in itertools.product(*choices.values()):
                wanted = dict(zip(choices, values, strict=True))
                found.setdefault(shrunk_block(own, wanted, self.anchor.stages[stage].width, width, size), wanted)
            self._options_known[key] = found
        return self._options_known[key]

    def _members_at(self, sizes: tuple[int, ...]) -> int:
        """The product over the stages of the sums over widths and depths."""
        total = 1
        for index, (stage, size) in enumerate(zip(self.anchor.stages, sizes, strict=True)):
            ways = 0
            for width in self.widths[index]:
                blocks = [len(self._options(index, block, width, size)) for block in stage.blocks]
                rows = list(itertools.accumulate(blocks, lambda before, block: before * block))
                ways += sum(rows[depth - 1] for depth in self.depths[index])
            total *= ways
        return total

    def _cheaper(self, stage: int, own: Op, width: int, size: int) -> list[str]:
        """The listed mixers that cost less than a block's own where the anchor has it, cheapest first."""
        most = mixer_macs(Kind.TOKEN_MIXER, own.name, width, size, own.settings)
        costs = {}
        for name in self.mixers[stage]:
            found = None if name == own.name else replacement(name, own, width, width, size, {})
            if found is not None and (cost := mixer_macs(Kind.TOKEN_MIXER, name, width, size, found.settings)) < most:
                costs[name] = cost
        return sorted(costs, key=lambda name: (costs[name], name))

    def _smaller(self, kind: Kind, own: Op, width: int, size: int) -> Choices:
        """The listed values below an operator's own that are legal where the anchor has it, and its own behind them."""
        found: Choices = {}
        for name, value in own.settings:
            below = [one for one in self.settings.get(name, ()) if type(one) is type(value) is int and one < value]
            legal = [one for one in below if dict(shrunk(kind, own, width, width, size, {name: one}).settings).get(name) == one]
            found |= {name: (*sorted(legal), value)} if legal and name != HEADS else {}
        return found

    def _require_tables(self) -> None:
        """Raise SpaceError where the fields are no tables of choices, or do not end at the anchor."""
        validation.require_tables(self)
        validation.require_settings(self)
        for name in {name for names in self.mixers for name in names}:
            operator(Kind.TOKEN_MIXER, name)
        for index, stage in enumerate(self.anchor.stages):
            if len(self.depths) != len(self.anchor.stages):
                raise SpaceError(f"space {self.name!r} has {len(self.depths)} stages, its anchor {len(self.anchor.stages)}")
            for what, choices, own in (("depths", self.depths, len(stage.blocks)), ("widths", self.widths, stage.width)):
                if max(choices[index]) != own:
                    raise SpaceError(
                        f"the largest of {what}[{index}] of space {self.name!r} must be its anchor's {own}, "
                        f"got {max(choices[index])}"
                    )
            if len(self.depths[index]) + len(self.widths[index]) > 2 and any(block.width for block in stage.blocks):
                raise SpaceError(
                    f"blocks of stage {index} of space {self.name!r} have widths of their own: list its anchor's depth "
                    f"{len(stage.blocks)} and width {stage.width} alone"
                )


def _surroundings(anchor: Architecture) -> dict[str, Any]:
    """The fields of a space that are the anchor's own."""
    names: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for kind, op in operators_of(anchor):
        names[kind].append(str(op) if kind == Kind.RESIDUAL else op.name)
    found = {kind: tuple(dict.fromkeys(listed)) for kind, listed in names.items()}
    norms = tuple(dict.fromkeys(stage.norm for stage in anchor.stages))
    stride = int(operator(Kind.STEM, anchor.stem.name).complete(anchor.stem.settings).get("stride", 1))
    return {
        "stems": (anchor.stem.name,), "stem_stride": stride, "downsamples": found[Kind.DOWNSAMPLE], "norms": norms,
        "partners": (), "splits": (1.0,), "channel_mixers": found[Kind.CHANNEL_MIXER], "placements": ("free",),
        "residuals": found[Kind.RESIDUAL], "heads": (anchor.head.name,), "strides": (),
    }  # fmt: skip


def _plays(name: str, block: Block) -> bool:
    """Whether a gene of a block has a part in what it became."""
    return name == "mixer" or name.startswith("channel.") or name in operator(Kind.TOKEN_MIXER, block.mixers[0].name).settings
