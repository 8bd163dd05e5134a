"""A supernet slice, the extracted network and a plain network with the same weights are the same, bit for bit."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import pytest
import torch
from torch import nn
from usual import usual_first

import nas
from nas.errors import SpaceError
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.graph import branch_widths, joins_branches
from nas.search_spaces.maps import Map
from nas.search_spaces.presets import PRESETS
from nas.search_spaces.registry import Kind, Operator, operator, operators
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.surroundings import READ_FIRST, carries_overview, downsample_of, head_of, stem_map, stem_of
from nas.supernet.supernet import Supernet

MIXERS, CHANNEL_MIXERS = list(operators(Kind.TOKEN_MIXER)), list(operators(Kind.CHANNEL_MIXER))
NORMS, RESIDUALS, HEADS = (list(operators(kind)) for kind in (Kind.NORM, Kind.RESIDUAL, Kind.HEAD))
TINY = nas.load_space("tiny")
STEMS = [op for op in operators(Kind.STEM) if (stem := stem_of(TINY, op.name, 32, 32)) and not stem_map(TINY, stem, 32).token]
HALVING = [op for op in operators(Kind.DOWNSAMPLE) if downsample_of(TINY, op.name, 32, Map.square(16), 2)]
DOWNSAMPLES = [op for op in HALVING if not carries_overview(op.name)]
MODIFIERS = {key for preset in PRESETS for key in nas.load_space(preset).settings}
PLAIN = Op.of("global_filter")
MLP = Op.of("mlp", expansion=2)
DEPTH = 3


def name_of(op: Operator) -> str:
    return op.name


def image(side: int = 32) -> torch.Tensor:
    return torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(side))


def assert_exact(supernet: Supernet, architecture: Architecture, grad: Callable[[], Any] = torch.no_grad) -> None:
    """Both modes; the extracted network's parameters are those of a plain one."""
    x = image(architecture.resolution)
    for mode in (True, False):
        supernet.train(mode)
        extracted = supernet.extract(architecture)
        assert extracted.training == mode
        with grad():
            assert torch.equal(supernet(x, architecture), extracted(x)), architecture.to_json()
    plain = nas.build(architecture, 10, 1).eval()
    assert shapes(extracted) == shapes(plain)
    plain.load_state_dict(extracted.state_dict())
    with grad():
        assert torch.equal(plain(x), supernet(x, architecture))


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def architecture_of(
    space: SearchSpace, blocks: list[list[Block]], place: int, norm: str = "layer", **kinds: str
) -> Architecture:
    """Stages of the given blocks, all at their narrowest (`place` 0), middle (1) or widest (2)."""
    widths = [space.widths[i][place] for i in range(len(blocks))]
    stem, head = stem_of(space, kinds.get("stem", "patchify"), widths[0], 32), kinds.get("head", "average_pool")
    stages = []
    for i, found in enumerate(blocks):
        before = Map.square(space.stage_size(32, i - 1))
        down = downsample_of(space, kinds.get("downsample", "conv"), widths[i], before, 2) if i else None
        stages.append(Stage(widths[i], norm, down, tuple(found), Op(kinds.get("residual", "layer_scale"))))
    return Architecture(32, stem, tuple(stages), head_of(space, head, widths[-1], space.stage_size(32, len(blocks) - 1)))


def settings_of(space: SearchSpace, op: Operator, stage: int, width: int) -> list[Op]:
    """Every legal setting, those that may be left out at their defaults."""
    choices = {key: c for key, c in space.choices_of(op.kind, op.name).items() if op.settings[key].default is None}
    return [Op(op.name, settings) for settings in op.legal_settings(width, space.stage_size(32, stage), choices)]


def chunks(space: SearchSpace, op: Operator, place: int) -> Iterator[list[list[Op]]]:
    """Every legal setting of every stage at its narrowest, the ends of them elsewhere, three a stage in one architecture."""
    stages = []
    for stage in range(3):
        width = space.widths[stage][place]
        found = settings_of(space, op, stage, width)
        found = found if place == 0 else [*found[:1], *found[1:][-1:]]
        stages.append([found[i : i + DEPTH] for i in range(0, len(found), DEPTH)])
    for parts in zip_longest(*stages):
        yield [part or next(iter(found), [PLAIN]) for part, found in zip(parts, stages, strict=True)]


