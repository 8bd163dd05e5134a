"""Pictures and tables of architectures: everything is in them, and nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.axes import Axes

import nas
from nas.predictors.cost import cost
from nas.results.draw import COLOURS, describe_text, draw
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.registry import Group


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, str]]:
    """What is written, and where; the SVG itself holds outlines of letters."""
    found: list[tuple[float, float, str]] = []
    original = Axes.text

    def record(self: Axes, x: float, y: float, s: str, *args: object, **kwargs: object) -> object:
        found.append((x, y, s))
        return original(self, x, y, s, *args, **kwargs)

    monkeypatch.setattr(Axes, "text", record)
    return found


def test_the_drawing_is_well_formed_and_the_same_every_time(mixed: Architecture) -> None:
    svg = draw(mixed, num_classes=10)
    ElementTree.fromstring(svg)
    assert svg.startswith("<svg")
    assert svg == draw(mixed, num_classes=10)


def test_every_stage_and_operator_is_written(mixed: Architecture, texts: list[tuple[float, float, str]]) -> None:
    draw(mixed, num_classes=10)
    written = [text for _, _, text in texts]
    for wanted in ("stage 0", "16 x 16 x 8", "8 x 8 x 16", "4 x 4 x 24", "conv stem", "overlap downsample", "projection to 24"):
        assert wanted in written
    assert "2 x depthwise conv" in written, "equal blocks in a row are drawn once"
    assert "10 classes" in written
    assert "heads 2, shift, window 2" in written


def test_parallel_mixers_stand_side_by_side(mixed: Architecture, texts: list[tuple[float, float, str]]) -> None:
    draw(mixed)
    at = {text: (x, y) for x, y, text in texts}
    left, right = at["channels 0-7"], at["channels 8-15"]
    assert left[1] == right[1]
    assert left[0] < right[0]


def test_mixers_have_the_colour_of_their_group(mixed: Architecture) -> None:
    svg = draw(mixed)
    assert svg.count(COLOURS[Group.CONVOLUTION]) >= 3
    assert COLOURS[Group.ATTENTION] in svg
    assert COLOURS[Group.FREQUENCY] not in svg
    assert set(COLOURS) == set(Group)


def test_the_table_fits_a_terminal_and_counts_every_parameter(mixed: Architecture) -> None:
    lines = describe_text(mixed, num_classes=10, in_channels=1).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert mixed.digest in lines[0]
    total = sum(p.numel() for p in build(mixed, 10, 1).parameters())
    macs = cost(mixed, num_classes=10, in_channels=1).macs
    assert lines[-1] == f"parameters: {total / 1e3:.3g}k, MACs: {macs / 1e3:.3g}k"
    assert any("2 x depthwise conv dilation 1, kernel 5 + mlp expansion 2" in line for line in lines)


@pytest.mark.parametrize("name", ["transxnet_t", "fcaformer_l1"])
def test_blocks_too_long_for_a_line_are_wrapped_and_start_with_their_first_operator(name: str) -> None:
    lines = describe_text(nas.catalog.get(name)).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert all(line[6].isalnum() for line in lines if line.startswith("     "))
    assert any(re.search(r"(,| \+)( {2,}\S+)?$", line) for line in lines), "some block is too long"
    assert not [line for line in lines if line.strip().startswith(("+", ","))]


def test_the_table_follows_the_resolution(mixed: Architecture) -> None:
    assert "stage 0: 32 x 32 x 8" in describe_text(mixed, resolution=64)
