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
from nas.search_spaces.architecture import LAYER_SCALE, Architecture, Op
from nas.search_spaces.backbone import Backbone, FeatureInfo
from nas.search_spaces.graph import IMAGE, Node, nodes
from nas.search_spaces.registry import Kind, Operator, Settings, operator

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
    made = _Constructors(inliner)
    constructors = [(node, made.of(node)) for node in found]
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
            wanted[Kind.NORM, Op.parse(node.norm).name] = None
        if node.residual and not (node.kind == graph.CONCAT and Op.parse(node.residual).name == LAYER_SCALE.name):
            wanted[Kind.RESIDUAL, Op.parse(node.residual).name] = None
    return [operator(kind, name) for kind, name in wanted]


class _Constructors:
    """The expressions that make the modules which `nas.search_spaces.backbone.module_of` makes."""

    def __init__(self, inliner: Inliner) -> None:
        self.inliner = inliner

    def of(self, node: Node) -> _Call:
        """The expression for one node."""
        (_, _, in_width), width = node.in_shape, node.out_shape[2]
        match node.kind:
            case graph.CONCAT:
                return self._concat(node, width)
            case graph.BRANCH:
                assert node.channels is not None
                return self._call(layers.Branch, self._op(Kind.TOKEN_MIXER, node, in_width, node.size), *node.channels)
            case graph.CONTEXT:
                linear = node.operator == "linear"
                return self._call(layers.Context, in_width, width) if linear else self._call(layers.Resized)
            case Kind.RESIDUAL:
                return self._op(Kind.RESIDUAL, node, *self._nothing(), width)
            case Kind.STEM:
                return self._call(layers.Stem, self._mapping(Kind.STEM, node, "in_channels"), self._norm(node, width))
            case Kind.DOWNSAMPLE:
                return self._call(
                    layers.Downsample, self._norm(node, in_width), self._mapping(Kind.DOWNSAMPLE, node, str(in_width))
                )
            case graph.SPLIT | Kind.NORM:
                return self._call(layers.Normed, self._norm(node, width))
            case graph.PROJECTION:
                return self._call(layers.Projection, self._norm(node, in_width), in_width, width)
            case graph.HEAD:
                return self._op(Kind.HEAD, node, self._norm(node), in_width, node.size, "num_classes")
        mixer = self._op(Kind(node.kind), node, in_width, node.size)
        return self._residual(Op.parse(node.residual), self._norm(node, width), mixer, width)

    def _call(self, module: type[nn.Module], *arguments: _Call | str | int) -> _Call:
        name = self.inliner.use(module.__module__, module.__qualname__)
        return _Call(name, tuple(a if isinstance(a, _Call) else str(a) for a in arguments))

    def _op(self, kind: Kind, node: Node, *arguments: _Call | str | int) -> _Call:
        return self._call(operator(kind, node.operator).module, *arguments, *_keywords(node.settings))

    def _mapping(self, kind: Kind, node: Node, in_width: str) -> _Call:
        """A stem or downsample."""
        size = (node.size,) if operator(kind, node.operator).sized else ()
        return self._op(kind, node, in_width, node.out_shape[2], *size)

    def _norm(self, node: Node, width: int | None = None) -> _Call | str:
        """The norm of a width, or what makes one of any."""
        norm = Op.parse(node.norm)
        module = operator(Kind.NORM, norm.name).module
        if width is not None:
            return self._call(module, width, *_keywords(norm.settings))
        name = self.inliner.use(module.__module__, module.__qualname__)
        if not norm.settings:
            return name
        return _Call(self.inliner.use_import("functools", "partial"), (name, *_keywords(norm.settings)))

    def _residual(self, residual: Op, *arguments: _Call | str | int) -> _Call:
        return self._call(operator(Kind.RESIDUAL, residual.name).module, *arguments, *_keywords(residual.settings))

    def _concat(self, node: Node, width: int) -> _Call:
        residual = Op.parse(node.residual)
        if residual.name == LAYER_SCALE.name:
            return self._call(layers.Concat, width, *_keywords(residual.settings))
        return self._call(layers.Joined, self._residual(residual, *self._nothing(), width))

    def _nothing(self) -> tuple[str, str]:
        """What stands for the norm and the operator of a residual without them."""
        name = self.inliner.use_import("torch", "nn")
        return f"{name}.Identity()", f"{name}.Identity()"


def _keywords(settings: Settings) -> list[str]:
    return [f"{name}={_literal(value)}" for name, value in settings]


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
    """One line a node. The running tensor is `x`; what must outlive it, while others are computed, has its node's name."""
    variable = {IMAGE: "image"}
    lines = ["maps = []"]
    for index, node in enumerate(found):
        call = f'self.nodes["{node.name}"]({", ".join(variable[source] for source in node.inputs)})'
        later = {source for following in found[index + 1 :] for source in following.inputs}
        if node.kind == graph.HEAD:
            return [*lines, "if self.features_only:", "    return maps", f"return {call}"]
        running = next((name for name, text in variable.items() if text == "x"), None)
        variable[node.name] = node.name if running in later else "x"
        if running not in later and running is not None:
            del variable[running]
        target = variable[node.name]
        if node.emits:
            emitted = f"{node.name}:{node.emits}"
            variable[emitted] = f"{node.name}_{node.emits}" if emitted in later else "_"
            target += f", {variable[emitted]}"
        lines.append(f"{target} = {call}")
        if node.stage is not None and _ends_stage(node, found[index + 1 :]):
            lines.append(f"maps.append({variable[node.name]}.permute(0, 3, 1, 2))")
    raise AssertionError("an architecture ends in a head")


def _ends_stage(node: Node, following: tuple[Node, ...]) -> bool:
    return not any(later.stage == node.stage for later in following)