@lru_cache(maxsize=1)
def alone(name: str) -> Supernet:
    """A supernet of one token mixer, beside those that the tests put next to it."""
    mixers = tuple(dict.fromkeys((name, PLAIN.name, "depthwise_conv", "pooling")))
    fields = {"mixers": (mixers,) * 3, "partners": mixers, "channel_mixers": ("mlp",), "stems": ("patchify",)}
    depths, norms = ((1, 2, 3),) * 3, ("layer",)
    space = dataclasses.replace(TINY, name="alone", depths=depths, norms=norms, placements=("free",), **fields)
    supernet = Supernet(space, 10, 1)
    generator = torch.Generator().manual_seed(7)
    for tensor in supernet.parameters():
        tensor.data.add_(torch.rand(tensor.shape, generator=generator) * 0.2 - 0.1)
    return supernet


@pytest.mark.parametrize("op", usual_first(MIXERS), ids=name_of)
def test_every_setting_and_split_of_a_token_mixer_is_exact(op: Operator) -> None:
    supernet = alone(op.name)
    for place in range(3):
        for stages in chunks(supernet.space, op, place):
            blocks = [[Block((mixer,), MLP) for mixer in found] for found in stages]
            assert_exact(supernet, architecture_of(supernet.space, blocks, place))
    for place, split in ((0, 0.5), (1, 0.25), (1, 0.75), (2, 0.25), (2, 0.5), (2, 0.75)):
        blocks = split_blocks(supernet.space, op, place, split)
        assert_exact(supernet, architecture_of(supernet.space, blocks, place))


MODIFIED = [
    op for op in MIXERS if any(setting.default is not None and key in MODIFIERS for key, setting in op.settings.items())
]


@pytest.mark.parametrize("op", usual_first(MODIFIED), ids=name_of)
def test_every_optional_setting_that_a_preset_searches_is_exact(op: Operator) -> None:
    """In blocks half as wide as the store has room for, each choice of one setting at a time."""
    optional = {key: s.choices for key, s in op.settings.items() if s.default is not None and key in MODIFIERS}
    place = {"resolutions": (16,), "depths": ((1, 2, 3),), "widths": ((16, 32),), "mixers": ((op.name,),), "splits": (1.0,)}
    around = {"stems": ("patchify",), "norms": ("layer",), "channel_mixers": ("mlp",), "placements": ("free",)}
    settings = {**TINY.settings, **optional}
    space = dataclasses.replace(TINY, name="modified", **place, **around, settings=settings)
    supernet, stem = Supernet(space, 10, 1), stem_of(space, "patchify", 16, 16)
    needed = {key: c for key, c in space.choices_of(op.kind, op.name).items() if key not in optional}
    tried = (op.repair({}, 16, 8, {**needed, key: (value,)}) for key, choices in optional.items() for value in choices)
    found = [settings for settings in dict.fromkeys(tried) if settings is not None]
    for i in range(0, len(found), DEPTH):
        blocks = tuple(Block((Op(op.name, chosen),), MLP) for chosen in found[i : i + DEPTH])
        assert_exact(supernet, Architecture(16, stem, (Stage(16, "layer", None, blocks),)))


def split_blocks(space: SearchSpace, op: Operator, place: int, split: float) -> list[list[Block]]:
    """Blocks with the mixer on either side of another, where both can work."""
    other = "depthwise_conv" if op.name != "depthwise_conv" else "pooling"
    blocks = []
    for stage in range(3):
        width = space.widths[stage][place]
        first, second = branch_widths(width, split)
        found = []
        for names in ((op.name, other), (other, op.name)):
            pair = [
                settings_of(space, operator(Kind.TOKEN_MIXER, n), stage, w) for n, w in zip(names, (first, second), strict=True)
            ]
            if all(pair):
                found.append(Block((pair[0][-1], pair[1][0]), MLP, first / width))
        blocks.append(found or [Block((PLAIN,), MLP)])
    return blocks


