"""Node times inside ONNX Runtime: what its profiler says of each kernel, summed by the node whose weights the kernel reads.

ONNX Runtime fuses neighbours, moves maps between layouts and starts a kernel in a microsecond, so that times taken in eager
mode tell little of it. Its own profiler tells what each kernel of the optimised graph takes in its place. A kernel belongs to
the node whose parameters it reads. Where none tells, it lies between two nodes that are told, and belongs to one without
kernels there, or to a neighbour, which leaves the sum over a network as it is. Writing a kernel down takes some microseconds,
often longer than the kernel: the network also runs without its profiler, and what the profiled runs take longer is shared out
by kernels.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas.errors import MeasurementError
from nas.predictors.anchor import anchor
from nas.predictors.fresh_weights import told_apart
from nas.predictors.interleaving import undisturbed
from nas.predictors.latency_table import LatencyTable
from nas.predictors.machine import machine_state, pinned
from nas.predictors.measure import threads
from nas.predictors.node_timing import Refuse, around_runs, time_in_place, unlooked
from nas.predictors.runtimes.onnxruntime import exported, open_session, session_options
from nas.predictors.samples import Record, unrecorded
from nas.predictors.target import Target
from nas.predictors.timings import Array, Visit
from nas.predictors.visits import Series
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.graph import Node, nodes

BLOCKS, WARM, PASSES = 6, 2, 5
"""Blocks of passes between two runs of the anchor; of each, the first passes find the caches as the anchor left them."""
LEAST = 5e-7
"""Seconds of a node whose kernels were all fused into its neighbours."""
MICRO = 1e-6
SHARED = 30
"""Times that what some nodes cannot give back is shared out among the others; it ends sooner as a rule."""
KERNEL = "_kernel_time"
KERNELS, IN_PLACE = "kernels of ONNX Runtime, weights told apart", "in place"
WEIGHTY = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose")
"""Kernels that work with weights."""


def node_clock(target: Target) -> str:
    """How the nodes of whole networks are timed on a target: by its own kernels, or in place in eager mode."""
    return KERNELS if (target.runtime, target.precision) == ("onnxruntime", "fp32") else IN_PLACE


def time_in_network(
    architecture: Architecture, table: LatencyTable, record: Record = unrecorded, refuse: Refuse = unlooked
) -> list[tuple[Node, float]]:
    """Every node of an architecture with its seconds, by the clock of the table's target.

    None where the network does not run: `refuse` is given its nodes then.
    """
    try:
        if node_clock(table.target) == IN_PLACE:
            return time_in_place(architecture, table, record)
        return time_kernels(architecture, table, record)
    except MeasurementError as error:
        refuse(nodes(architecture, None, table.in_channels, table.num_classes), error)
        return []


def time_kernels(
    architecture: Architecture, table: LatencyTable, record: Record = unrecorded, file: Path | None = None
) -> list[tuple[Node, float]]:
    """Every node with the seconds of its kernels, normalised by the anchor beside them.

    `file` is the architecture's export where there is one already; `record` is given the seconds of every node's passes.
    Raises MeasurementError where the network cannot be exported or run.
    """
    target, side = table.target, architecture.resolution
    found = nodes(architecture, None, table.in_channels, table.num_classes)
    example = torch.randn(target.batch, table.in_channels, side, side)
    at = time.time()
    with (
        tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder,
        threads(target.threads),
        pinned(target.threads) as cpus,
        undisturbed(),
    ):
        path, optimised = file or Path(folder) / "model.onnx", Path(folder) / "optimised.onnx"
        if file is None:
            exported(told_apart(build(architecture, table.num_classes, table.in_channels)), example, path)
        plain, options = open_session(path, session_options(target)), session_options(target)
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        options.optimized_model_filepath = str(optimised)
        session = open_session(path, options)
        state = machine_state(cpus)
        feed, beside = {session.get_inputs()[0].name: example.numpy()}, Series(anchor(target))
        anchors, whole, told = [beside.again()], Series(lambda: plain.run(None, feed)), Series(lambda: session.run(None, feed))
        totals = []
        for _ in range(BLOCKS):
            for _ in range(WARM + PASSES):
                told.once()
            totals.append([whole.once() for _ in range(WARM + PASSES)])
            anchors.append(beside.again())
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        owners = kernel_owners(optimised, [node.name for node in found])
    taken = node_passes(events, owners, len(found))
    if len(taken) != BLOCKS * (WARM + PASSES):
        raise MeasurementError(
            f"ONNX Runtime's profile has {len(taken)} passes of {BLOCKS * (WARM + PASSES)}; update onnxruntime"
        )
    passes = taken.reshape(BLOCKS, WARM + PASSES, -1)[1:, WARM:].reshape(-1, len(found))
    around = np.repeat(around_runs(anchors)[1:], PASSES)
    kernels = np.bincount(list(owners.values()), minlength=len(found))
    record("anchor", "", Visit(at, table.census, tuple(anchors), None, state))
    for place, node in enumerate(found):
        runs = tuple(passes[:, place].tolist())
        record("node", node.key, Visit(at, table.census, runs, None, state, beside=tuple(around)))
    factors = (around / (table.anchor or float(np.median(around))))[:, None]
    alone = float(np.median(np.array(totals)[1:, WARM:].reshape(-1, 1) / factors))
    seconds = without_profiler(np.median(passes / factors, axis=0), kernels, alone)
    return list(zip(found, seconds.tolist(), strict=True))


def without_profiler(recorded: Array, kernels: NDArray[np.int64], whole: float) -> Array:
    """Seconds of nodes, (n,), whose recorded ones, (n,), sum to more than the `whole` network takes without its profiler.

    For each of their `kernels`, (n,), as much is taken off as makes up the difference. None is below LEAST.
    """
    excess, rest = max(float(recorded.sum()) - whole, 0.0), recorded
    for _ in range(SHARED):
        # A node cannot give more than it has: what is left over is taken from the others.
        rest = np.maximum(recorded - excess / kernels.sum() * kernels, LEAST)
        excess += max(float(rest.sum()) - whole, 0.0)
    return rest


def kernel_owners(path: Path, names: Sequence[str]) -> dict[str, int]:
    """By the name of a kernel of an ONNX file, the place among the node `names` of the one that it belongs to.

    Where no parameter tells, it is the first node without any told kernel between the one that the kernel follows from and the
    one that follows from it; else the one that it follows from, or where it reads a weight whose name an optimiser lost, the
    one that follows from it, as a norm before it is folded into that weight.
    """
    import onnx

    graph = onnx.load(path).graph
    kernels, place = list(graph.node), {name: number for number, name in enumerate(names)}
    lost = {item.name for item in graph.initializer if len(item.dims) > 1 and not _is_parameter(item.name.split("."), place)}
    told = {
        kernel.name: max(read)
        for kernel in kernels
        if (read := [place[part[1]] for part in (name.split(".") for name in kernel.input) if _is_parameter(part, place)])
    }
    after = _following(kernels, told)
    silent = sorted(set(place.values()) - set(told.values()))
    owner: dict[str, int] = {}
    of_value: dict[str, int] = {}
    for kernel in kernels:
        first = max((of_value[name] for name in kernel.input if name in of_value), default=-1)
        last = max(after.get(kernel.name, first), first)
        weighty = kernel.op_type in WEIGHTY and not lost.isdisjoint(kernel.input)
        between = [node for node in silent if first < node < last or (weighty and node == last)]
        guess = between[0] if between else last if weighty else first
        owner[kernel.name] = told.get(kernel.name, max(guess, 0))
        of_value.update(dict.fromkeys(kernel.output, owner[kernel.name]))
    return owner


def _following(kernels: Sequence[Any], told: Mapping[str, int]) -> dict[str, int]:
    """By the name of a kernel, the first node among those that are told to follow from what it puts out."""
    needed: dict[str, int] = {}
    found: dict[str, int] = {}
    for kernel in reversed(kernels):
        later = [needed[name] for name in kernel.output if name in needed]
        if later:
            found[kernel.name] = min(later)
        own = told.get(kernel.name, found.get(kernel.name))
        if own is not None:
            for name in kernel.input:
                needed[name] = min(own, needed.get(name, own))
    return found


def _is_parameter(part: list[str], place: Mapping[str, int]) -> bool:
    """Whether a dotted name is that of a node's parameter: `nodes.NODE.…`."""
    return len(part) > 2 and part[0] == "nodes" and part[1] in place


def node_passes(events: Sequence[Mapping[str, Any]], owners: Mapping[str, int], number: int) -> np.ndarray[Any, Any]:
    """Seconds (passes, nodes) from the events of a profile. Raises MeasurementError for a profile without kernels."""
    taken: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            taken[event["name"].removesuffix(KERNEL)].append(event["dur"] * MICRO)
    known = [name for name in taken if name in owners]
    if not known:
        raise MeasurementError("ONNX Runtime's profile names none of the network's kernels; update onnxruntime")
    passes = np.zeros((min(len(taken[name]) for name in known), number))
    for name in known:
        passes[:, owners[name]] += taken[name][: len(passes)]
    return passes
