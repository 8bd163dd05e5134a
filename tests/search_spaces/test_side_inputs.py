"""What operators read beside the stream: earlier blocks, what mixers emit, an overview, the values of residuals."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import nas
from nas.errors import SpaceError
from nas.predictors.cost import cost
from nas.predictors.tracing import onnx_model, trace_static
from nas.results.bundle import bundle_source
from nas.results.load import run_source
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.graph import nodes

MLP = Op.of("mlp", expansion=2)
CONV = Op.of("depthwise_conv", kernel=3, dilation=1)
CROSS = Op.of("forward_cross_attention", heads=2, depth=2)
EMITS = Op.of("hybrid_scale_attention", heads=2, reduction=2, window=4)
READS = Op.of("self_guided_attention", heads=2, reduction=2)
MIXES = Op.of("context_mixing_conv", heads=2, kernel=3, small=3)
SUMMARISES = Op.of("summarising_conv", kernel=3)
LOOKS_BACK = Op.of("summary_cross_attention", heads=2, depth=2)
TABLE = Op.of("pair_positions", heads=2, reduction=2)
LOOKS_UP = Op.of("dual_mixer", heads=2, reduction=2, kernel=3)
CARRIES = Op.of("carried_context_conv", carried=4, heads=2, kernel=3, small=3)
REFRESHES = Op.of("context_refresh", carried=4)


def network(*blocks: Block, residual: Op | None = None, **fields: object) -> Architecture:
    first = Stage(16, "layer", None, blocks, residual)
    last = Stage(24, "layer", Op("conv"), (Block((CONV,), MLP),))
    return Architecture(16, Op.of("patchify", stride=2), (first, last), **fields)


def history() -> Architecture:
    return network(*(Block((mixer,), MLP) for mixer in (CONV, CROSS, CROSS, CROSS)))


def significance() -> Architecture:
    return network(*(Block((mixer,), MLP) for mixer in (READS, EMITS, CONV, READS)))


def summaries() -> Architecture:
    return network(*(Block((mixer,), MLP) for mixer in (SUMMARISES, LOOKS_BACK, *[SUMMARISES] * 2, CONV, LOOKS_BACK)))


def positions() -> Architecture:
    stream = Block((TABLE,), None, residual=Op("none"), norm="none")
    other = Block((Op.of("dual_mixer", heads=1, reduction=2, kernel=3),), MLP)
    return network(stream, Block((LOOKS_UP,), MLP), other, Block((LOOKS_UP,), MLP))


def carried_context() -> Architecture:
    refreshed = Block((REFRESHES,), None, residual=Op("none"), norm="none")
    stages = (
        Stage(16, "layer", None, (Block((CONV,), MLP),)),
        Stage(20, "layer", Op("join_overview"), (Block((CARRIES,), MLP), refreshed, Block((CARRIES,), None))),
        Stage(28, "layer", Op.of("carried_overlap", carried=4), (refreshed, Block((CARRIES,), MLP))),
    )
    told = Block((), None, width=4, norm="none")
    branch = (Stage(40, "layer", Op("overlap"), (Block((CONV,), MLP), told)),)
    return Architecture(16, Op.of("patchify", stride=2), stages, overview=branch, overview_at=1)


def overview() -> Architecture:
    stages = (
        Stage(16, "layer", None, (Block((CONV,), MLP),)),
        Stage(24, "batch", Op("keep"), (Block((CONV,), None), Block((MIXES,), MLP))),
        Stage(32, "layer", Op("conv"), (Block((MIXES,), MLP),)),
    )
    branch = (Stage(40, "layer", Op("conv"), (Block((CONV,), MLP),)),)
    return Architecture(16, Op.of("patchify", stride=2), stages, overview=branch, overview_at=1)


def attention_residuals() -> Architecture:
    return network(*[Block((CONV,), MLP)] * 3, residual=Op("attention_residual"))


def block_residuals() -> Architecture:
    return network(*[Block((CONV,), MLP)] * 3, residual=Op.of("attention_residual", form="block"))


EVERY = [
    history, significance, summaries, positions, overview, carried_context, attention_residuals, block_residuals
]  # fmt: skip
every = pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)


def perturbed(architecture: Architecture) -> Backbone:
    model = nas.build(architecture, 5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def read_by(model: Backbone, image: Tensor, name: str) -> tuple[Tensor, ...]:
    """What the module of a node is called with."""
    found: list[tuple[Tensor, ...]] = []
    handle = model.nodes[name].register_forward_pre_hook(lambda _, inputs: found.append(inputs))
    model(image)
    handle.remove()
    return found[0]


def outputs(model: Backbone, image: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {"image": image}
    for name, inputs in model.plan:
        model.run_node(name, inputs, found)
    return found


@every
def test_json_gives_back_the_same_value(make: Callable[[], Architecture]) -> None:
    architecture = make()
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert again.digest == architecture.digest
    assert nx.is_directed_acyclic_graph(architecture.graph())


@every
def test_nodes_read_what_the_graph_says(make: Callable[[], Architecture]) -> None:
    architecture = make()
    model, image = perturbed(architecture), torch.randn(2, 3, 16, 16)
    values = outputs(model, image)
    for node in nodes(architecture, None, 3, 5):
        read = read_by(model, image, node.name)
        assert all(torch.equal(ours, values[source]) for ours, source in zip(read, node.inputs, strict=True)), node.name
        if node.side:
            assert [tuple(tensor.shape[1:]) for tensor in read[1:]] == list(node.side)


@every
def test_the_cost_of_the_nodes_is_that_of_the_network(make: Callable[[], Architecture]) -> None:
    architecture = make()
    found, whole = cost(architecture), cost(nas.build(architecture), 16)
    assert (found.params, found.macs) == (whole.params, whole.macs)


@every
def test_the_standalone_module_gives_the_same_bits(make: Callable[[], Architecture], tmp_path: Path) -> None:
    model = perturbed(make())
    (tmp_path / "backbone.py").write_text(bundle_source(model, num_classes=5, in_channels=3))
    copy = run_source(tmp_path / "backbone.py").Backbone()
    copy.load_state_dict(model.state_dict())
    for side in (16, 32):
        image = torch.randn(2, 3, side, side)
        assert torch.equal(copy.eval()(image), model(image))


@every
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_networks_run_in_onnxruntime_as_in_torch(make: Callable[[], Architecture]) -> None:
    model, image = perturbed(make()), torch.randn(2, 3, 16, 16)
    file = io.BytesIO()
    onnx_model(trace_static(model, image)).save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(image).numpy(), rtol=1e-4, atol=1e-4)


def test_a_mixer_reads_the_latest_blocks_of_its_stage() -> None:
    by_name = {node.name: node.inputs for node in nodes(history())}
    assert by_name["s0b1_mixer"] == ("s0b0_channel", "s0b0_channel")
    assert by_name["s0b2_mixer"] == ("s0b1_channel", "s0b0_channel", "s0b1_channel")
    assert by_name["s0b3_mixer"] == ("s0b2_channel", "s0b1_channel", "s0b2_channel")


def test_a_mixer_reads_the_latest_significance_of_its_stage() -> None:
    architecture = significance()
    by_name = {node.name: node.inputs for node in nodes(architecture)}
    assert by_name["s0b0_mixer"] == ("stem",)
    assert by_name["s0b3_mixer"] == ("s0b2_channel", "s0b1_mixer:significance")
    assert architecture.graph().edges["s0b1_mixer", "s0b3_mixer"]["shape"] == (8, 8, 1)


def test_a_mixer_reads_the_latest_summaries_of_its_stage() -> None:
    by_name = {node.name: node for node in nodes(summaries())}
    assert by_name["s0b1_mixer"].inputs == ("s0b0_channel", "s0b0_mixer:summary")
    assert by_name["s0b5_mixer"].inputs == ("s0b4_channel", "s0b2_mixer:summary", "s0b3_mixer:summary")
    assert by_name["s0b5_mixer"].side == ((2, 2, 16), (2, 2, 16))


def test_positions_are_read_where_heads_and_reduction_are_those_of_the_table() -> None:
    by_name = {node.name: node for node in nodes(positions())}
    assert by_name["s0b1_mixer"].inputs == ("s0b0_mixer", "s0b0_mixer:positions")
    assert by_name["s0b1_mixer"].side == ((2, 64, 16),)
    assert by_name["s0b2_mixer"].inputs == ("s0b1_channel",)
    assert by_name["s0b3_mixer"].inputs == ("s0b2_channel", "s0b0_mixer:positions")


def test_one_table_serves_all_blocks_of_a_stage() -> None:
    alone = network(Block((LOOKS_UP,), MLP))
    own = Op.of("dual_mixer", heads=2, reduction=2, kernel=3, position="pairs")
    table = cost(network(Block((own,), MLP))).params - cost(alone).params
    shared = Block((TABLE,), None, residual=Op("none"), norm="none")
    blocks = [Block((LOOKS_UP,), MLP)] * 2
    assert cost(network(shared, *blocks)).params == cost(network(*blocks)).params + table


def test_a_carried_context_is_the_overview_at_its_own_width() -> None:
    by_name = {node.name: node for node in nodes(carried_context())}
    seen = by_name["s0b0_channel_overview"]
    assert (seen.inputs, seen.out_shape) == (("overview0b1_norm", "s0b0_channel"), (8, 8, 4))
    assert by_name["s1_downsample"].inputs == ("s0b0_channel", "s0b0_channel_overview")
    assert by_name["s1b1_mixer"].inputs == ("s1b0_channel", "s0b0_channel_overview")
    assert by_name["s2b0_mixer"].inputs == ("s2_downsample", "s2_downsample_overview")
    assert by_name["s2_downsample_overview"].out_shape == (4, 4, 4)


def test_a_context_of_another_width_than_the_overviews_is_refused() -> None:
    found = carried_context()
    wide = replace(found, overview=(Stage(40, "layer", Op("overlap"), (Block((CONV,), MLP),)),))
    with pytest.raises(SpaceError, match="join_overview takes 4 channels of an overview, which gives 40"):
        wide.check()


def test_operators_behind_the_overview_read_its_map_at_their_size_and_width() -> None:
    by_name = {node.name: node for node in nodes(overview())}
    assert by_name["overview0_downsample"].inputs == ("s0b0_channel",)
    assert by_name["s1_downsample"].inputs == ("s0b0_channel",)
    context = by_name["s1b0_mixer_context"]
    assert (context.inputs, context.out_shape) == (("overview0b0_channel", "s1b0_mixer"), (8, 8, 24))
    assert by_name["s1b1_mixer"].inputs == ("s1b0_mixer", "s1b0_mixer_context")
    assert by_name["s2_downsample_context"].out_shape == (4, 4, 32)


def test_an_overview_that_nobody_reads_is_refused() -> None:
    plain = network(Block((CONV,), MLP), overview=(Stage(16, "layer", None, (Block((CONV,), MLP),)),), overview_at=1)
    with pytest.raises(SpaceError, match="no operator reads the overview"):
        plain.check()
    with pytest.raises(SpaceError, match="overview_at=2 must leave stages before and behind it"):
        network(Block((CONV,), MLP), overview=plain.overview, overview_at=2)


class Constant(nn.Module):
    """A map of one value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


@pytest.mark.parametrize(
    ("make", "inside", "end"),
    [
        # Values are the input 1 and what each operator gives: 2, 4, 8, ... The query is zero: mixtures are means.
        (attention_residuals, [2, 4, 8, 16, 32, 64], (1 + 2 + 4 + 8 + 16 + 32 + 64) / 7),
        # The operators of a block add up: 2 + 4, 8 + 16, 32 + 64.
        (block_residuals, [2, 6, 8, 24, 32, 96], (1 + 6 + 24 + 96) / 4),
    ],
)
def test_a_stage_of_attention_residuals_is_the_mean_of_its_values(
    make: Callable[[], Architecture], inside: list[int], end: float
) -> None:
    model = nas.build(make(), 5).eval()
    names = [f"s0b{block}_{part}" for block in range(3) for part in ("mixer", "channel")]
    for number, name in enumerate(names):
        model.nodes[name].op = Constant(2.0 ** (number + 1))
    model.nodes["stem"] = Stub()
    values = outputs(model, torch.zeros(1, 3, 16, 16))
    assert [values[name].mean().item() for name in names] == inside
    assert values["s0_end"].mean().item() == pytest.approx(end)


class Stub(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.ones(image.shape[0], 8, 8, 16)
