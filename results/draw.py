"""An architecture as a picture (SVG) and as a text table."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from nas.predictors.cost import Cost, node_cost
from nas.quantities import format_count
from nas.search_spaces import graph
from nas.search_spaces.architecture import AVERAGE_POOL, LAYER_SCALE, Architecture
from nas.search_spaces.backbone import module_of
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.registry import Group, Kind, operator

T = TypeVar("T")
COLOURS = {
    Group.CONVOLUTION: "#8ecae6",
    Group.ATTENTION: "#f4a582",
    Group.POOLING: "#c7b8ea",
    Group.GATING: "#a8d5a2",
    Group.FREQUENCY: "#f6d86b",
    Group.RECURRENCE: "#e5a4c0",
    Group.NONE: "#d9d9d9",
}
_CHANNEL, _FRAME = "#eef0f3", "#dde1e7"
_INK, _SOFT = "#22262b", "#5b6470"
_TEXT = 62
_WIDTH, _BOX, _GAP, _COLUMN = 2.75, 0.62, 0.16, 3.1


@dataclass(frozen=True, slots=True)
class _Box:
    """A box: its lines of text, its colour, and the part of the column's width it takes, from `left` to `right`."""

    lines: tuple[str, ...]
    colour: str
    left: float = 0.0
    right: float = 1.0


def draw(architecture: Architecture, resolution: int | None = None, num_classes: int = 1000, in_channels: int = 3) -> str:
    """SVG text: a column a stage, from top to bottom; parallel mixers side by side; colours by kind of token mixing.

    The stem stands above the first stage, the head below the last.
    """
    found = nodes(architecture, resolution, in_channels, num_classes)
    places = sorted({_place(architecture, node) for node in found})
    columns = [_column([node for node in found if _place(architecture, node) == place]) for place in places]
    tallest = max(len(rows) for _, rows in columns)
    height = tallest * (_BOX + _GAP) + 1.5
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "nas", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(len(columns) * _COLUMN * 0.82, height * 0.82))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, len(columns) * _COLUMN)
        axes.set_ylim(-height, 0)
        ends = (len(architecture.stages) - 1, len(columns) - 1)
        for index, (title, rows) in enumerate(columns):
            _draw_column(axes, index * _COLUMN + (_COLUMN - _WIDTH) / 2, title, rows, last=index in ends)
        _legend(axes, found)
        return to_svg(figure)


def to_svg(figure: Figure) -> str:
    """The `<svg>` element of a figure, without the XML prologue, the same text for the same figure."""
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def describe_text(
    architecture: Architecture, resolution: int | None = None, num_classes: int = 1000, in_channels: int = 3
) -> str:
    """A table of at most 80 columns: each stage with its map, and each run of equal blocks with its parameters."""
    found = nodes(architecture, resolution, in_channels, num_classes)
    lines = [
        f"{architecture.digest}  {architecture.depth} blocks, made for {architecture.resolution} x {architecture.resolution}"
    ]
    total = 0
    for _, part in groupby(found, key=lambda node: (node.stage, _overview(node))):
        members = list(part)
        height, width, channels = members[-1].out_shape
        lines.append(_title(members) + f": {height} x {width} x {channels}")
        for count, (text, params) in _runs([(_block_text(block), _params(block)) for block in _blocks(members)]):
            total += count * params
            number = f"{count} x" if count > 1 else ""
            lines += _row(number, text, format_count(count * params))
    macs = Cost.total(node_cost(node) for node in found).macs
    return "\n".join([*lines, f"parameters: {format_count(total)}, MACs: {format_count(macs)}"])


def _row(number: str, text: str, params: str) -> list[str]:
    """Text wrapped between its operators, and in one too long for a line between its settings.

    The parameters stand at the right of the first line.
    """
    (_, first), *rest = [piece for part in text.split(" | ") for piece in _pieces(part)]
    lines = [first]
    for sign, piece in rest:
        joined = f"{lines[-1]}{sign} {piece}"
        lines[-1:] = [joined] if len(joined) <= _TEXT else [lines[-1] + sign, piece]
    return [f"{number:>5} {lines[0]:<{_TEXT + 2}} {params:>8}", *(f"{'':>5} {line}" for line in lines[1:])]


