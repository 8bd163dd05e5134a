"""`nas bench search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.bench import bench
from nas.cli.display import reporter
from nas.cli.options import Json, write, write_json
from nas.errors import NasError, UsageError

if TYPE_CHECKING:
    from nas.search.table_runs import Results
    from nas.search.table_tasks import Task

STRATEGIES = "random,evolution,local_search,nsga2,bo"
KINDS = ("best", "noisy", "front", "fastest")


@bench.command()
def search(
    tables: Annotated[Path, typer.Option(help="Folder of tables (.csv, .csv.gz); genes first, results behind.", metavar="DIR")],
    strategies: Annotated[
        str, typer.Option(help="Names, by commas; `nas bench search --strategies all` plays every one.")
    ] = STRATEGIES,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each strategy on each task.")] = 20,
    first_seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    evaluations: Annotated[int, typer.Option(min=1, help="Evaluations of each run.")] = 150,
    quantiles: Annotated[
        str, typer.Option(help="Latency budgets: shares of the rows that meet them, by commas.")
    ] = "0.1,0.25,0.5",
    only: Annotated[list[str] | None, typer.Option(help="Only tasks whose name holds this text; repeat for several.")] = None,
    kinds: Annotated[str, typer.Option(help="Kinds of tasks: best, noisy, front, fastest.")] = ",".join(KINDS),
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for runs.jsonl (a stopped benchmark goes on from it), CSV and plots.", metavar="DIR"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Play search strategies on tables of real results: same loop, archive and constraints as a real search.

    A table is a CSV file with a header: an identifier, columns of genes (small whole numbers), then results: accuracies
    (`acc`, `top1`, `_test`, `_valid`; `acc0`, `acc1` ... are training seeds), sizes (`macs`, `flops`, `params`), throughputs,
    and latencies in milliseconds (every other column but energy, power, epochs and training times).
    """
    from nas.results.bench_search import summarise, write_files
    from nas.search import strategy
    from nas.search.table_runs import Results
    from nas.search.table_tasks import tasks
    from nas.search.tables import read_tables

    names = strategy.names() if strategies == "all" else _listed(strategies)
    if not names:
        raise UsageError("no strategy is named; write names by commas, or --strategies all")
    for name in names:
        strategy.require(name)
    wanted = _listed(kinds)
    if set(wanted) - set(KINDS):
        raise UsageError(f"unknown kind of task {sorted(set(wanted) - set(KINDS))[0]!r}; known: {', '.join(KINDS)}")
    found, notes = read_tables(tables)
    report = reporter()
    for note in notes:
        report.note(note)
    for table in found:
        report.note(f"{table.name}: taken for latencies: {', '.join(table.latencies) or 'no column'}")
    chosen = [task for task in tasks(found, _shares(quantiles)) if task.kind in wanted and _matches(task.name, only)]
    if not chosen:
        raise UsageError("no task is left; see which there are without --only and --kinds")
    known = Results(None if out is None else out / "runs.jsonl")
    _play(chosen, names, range(first_seed, first_seed + seeds), evaluations, known)
    rows = summarise(chosen, names, range(first_seed, first_seed + seeds), evaluations, known)
    if out is not None:
        write_files(out, chosen, names, range(first_seed, first_seed + seeds), evaluations, known, rows)
    if as_json:
        write_json([row.to_mapping() for row in rows])
    else:
        _print(rows)


def _play(chosen: list[Task], names: list[str], seeds: range, evaluations: int, known: Results) -> None:
    from nas.search.table_runs import open_runs, play

    ahead = list(open_runs(chosen, names, seeds, evaluations, known))
    again = sum(known.outdated(task, name, seed, evaluations) for task, name, seed in ahead)
    if again:
        reporter().note(f"{again} stored runs are of another table, or of strategies before a change: they are played again")
    with reporter().phase(f"{len(ahead)} runs") as step:
        try:
            for number, (task, name, seed) in enumerate(ahead):
                step(number, len(ahead), f"{name} on {task.name}")
                known.add(play(task, name, seed, evaluations))
        except KeyboardInterrupt:
            kept = "; the same command goes on" if known.path is not None else "; --out DIR keeps what is done"
            raise NasError(f"stopped after {number} of {len(ahead)} runs{kept}") from None


def _print(rows: list) -> None:  # type: ignore[type-arg]
    cells = [("table", "objective", "budget", "strategy", "best", "of optimum", "to target")]
    for row in rows:
        reached = "-" if row.median_evaluations_to_target is None else f"{row.median_evaluations_to_target:g}"
        numbers = (f"{row.best:.5g}", f"{row.fraction_of_optimum:.4f}", reached)
        cells.append((row.table, row.objective, row.budget or "none", row.strategy, *numbers))
    # Columns are as wide as what is in them: tables of a user's own have names of any length.
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        texts = [f"{cell:<{width}}" for cell, width in zip(line[:4], widths[:4], strict=True)]
        values = [f"{cell:>{width}}" for cell, width in zip(line[4:], widths[4:], strict=True)]
        write("  ".join([*texts, *values]))


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _shares(text: str) -> list[float]:
    try:
        found = [float(part) for part in _listed(text)]
    except ValueError:
        found = [0.0]
    if not all(0.0 < share <= 1.0 for share in found):
        raise UsageError(f"quantiles are shares above 0 and at most 1, by commas, got {text!r}; e.g. 0.1,0.25,0.5")
    return found


def _matches(name: str, only: list[str] | None) -> bool:
    return not only or any(text in name for text in only)
