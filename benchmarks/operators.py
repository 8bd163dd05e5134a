"""Speed and training memory of the operators against timm's and the official modules with the same settings.

    python benchmarks/operators.py [--official DIR] [--only NAME ...] [--rounds 15] [--resume] [--json FILE]

DIR holds checkouts of the official repositories as DIR/owner+name, which the user makes; what cannot be run is listed with what
it lacks. Packages that official code imports and that are not installed count as missing only when they are used; most of it
uses einops, and scattering pytorch_wavelets (PYTHONPATH will do).

Speed: one CPU thread, batch 1 and 16, eval mode without gradients, and forward and backward at batch 16 in train mode. Both
sides run in turn, A B B A, in one process; the ratio (ours / theirs) is that of the medians, its interval holds 95 % of 1000
resamplings of the rounds. Each side gets its map in its own layout. Memory: the peak of the tensors alive that were made during
one training step of a block x + op(norm(x)) at 56 x 56 x 64, batch 16 (fewer images where that exceeds 4 GB), without what
kernels use inside. Every token mixer also gets its peak over that of depthwise_conv. Writes benchmarks/results/operators.json
and .md after each case; --resume keeps the rows that were measured.
"""

from __future__ import annotations

import argparse
import json
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from operator_cases import TIMM
from operator_official import OFFICIAL
from operator_sides import Case, Here, NotRunnableError, Side, ours, theirs
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nas.predictors.environment import environment
from nas.predictors.listening import Listening
from nas.search_spaces.registry import Kind, operators

RESULTS = Path(__file__).parent / "results" / "operators.json"
MOST_BYTES = 4e9
SLOW, HEAVY = 1.0, 1.2
"""Ratios above these are listed with their reason."""
BUDGET_SECONDS = 6.0
"""Roughly what the rounds of one comparison may take, where that allows more than the least number of rounds."""


class PeakMemory(Listening):
    """Counts the bytes of the storages that operators give and that are still alive; `peak` is the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.peak = 0, 0
        self.known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(given):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return given

    def before(self, *tensors: Tensor) -> None:
        """Leave the storages of these out: they were there before."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self.known[id(storage)] = weakref.ref(storage)

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.known and self.known[key]() is storage:
            return

        def freed(_: object) -> None:
            self.alive -= size
            del self.known[key]

        self.known[key] = weakref.ref(storage, freed)
        self.alive += size
        self.peak = max(self.peak, self.alive)


def peak_bytes(side: Side, batch: int) -> int:
    """Of one training step of a block: forward and backward of x + op(norm(x))."""
    norm, side = side.norm(), side.train()
    x = side.input(batch)
    meter = PeakMemory()
    meter.before(x, *(each for module in (norm, side) for each in (*module.parameters(), *module.buffers())))
    with meter:
        (x + side(norm(x))).sum().backward()
    return meter.peak


