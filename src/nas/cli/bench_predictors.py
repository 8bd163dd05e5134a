"""`nas bench predictors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.bench import bench
from nas.cli.display import reporter
from nas.cli.options import Json, write, write_json
from nas.errors import FileError, NasError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from nas.predictors.tables import Table
    from nas.predictors.tables.benchmark import Job, Runner
    from nas.progress import Reporter

SIZES, METHODS = "50,100,200,900", "auto,table,sizes"
FIGURES = ("mape", "within_5", "within_10", "spearman", "kendall", "coverage_90")


@bench.command()
def predictors(
    tables: Annotated[Path, typer.Option(help="Folder of tables (*.csv, *.csv.gz), or one table.")],
    train_sizes: Annotated[str, typer.Option(help="Training rows, with commas; 5 to 900.")] = SIZES,
    seeds: Annotated[int, typer.Option(min=1, help="Permutations, 0 and up.")] = 5,
    methods: Annotated[str, typer.Option(help="Surrogates, with commas; `--list` names them.")] = METHODS,
    only: Annotated[str | None, typer.Option(help="This table alone, or TABLE:TARGET.")] = None,
    transfer: Annotated[int, typer.Option(min=0, help="Also learn each device from so many rows and the other devices.")] = 0,
    amounts: Annotated[
        Path | None, typer.Option(help="Amounts of the networks that a table only names; default: the checkout's, then timm.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File of JSON lines that is gone on with; of the same code and tables, no row is repeated."),
    ] = None,
    list_methods: Annotated[bool, typer.Option("--list", help="List the surrogates.")] = False,
    as_json: Json = False,
) -> None:
    """Fit surrogates to tables of devices and accuracies, and tell how well they predict the rows that they did not see.

    Devices, rates and accuracies are found from the header. Errors are shares, not percent. Tables of published networks are
    also split by family (`+families`), tables of proxies also read with them (`+proxies`).
    """
    from nas.predictors.surrogates import surrogate_names, surrogate_summary
    from nas.predictors.tables.benchmark import Runner, jobs
    from nas.predictors.tables.rows import append_row

    if list_methods:
        for name in surrogate_names():
            write(f"{name:<16} {surrogate_summary(name)}")
        return
    names = [name.strip() for name in methods.split(",") if name.strip()]
    for name in names:
        surrogate_summary(name)
    sizes, talk = _sizes(train_sizes), reporter()
    chosen, target = _tables(tables, only, amounts, talk)
    wanted = [job for job in jobs(chosen, sizes, seeds, names, transfer) if target in ("", job.target)]
    _tell_missing(wanted, chosen, sizes, transfer, talk)
    runner = Runner(chosen)
    rows, todo = _known(out, runner, wanted, talk)
    try:
        with talk.phase("Benchmark") as step:
            for done, job in enumerate(todo):
                step(done, len(todo), f"{job.table} {job.target}, {job.train_size} rows, {job.method}")
                rows.append(runner.run(job))
                if out is not None:
                    append_row(out, rows[-1])
    except KeyboardInterrupt:
        kept = f"the rows so far are in {out}: the same command goes on" if out is not None else "give --out to keep rows"
        raise NasError(f"stopped; {kept}") from None
    if as_json:
        write_json(rows)
        return
    for line in summary(rows, _floors(chosen)):
        write(line)


def summary(rows: list[dict[str, Any]], floors: Mapping[tuple[str, str], str] | None = None) -> list[str]:
    """A line for each table, target, size and method: means over seeds, with the number of them; and one for the noise floor
    of each target that has one."""
    from nas.predictors.tables.variants import FAMILIES_HELD_OUT

    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        # Families are not all of one size, so each seed leaves another number of rows for training.
        size = "4/5" if str(row["table"]).endswith(FAMILIES_HELD_OUT) else row["train_size"]
        key = (str(row["table"]), str(row["target"]), f"{size:>4}", str(row["method"]))
        groups.setdefault(key, []).append(row)
    lines = [f"{'table':<18} {'target':<22} {'rows':>4}  {'method':<15} seeds  MAPE   <5%   <10%   rho    tau    90% covers"]
    for (table, target, size, method), found in sorted(groups.items()):
        mape, five, ten, rho, tau, cover = (sum(row[name] for row in found) / len(found) for name in FIGURES)
        lines.append(
            f"{table:<18} {target:<22} {size}  {method:<15} {len(found):>5}  {mape:>5.1%} {five:>5.0%} {ten:>5.0%}  "
            f"{rho:>6.3f} {tau:>6.3f} {cover:>6.0%}"
        )
    shown = {(table, target) for table, target, *_ in groups}
    return lines + [
        f"{table:<18} {target:<22} {words}" for (table, target), words in (floors or {}).items() if (table, target) in shown
    ]


def _floors(tables: list[Table]) -> dict[tuple[str, str], str]:
    """What repeated measurements of the same network say about the best that can be had, by table and target."""
    from nas.predictors.tables.noise import noise_floor

    found = {(table.name, one.name): noise_floor(table, one) for table in tables for one in table.targets}
    return {
        key: f"noise floor: MAPE {floor.mape[0]:.1%} to {floor.mape[1]:.1%}, within 10 %: {floor.within_10[0]:.0%} to "
        f"{floor.within_10[1]:.0%}, from {floor.pairs} pairs of rows of the same network"
        for key, floor in found.items()
        if floor is not None
    }


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--train-sizes are whole numbers with commas, e.g. {SIZES}; got {text!r}") from error


def _tables(path: Path, only: str | None, amounts: Path | None, talk: Reporter) -> tuple[list[Table], str]:
    """The tables below a path, and the target that is asked for alone, if one is; tables that hold no architectures of one
    space are passed over with a note."""
    from nas.predictors.tables import SUFFIXES, read_table, table_name, variants

    found_files = path.iterdir() if path.is_dir() else [path] if path.is_file() else []
    files = sorted(file for file in found_files if file.name.endswith(SUFFIXES))
    if not files:
        raise FileError(f"no tables (*.csv, *.csv.gz) in {path}; give the folder that holds them")
    name, _, target = (only or "").partition(":")
    if name and name not in map(table_name, files):
        raise UnknownNameError("table", name, map(table_name, files))
    found: list[Table] = []
    for file in (file for file in files if name in ("", table_name(file))):
        try:
            table = read_table(file, amounts)
        except UsageError as error:
            if name:
                raise
            talk.note(f"passed over: {error}")
            continue
        for note in table.notes:
            talk.note(note)
        found += variants(table)
    targets = [one.name for table in found for one in table.targets]
    if target and target not in targets:
        raise UnknownNameError("target", target, targets)
    return found, target


def _tell_missing(wanted: Sequence[Job], tables: Sequence[Table], sizes: Sequence[int], transfer: int, talk: Reporter) -> None:
    """Note the training sizes that a table is too small for. Raises UsageError where nothing is left of what was asked for."""
    from nas.predictors.tables.benchmark import TRANSFER

    names = ", ".join(table.name for table in tables)
    if not any(job.method != TRANSFER for job in wanted):
        raise UsageError(
            f"nothing of {names} can train on {', '.join(map(str, sizes))} rows and be tested on others; ask for fewer"
        )
    if transfer and not any(job.method == TRANSFER for job in wanted):
        raise UsageError(
            f"--transfer {transfer} needs a table of one space with two devices, {transfer} rows to train and others to test; "
            f"nothing of {names} is one"
        )
    for table in tables:
        done = {job.train_size for job in wanted if job.table == table.name and job.method != TRANSFER}
        missing = [str(size) for size in sizes if size not in done] if table.split == "rows" else []
        if missing or not done:
            talk.note(f"{table.name}: too few rows to train on {', '.join(missing) or '4/5'} and test on others; left out")


def _known(
    path: Path | None, runner: Runner, wanted: Sequence[Job], talk: Reporter
) -> tuple[list[dict[str, Any]], list[Job]]:  # fmt: skip
    """The rows of an earlier run that count still, and the jobs that are left; a note tells of rows that do not."""
    from nas.predictors.tables.rows import JOB, code_digest, current, read_rows

    keys = {tuple(getattr(job, name) for name in JOB): job for job in wanted}
    stored = read_rows(path) if path is not None else []
    rows = current(stored, code_digest(), {key: runner.content(job) for key, job in keys.items()})
    known = {tuple(row[name] for name in JOB) for row in rows}
    if old := {tuple(row[name] for name in JOB) for row in stored} - known:
        talk.note(
            f"{len(old)} rows of {path} come of other code, or of tables that held something else: they are not counted, and "
            f"{len(old & set(keys))} of them are measured again"
        )
    return rows, [job for key, job in keys.items() if key not in known]
