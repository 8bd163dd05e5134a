"""A quicker way to the kernels that ONNX Runtime runs: what it simplifies itself is not simplified before.

Four tenths of an export go to rules that rewrite the model, and ONNX Runtime applies its own to whatever it loads.
Without the exporter's it ends at the same kernels but for some that only count axes otherwise, which cost it next to nothing;
reshapes that follow one another are joined here. Files that are handed over keep all of the exporter's rules: other runtimes
and quantisers rely on them.
"""

from __future__ import annotations

from typing import Any


def lighten(model: Any) -> None:
    """Fold constants, join reshapes and drop what is unused, in place, in an `onnx_ir.Model` that was not optimised."""
    import onnx_ir.passes.common as passes
    from onnxscript import optimizer

    passes.InlinePass()(model)
    optimizer.fold_constants(model, onnx_shape_inference=True)
    _join_reshapes(model)
    for tidy in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        tidy(model)


def _join_reshapes(model: Any) -> None:
    """Let a reshape read what the reshape before it reads, and nothing wait for one that keeps the shape."""
    for node in list(model.graph):
        if node.op_type != "Reshape":
            continue
        before, shape, out = node.inputs[0].producer(), node.inputs[1].const_value, node.outputs[0]
        # A zero in the shape stands for a side of what is read, which the reshape before it may change.
        if before is not None and before.op_type == "Reshape" and shape is not None and (shape.numpy() != 0).all():
            node.replace_input_with(0, before.inputs[0])
        source = node.inputs[0]
        known = source.shape is not None and out.shape is not None and source.shape.is_static() and out.shape.is_static()
        if known and list(source.shape) == list(out.shape) and not out.is_graph_output():
            for use in list(out.uses()):
                use.node.replace_input_with(use.idx, source)
