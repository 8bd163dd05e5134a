"""`backbone.py`: the source of a standalone module that needs torch alone and names its weights as `Backbone` does."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from nas.errors import FileError
from nas.quantities import format_count
from nas.results import weights
from nas.results.inline import Inliner
from nas.results.sources import Definition
from nas.search_spaces import graph, layers
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone, FeatureInfo
from nas.search_spaces.graph import IMAGE, Node, nodes
from nas.search_spaces.registry import Kind, Operator, operator

LINE = 128
_GENERATED = ("Backbone", "load", "model", "example", "path")

_HEADER = '''"""A vision backbone found by architecture search (digest {digest}); needs torch alone.

    from backbone import load
    model = load()                         # reads weights.safetensors beside this file; logits (B, {num_classes})
    pyramid = load(features_only=True)     # the list of stage maps (B, C, H, W); what they are: pyramid.feature_info

Made for images (B, {in_channels}, {resolution}, {resolution}); {params} parameters. Generated: edit a copy.
"""

from __future__ import annotations

{imports}


{body}

class Backbone(nn.Module):
    """(B, in_channels, H, W) -> logits (B, num_classes), or with `features_only` the maps of the stages (B, C, H, W)."""

    def __init__(self, {parameters}, *, features_only: bool = False) -> None:
        super().__init__()
        self.feature_info = FeatureInfo(
            [
{features}
            ]
        )
        self.features_only = features_only
        self.nodes = nn.ModuleDict()
{constructors}

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits, or the maps of a feature pyramid."""
{forward}


def load(weights_path: str | Path | None = None, *, features_only: bool = False) -> Backbone:
    """The backbone with its trained weights, in evaluation mode; the weights are `weights.safetensors` beside this file."""
    path = Path(__file__).with_name("weights.safetensors") if weights_path is None else Path(weights_path)
    model = Backbone(features_only=features_only)
    weights = {{k: v for k, v in read_weights(path).items() if not (features_only and k.startswith("nodes.head."))}}
    model.load_state_dict(weights)
    return model.eval()


if __name__ == "__main__":
    model = load()
    example = torch.zeros(1, {in_channels}, {resolution}, {resolution})
    with torch.no_grad():
        print(f"{{tuple(example.shape)}} -> {{tuple(model(example).shape)}}")