def memory(make: Callable[[], Side], other: Callable[[], Side] | None) -> dict[str, Any]:
    """Peak bytes of both sides and their ratio, and the batch."""
    single = max(peak_bytes(each(), 2) for each in (make, other) if each is not None) / 2
    batch = int(max(2, min(16, MOST_BYTES // single)))
    mine = peak_bytes(make(), batch)
    if other is None:
        return {"batch": batch, "bytes": mine}
    its = peak_bytes(other(), batch)
    return {"batch": batch, "bytes": mine, "their_bytes": its, "ratio": mine / its}


@contextmanager
def no_gradients(side: Side) -> Iterator[None]:
    """As in use: eval mode, inference."""
    side.eval()
    with torch.inference_mode():
        yield


def forward_only(side: Side, x: Tensor) -> None:
    """One inference."""
    with no_gradients(side):
        side(x)


def step(side: Side, x: Tensor) -> None:
    """Forward and backward, with the gradient of the input, as inside a network.

    The gradient that comes from behind is a whole map: an expanded scalar, which `sum().backward()` hands over, takes other
    paths through some kernels.
    """
    side.train()
    x.requires_grad_(True)
    x.grad = None
    side.zero_grad(set_to_none=True)
    y = side(x)
    y.backward(torch.ones_like(y))


def compare(run: Callable[[Side, Tensor], None], mine: Side, its: Side, batch: int, least: int) -> dict[str, Any]:
    """Median CPU seconds of both sides, which what else runs does not lengthen, and their ratio with its interval."""
    inputs = {side: side.input(batch) for side in (mine, its)}

    def seconds(side: Side) -> float:
        began = time.process_time()
        run(side, inputs[side])
        return time.process_time() - began

    seconds(mine), seconds(its)
    took = seconds(mine) + seconds(its)
    rounds = []
    for _ in range(max(least, min(100, int(BUDGET_SECONDS / 2 / took)))):
        first, second, third, fourth = seconds(mine), seconds(its), seconds(its), seconds(mine)
        rounds.append((first, fourth, second, third))
    return {**summary(torch.tensor(rounds, dtype=torch.float64)), "rounds": len(rounds)}


def summary(rounds: Tensor) -> dict[str, Any]:
    """Of (rounds, 4): the first two columns ours, the others theirs."""
    picks = torch.randint(len(rounds), (1000, len(rounds)), generator=torch.Generator().manual_seed(0))
    drawn = rounds[picks]
    ratios = drawn[..., :2].flatten(1).median(1).values / drawn[..., 2:].flatten(1).median(1).values
    mine, its = float(rounds[:, :2].flatten().median()), float(rounds[:, 2:].flatten().median())
    low, high = ratios.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"seconds": mine, "their_seconds": its, "ratio": mine / its, "low": low, "high": high}


def parameters(side: nn.Module) -> int:
    """How many there are."""
    return sum(each.numel() for each in side.parameters())


def row_of(case: Case, official: Path | None, rounds: int) -> dict[str, Any]:
    """All measurements of one case, or why there are none."""
    here, small = case.here(), case.small()
    row: dict[str, Any] = {
        "operator": case.operator, "kind": str(case.kind), "width": here.width, "size": here.size,
        "settings": dict(case.settings), "theirs": case.where,
    }  # fmt: skip
    mine = ours(case.kind, case.operator, here, case.skips, row=case.row)
    try:
        its = theirs(case, here, official)
        row["parameters"], row["their_parameters"] = parameters(mine), parameters(its)
        for batch in (1, 16):
            row[f"batch_{batch}"] = compare(forward_only, mine, its, batch, rounds)
        if case.training:
            row["training"] = compare(step, mine, its, 16, rounds)
        if case.memory:
            row["memory"] = memory(
                lambda: ours(case.kind, case.operator, small, case.skips, row=case.row), lambda: theirs(case, small, official)
            )
    except (NotRunnableError, RuntimeError, AttributeError, TypeError, AssertionError, ValueError) as error:
        row["not_runnable"] = str(error) if isinstance(error, NotRunnableError) else f"{type(error).__name__}: {error}"[:300]
    return row


def memory_of_all(rows: dict[str, Any], only: list[str], write: Callable[[], None]) -> None:
    """The peak of each token mixer at its first legal settings over that of depthwise_conv."""

    def peak(name: str, settings: Any) -> dict[str, Any]:
        return memory(lambda: ours(Kind.TOKEN_MIXER, name, Here(64, 56, dict(settings))), None)

    base = peak("depthwise_conv", {"kernel": 3, "dilation": 1})
    for op in operators(Kind.TOKEN_MIXER):
        settings = op.repair({}, 64, 56)
        if settings is None or op.name in rows or (only and op.name not in only):
            continue
        found = peak(op.name, settings)
        ratio = found["bytes"] / found["batch"] / (base["bytes"] / base["batch"])
        rows[op.name] = {"settings": dict(settings), **found, "over_depthwise_conv": ratio}
        print(f"{op.name:<36} memory {ratio:6.2f} x depthwise_conv", flush=True)
        write()


def reasons(case: Case, row: dict[str, Any]) -> dict[str, str]:
    """The reasons of the ratios of a row that are above their limit, "" where none is known.

    A time whose interval holds the limit is no slower than the measurement can tell.
    """
    found = {}
    for column in ("batch_1", "batch_16", "training"):
        measured = row.get(column, {"ratio": 0, "low": 0})
        if measured["ratio"] > SLOW:
            found[column] = "its interval holds 1.0" if measured["low"] <= SLOW else case.slow
    if row.get("memory", {}).get("ratio", 0) > HEAVY:
        found["memory"] = case.heavy
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown: ratios ours / theirs."""

    def cell(row: dict[str, Any], column: str) -> str:
        value = row.get(column)
        if not value:
            return "-"
        interval = f" ({value['low']:.2f}-{value['high']:.2f})" if "low" in value else f" (batch {value['batch']})"
        return f"{value['ratio']:.2f}{interval}"

    lines = [
        "Ours / theirs. Speed on one CPU thread, medians (95 % interval); memory of a training step at 56x56x64.", "",
        "| case | place | batch 1 | batch 16 | training | memory |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    ran = {name: row for name, row in found["rows"].items() if "not_runnable" not in row}
    for name, row in ran.items():
        cells = " | ".join(cell(row, column) for column in ("batch_1", "batch_16", "training", "memory"))
        lines.append(f"| {name} | {row['width']} at {row['size']} | {cells} |")
    above = [(name, column, why) for name, row in ran.items() for column, why in row["reasons"].items()]
    lines += ["", "Above the limits:", ""]
    lines += [f"- {name}, {column}: {why or 'no reason known yet'}" for name, column, why in above]
    lacks = [f"- {name}: {row['not_runnable']}" for name, row in found["rows"].items() if "not_runnable" in row]
    lines += ["", "Not runnable here:", "", *lacks, "", "Peak memory of a training step over that of depthwise_conv:", ""]
    lines += [f"- {name}: {row['over_depthwise_conv']:.2f}" for name, row in found["memory_of_all"].items()]
    return "\n".join(lines) + "\n"


def settle_allocator() -> None:
    """Free one large block: from then on the C library keeps what is freed, where it would give back and fetch pages at each
    call, at times that depend on the cases before.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def main() -> None:
    """Measure, print, write after each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path)
    parser.add_argument("--only", nargs="+", default=[], help="names of cases or operators")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settle_allocator()
    found: dict[str, Any] = {"environment": {**environment(), "timm": version("timm")}, "rows": {}, "memory_of_all": {}}
    if options.resume and options.json.exists():
        kept = json.loads(options.json.read_text())
        found |= {key: kept[key] for key in ("rows", "memory_of_all")}

    def write() -> None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")
        options.json.with_suffix(".md").write_text(table(found))

    for case in (*TIMM, *OFFICIAL):
        wanted = not options.only or case.name in options.only or case.operator in options.only
        kept_row = found["rows"].get(case.name, {"not_runnable": ""})
        if not wanted or "not_runnable" not in kept_row:
            continue
        torch.manual_seed(0)
        row = row_of(case, options.official, options.rounds)
        found["rows"][case.name] = {**row, "reasons": reasons(case, row)}
        ratios = [f"{row[k]['ratio']:8.2f}" if k in row else "       -" for k in ("batch_1", "batch_16", "training", "memory")]
        print(f"{case.name:<36}", *ratios, row.get("not_runnable", ""), flush=True)
        write()
    memory_of_all(found["memory_of_all"], options.only, write)
    write()


if __name__ == "__main__":
    main()