@pytest.mark.parametrize("op", CHANNEL_MIXERS, ids=name_of)
def test_every_setting_of_a_channel_mixer_is_exact(everything: Supernet, op: Operator) -> None:
    space = everything.space
    for place in range(3):
        for stages in chunks(space, op, place):
            blocks = [[Block((PLAIN,), mixer) for mixer in found] for found in stages]
            assert_exact(everything, architecture_of(space, blocks, place))


@pytest.mark.parametrize("down", DOWNSAMPLES, ids=name_of)
@pytest.mark.parametrize("norm", NORMS, ids=name_of)
def test_every_stem_norm_and_downsample_is_exact(surroundings: Supernet, norm: Operator, down: Operator) -> None:
    """All pairs of norm and downsample, the stems in turn."""
    turn = NORMS.index(norm) + DOWNSAMPLES.index(down)
    blocks = [[Block((PLAIN,), MLP)] for _ in range(3)]
    kinds = {"norm": norm.name, "downsample": down.name, "stem": STEMS[turn % len(STEMS)].name}
    assert_exact(surroundings, architecture_of(surroundings.space, blocks, turn % 3, **kinds))


@pytest.mark.parametrize("stem", STEMS, ids=name_of)
def test_every_stem_is_exact_at_every_width(surroundings: Supernet, stem: Operator) -> None:
    for place in range(3):
        blocks = [[Block((PLAIN,), MLP)] for _ in range(3)]
        kinds = {"norm": NORMS[place % len(NORMS)].name, "stem": stem.name}
        assert_exact(surroundings, architecture_of(surroundings.space, blocks, place, **kinds))


@pytest.mark.parametrize("head", [op for op in HEADS if op.name not in READ_FIRST], ids=name_of)
def test_every_head_is_exact(surroundings: Supernet, head: Operator) -> None:
    for place in range(3):
        blocks = [[Block((PLAIN,), MLP)] for _ in range(3)]
        assert_exact(surroundings, architecture_of(surroundings.space, blocks, place, head=head.name))


@pytest.mark.parametrize("head", READ_FIRST)
def test_every_head_that_reads_a_class_token_is_exact(head: str) -> None:
    fields = {"stems": ("tokens",), "stem_stride": 8, "strides": (1,), "downsamples": ("keep",), "heads": (head,)}
    fields |= {"depths": ((1,),) * 2, "widths": ((24, 48),) * 2, "mixers": ((PLAIN.name,),) * 2, "splits": (1.0,)}
    supernet = Supernet(
        dataclasses.replace(TINY, name="tokens", placements=("free",), norms=("layer", "batch"), **fields), 10, 1
    )
    for seed in range(4):
        assert_exact(supernet, supernet.space.sample(random.Random(seed)))


@pytest.fixture(scope="module")
def one_by_one() -> Supernet:
    """Blocks without parallel mixers, which some residuals cannot join."""
    names = tuple(op.name for op in RESIDUALS)
    fields = {
        "depths": ((3,),) * 3,
        "splits": (1.0,),
        "partners": (),
        "residuals": names,
        "norms": ("layer", "batch"),
        "placements": ("free",),
    }
    space = dataclasses.replace(
        TINY, name="one_by_one", stems=("patchify",), mixers=(("depthwise_conv", "global_filter"),) * 3, **fields
    )
    return Supernet(space, 10, 1)


@pytest.mark.parametrize("residual", RESIDUALS, ids=name_of)
def test_every_residual_is_exact(one_by_one: Supernet, surroundings: Supernet, residual: Operator) -> None:
    pair = (PLAIN, Op.of("depthwise_conv", kernel=3, dilation=1))
    for place, norm in enumerate(("layer", "batch", "layer")):
        single = [[Block((PLAIN,), MLP)] * 3 for _ in range(3)]
        assert_exact(one_by_one, architecture_of(one_by_one.space, single, place, norm, residual=residual.name))
        if joins_branches(residual.name):
            widths = [surroundings.space.widths[i][place] for i in range(3)]
            double = [[Block(pair, MLP, branch_widths(width, 0.5)[0] / width)] * 2 for width in widths]
            assert_exact(surroundings, architecture_of(surroundings.space, double, place, norm, residual=residual.name))