'''


@dataclass(frozen=True, slots=True)
class _Call:
    """A constructor call as text: its name, its arguments."""

    name: str
    arguments: tuple[_Call | str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})"

    def lines(self, indent: int, before: str, after: str = "") -> list[str]:
        """The call behind `before`, broken over lines where it is longer than LINE."""
        whole = " " * indent + before + str(self) + after
        inner = " " * (indent + 4) + ", ".join(map(str, self.arguments))
        if len(whole) <= LINE:
            return [whole]
        if len(inner) <= LINE:
            return [" " * indent + before + self.name + "(", inner, " " * indent + ")" + after]
        found = [" " * indent + before + self.name + "("]
        for argument in self.arguments:
            if isinstance(argument, _Call):
                found += argument.lines(indent + 4, "", ",")
            else:
                found.append(" " * (indent + 4) + argument + ",")
        return [*found, " " * indent + ")" + after]


def bundle_source(backbone: Backbone, *, num_classes: int, in_channels: int) -> str:
    """The Python source of a standalone module with the weights' names of `backbone`.

    Raises FileError where an operator cannot be copied (it imports more than torch, or is defined inside a function).
    """
    architecture = backbone.architecture
    found = nodes(architecture, None, in_channels, num_classes)
    used = _operators(found)
    inliner = Inliner({op.module.__module__.partition(".")[0] for op in used}, _GENERATED)
    for module, name in (("torch", None), ("torch", "nn"), ("torch", "Tensor"), ("pathlib", "Path")):
        inliner.use_import(module, name)
    for op in used:
        inliner.use(op.module.__module__, op.module.__qualname__)
    constructors = [(node, _constructor(node, inliner)) for node in found]
    for helper in (FeatureInfo, weights.read_weights):
        inliner.use(helper.__module__, helper.__qualname__)
    cites = {Definition(op.module.__module__, op.module.__qualname__): op for op in used}
    return _HEADER.format(
        digest=architecture.digest,
        resolution=architecture.resolution,
        num_classes=num_classes,
        in_channels=in_channels,
        parameters=f"num_classes: int = {num_classes}, in_channels: int = {in_channels}",
        params=format_count(sum(p.numel() for p in backbone.parameters())),
        body=inliner.body(lambda d: _cite(cites[d]) if d in cites else ""),
        imports=inliner.imports(),
        features=_features(architecture),
        constructors="\n".join(_constructor_lines(architecture, constructors)),
        forward="\n".join(" " * 8 + line for line in _forward(found)),
    )


def _cite(op: Operator) -> str:
    """Where an operator comes from, as comment lines."""
    return textwrap.fill(f"{op.kind} {op.name}: {op.cite}", LINE, initial_indent="# ", subsequent_indent="#   ") + "\n"


def _operators(found: Iterable[Node]) -> list[Operator]:
    """The registered operators of the nodes, each once."""
    wanted: dict[tuple[Kind, str], None] = {}
    for node in found:
        kind = Kind.TOKEN_MIXER if node.kind == graph.BRANCH else node.kind
        if kind in list(Kind):
            wanted[Kind(kind), node.operator] = None
        if node.norm:
            wanted[Kind.NORM, node.norm] = None
    return [operator(kind, name) for kind, name in wanted]


def _constructor(node: Node, inliner: Inliner) -> _Call:
    """The expression that makes the module which `nas.search_spaces.backbone.module_of` makes for a node."""

    def call(module: type[nn.Module], *arguments: _Call | str | int) -> _Call:
        name = inliner.use(module.__module__, module.__qualname__)
        return _Call(name, tuple(a if isinstance(a, _Call) else str(a) for a in arguments))

    def norm(width: int) -> _Call:
        return call(operator(Kind.NORM, node.norm).module, width)

    def op(kind: Kind, *sizes: str | int) -> _Call:
        return call(operator(kind, node.operator).module, *sizes, *(f"{k}={_literal(v)}" for k, v in node.settings))

    (size, _, in_width), width = node.in_shape, node.out_shape[2]
    match node.kind:
        case graph.CONCAT:
            return call(layers.Concat, width)
        case graph.BRANCH:
            assert node.channels is not None
            return call(layers.Branch, op(Kind.TOKEN_MIXER, in_width, size), *node.channels)
        case Kind.STEM:
            return call(layers.Stem, op(Kind.STEM, "in_channels", width), norm(width))
        case Kind.DOWNSAMPLE:
            return call(layers.Downsample, norm(in_width), op(Kind.DOWNSAMPLE, in_width, width))
        case graph.SPLIT:
            return call(layers.Normed, norm(width))
        case graph.PROJECTION:
            return call(layers.Projection, norm(in_width), in_width, width)
        case graph.HEAD:
            return call(layers.Head, norm(in_width), in_width, "num_classes")
        case _:
            return call(layers.Residual, norm(width), op(Kind(node.kind), in_width, size), width)


def _literal(value: object) -> str:
    """The value as Python source, strings in double quotes."""
    if isinstance(value, str):
        if '"' in value or "\\" in value:
            raise FileError(f"cannot export the setting {value!r}: choices are plain words; rename it")
        return f'"{value}"'
    return repr(value)


def _constructor_lines(architecture: Architecture, constructors: list[tuple[Node, _Call]]) -> list[str]:
    lines: list[str] = []
    stage = None
    for node, call in constructors:
        indent = 8
        if node.stage is not None and node.stage != stage:
            stage = node.stage
            height, width, channels = node.out_shape
            lines.append(
                f"        # stage {stage}: {channels} channels, {height} x {width} at {architecture.resolution} pixels"
            )
        if node.kind == graph.HEAD:
            lines.append("        if not features_only:")
            indent = 12
        lines += call.lines(indent, f'self.nodes["{node.name}"] = ')
    return lines


def _features(architecture: Architecture) -> str:
    info = Backbone(architecture, features_only=True).feature_info
    assert info is not None
    entries = [", ".join(f'"{k}": {_literal(v)}' for k, v in entry.items()) for entry in info.get_dicts()]
    return "\n".join(" " * 16 + "{" + entry + "}," for entry in entries)


def _forward(found: tuple[Node, ...]) -> list[str]:
    """One line a node. The running tensor is `x`; what must outlive it, while branches are computed, has its node's name."""
    variable = {IMAGE: "image"}
    lines = ["maps = []"]
    for index, node in enumerate(found):
        call = f'self.nodes["{node.name}"]({", ".join(variable[source] for source in node.inputs)})'
        if node.kind == graph.HEAD:
            return [*lines, "if self.features_only:", "    return maps", f"return {call}"]
        running = next((name for name, text in variable.items() if text == "x"), None)
        kept = any(running in later.inputs for later in found[index + 1 :])
        variable[node.name] = node.name if kept else "x"
        if not kept and running is not None:
            del variable[running]
        lines.append(f"{variable[node.name]} = {call}")
        if found[index + 1].stage != node.stage and node.stage is not None:
            lines.append(f"maps.append({variable[node.name]}.permute(0, 3, 1, 2))")
    raise AssertionError("an architecture ends in a head")