def _pieces(part: str) -> list[tuple[str, str]]:
    """An operator's text in pieces that are not wrapped, each with the sign that stands between it and the one before."""
    first, *rest = [part] if len(part) <= _TEXT else part.split(", ")
    return [(" +", first), *((",", piece) for piece in rest)]


def _runs(items: Sequence[T]) -> list[tuple[int, T]]:
    """Equal neighbours as their number and the item."""
    return [(len(list(same)), item) for item, same in groupby(items)]


def _blocks(members: list[Node]) -> list[list[Node]]:
    """Nodes grouped by the place in their names: `s0b1_mixer` and `s0b1_channel` together."""
    return [list(part) for _, part in groupby(members, key=lambda node: node.name.rpartition("_")[0] or node.name)]


def _block_text(block: list[Node]) -> str:
    parts = []
    for node in block:
        if node.kind in (graph.SPLIT, graph.CONCAT):
            continue
        share = f" on {node.channels[0]}:{node.channels[1]}" if node.channels is not None else ""
        parts.append(" ".join(_label(node)) + share)
    return " | ".join(parts)


def _params(block: list[Node]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for node in block for p in module_of(node).parameters())


def _title(members: list[Node]) -> str:
    stage, overview = members[0].stage, _overview(members[0])
    if overview is not None:
        return f"overview {overview}"
    return members[0].kind if stage is None else f"stage {stage}"


def _overview(node: Node) -> int | None:
    """The number of the overview's stage that a node belongs to."""
    found = re.match(r"overview(\d+)", node.name)
    return None if found is None else int(found.group(1))


def _place(architecture: Architecture, node: Node) -> int:
    """The column of a node."""
    if node.stage is not None:
        return node.stage
    overview = _overview(node)
    if overview is not None:
        return len(architecture.stages) + overview
    return 0 if node.kind == Kind.STEM else len(architecture.stages) - 1


def _column(members: list[Node]) -> tuple[str, list[list[_Box]]]:
    """The title of a stage and its rows of boxes; equal blocks in a row are drawn once, with their number."""
    inside = [node for node in members if node.kind not in (Kind.STEM, graph.HEAD)]
    height, width, channels = inside[-1].out_shape
    rows: list[list[_Box]] = []
    for count, block in _runs([_block_rows(block) for block in _blocks(members)]):
        rows += [[_times(box, count) for box in row] for row in block]
    return f"{_title(inside)}\n{height} x {width} x {channels}", rows


def _block_rows(block: list[Node]) -> list[list[_Box]]:
    rows: list[list[_Box]] = []
    for node in block:
        if node.kind == graph.BRANCH:
            assert node.channels is not None
            first = node.channels[0] == 0
            share = f"channels {node.channels[0]}-{node.channels[1] - 1}"
            box = _Box((*_label(node), share), _colour(node), *((0.0, 0.49) if first else (0.51, 1.0)))
            if first:
                rows.append([box])
            else:
                rows[-1].append(box)
        elif node.kind not in (graph.SPLIT, graph.CONCAT):
            rows.append([_Box(_label(node), _colour(node))])
    return rows


def _times(box: _Box, count: int) -> _Box:
    return box if count == 1 else replace(box, lines=(f"{count} x {box.lines[0]}", *box.lines[1:]))