@pytest.mark.parametrize("seed", range(12))
def test_random_architectures_are_exact(everything: Supernet, seed: int) -> None:
    assert_exact(everything, everything.space.sample(random.Random(seed)))


def test_the_corners_are_exact(everything: Supernet) -> None:
    for corner in (everything.space.smallest, everything.space.largest):
        for seed in range(3):
            assert_exact(everything, corner(random.Random(seed)))


def test_every_resolution_and_gradient_mode_is_exact(miniature: SearchSpace) -> None:
    supernet = Supernet(miniature, 10, 1)
    seen = set()
    for seed in range(12):
        architecture = miniature.sample(random.Random(seed))
        seen.add(architecture.resolution)
        for grad in (torch.no_grad, torch.enable_grad, torch.inference_mode):
            assert_exact(supernet, architecture, grad)
    assert seen == {8, 16}


def test_networks_that_differ_in_one_setting_give_different_logits() -> None:
    supernet = Supernet(TINY, 10, 1).eval()
    architecture = TINY.sample(random.Random(1))
    with torch.no_grad():
        logits = supernet(image(), architecture)
        for other in TINY.neighbours(architecture):
            assert not torch.equal(supernet(image(), other), logits), other.to_json()


def test_calls_leave_nothing_behind(everything: Supernet) -> None:
    everything.eval()
    first, second = (everything.space.sample(random.Random(seed)) for seed in (1, 2))
    with torch.no_grad():
        before = everything(image(), first)
        everything(image(), second)
        everything.train()
        everything(image(), first)
        everything.eval()
        assert torch.equal(everything(image(), first), before)


def test_weights_changed_in_the_store_are_seen_at_once(miniature: SearchSpace) -> None:
    supernet, x = Supernet(miniature, 10, 1).eval(), image(16)
    architecture = miniature.largest()
    with torch.no_grad():
        before = supernet(x, architecture)
        for tensor in supernet.parameters():
            tensor.mul_(1.1)
        after = supernet(x, architecture)
        assert not torch.equal(before, after)
        assert torch.equal(supernet.extract(architecture)(x), after)


def test_an_extracted_network_shares_no_memory(miniature: SearchSpace) -> None:
    supernet, x = Supernet(miniature, 10, 1).eval(), image(16)
    architecture = miniature.largest()
    network = supernet.extract(architecture)
    theirs = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    again = {tensor.untyped_storage().data_ptr() for tensor in supernet.extract(architecture).state_dict().values()}
    shared = {tensor.untyped_storage().data_ptr() for tensor in supernet.parameters()}
    assert not theirs & (shared | again)
    before = supernet(x, architecture)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.fill_(0)
    assert torch.equal(supernet(x, architecture), before)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in network.parameters())


def test_supernets_of_one_seed_are_equal_and_of_two_differ(miniature: SearchSpace) -> None:
    one, two, other = (Supernet(miniature, 10, 1, seed=seed).state_dict() for seed in (3, 3, 4))
    assert one.keys() == two.keys() == other.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.usefixtures("random_state_is_kept")
def test_making_a_supernet_leaves_the_random_state_alone(miniature: SearchSpace) -> None:
    Supernet(miniature, 10, 1, seed=5)


def test_strangers_are_refused(miniature: SearchSpace, everything: Supernet) -> None:
    supernet = Supernet(miniature, 10, 1)
    with pytest.raises(SpaceError, match=r"(is not in|is larger than any of space) 'miniature'"):
        supernet.extract(everything.space.sample(random.Random(0)))
    block = Block((Op.of("depthwise_conv", kernel=3, dilation=1),), MLP)
    wide = Architecture(16, Op.of("patchify", stride=2), (Stage(64, "layer", None, (block,)),))
    with pytest.raises(SpaceError, match="is larger than any of space 'miniature'"):
        supernet(image(16), wide)