def _label(node: Node) -> tuple[str, ...]:
    """The operator's name, and its settings where it has any; truth values by name, others by value."""
    special = {graph.PROJECTION: f"projection to {node.out_shape[2]}", graph.CONTEXT: "overview context"}
    if node.kind == graph.HEAD and node.operator == AVERAGE_POOL.name:
        name = "average pool, linear"
    else:
        suffix = {Kind.STEM: " stem", Kind.DOWNSAMPLE: " downsample", Kind.HEAD: " head", Kind.NORM: " norm"}
        after = suffix.get(Kind(node.kind), "") if node.kind in list(Kind) else ""
        name = special.get(node.kind, node.operator.replace("_", " ") + after)
    settings = [(key if value else "") if isinstance(value, bool) else f"{key} {value}" for key, value in node.settings]
    settings += [f"{node.out_shape[2]} classes"] if node.kind == graph.HEAD else []
    if node.residual not in ("", LAYER_SCALE.name):
        joined = node.residual.replace("_", " ")
        settings.append(joined if "residual" in joined else f"{joined} residual")
    text = ", ".join(part for part in settings if part)
    return (name, text) if text else (name,)


def _group(node: Node) -> Group | None:
    if node.kind in (Kind.TOKEN_MIXER, graph.BRANCH):
        return operator(Kind.TOKEN_MIXER, node.operator).group
    return None


def _colour(node: Node) -> str:
    group = _group(node)
    if group is not None:
        return COLOURS[group]
    return _CHANNEL if node.kind == Kind.CHANNEL_MIXER else _FRAME


def _draw_column(axes: Axes, x: float, title: str, rows: list[list[_Box]], *, last: bool) -> None:
    name, shape = title.split("\n")
    axes.text(x + _WIDTH / 2, -0.2, name, ha="center", va="center", fontsize=11, fontweight="bold", color=_INK)
    axes.text(x + _WIDTH / 2, -0.5, shape, ha="center", va="center", fontsize=9, color=_SOFT)
    y = -0.8
    for index, row in enumerate(rows):
        for box in row:
            _draw_box(axes, x + box.left * _WIDTH, y, (box.right - box.left) * _WIDTH, box)
        if index + 1 < len(rows):
            _arrow(axes, (x + _WIDTH / 2, y - _BOX), (x + _WIDTH / 2, y - _BOX - _GAP))
        y -= _BOX + _GAP
    if not last:
        _arrow(axes, (x + _WIDTH + 0.06, -0.2), (x + _COLUMN - 0.06, -0.2))


def _draw_box(axes: Axes, x: float, y: float, width: float, box: _Box) -> None:
    shape = FancyBboxPatch(
        (x, y - _BOX),
        width,
        _BOX,
        boxstyle="round,pad=0,rounding_size=0.07",
        facecolor=box.colour,
        edgecolor=_SOFT,
        linewidth=0.7,
    )
    axes.add_patch(shape)
    # DejaVu Sans takes about 0.6 of its size a letter: shrink what would not fit, in points a data unit of 0.82 inches.
    longest = max(len(line) for line in box.lines)
    size = min(8.5, width * 0.82 * 72 / (0.6 * longest))
    step = 0.2 if len(box.lines) > 2 else 0.24
    for index, line in enumerate(box.lines):
        middle = y - _BOX / 2 + ((len(box.lines) - 1) / 2 - index) * step
        weight, ink = ("bold", _INK) if index == 0 else ("normal", "#3c434c")
        axes.text(x + width / 2, middle, line, ha="center", va="center", fontsize=size, fontweight=weight, color=ink)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": _SOFT, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    )


def _legend(axes: Axes, found: Sequence[Node]) -> None:
    groups = dict.fromkeys(group for group in map(_group, found) if group is not None)
    handles = [
        Patch(facecolor=COLOURS[group], edgecolor=_SOFT, label="identity" if group == Group.NONE else group.value)
        for group in groups
    ]
    handles += [Patch(facecolor=_CHANNEL, edgecolor=_SOFT, label="channel mixer")]
    handles += [Patch(facecolor=_FRAME, edgecolor=_SOFT, label="stem, downsample, head")]
    axes.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8, frameon=False, bbox_to_anchor=(0.5, 0.0))
