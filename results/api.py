"""`nas.search(...)`: a whole run from Python, as the command line does it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nas.errors import FileError, UsageError
from nas.predictors.target import Target
from nas.progress import Reporter
from nas.results.config import SearchConfig, require_adapted, require_screened, strategy_for, versions
from nas.results.pipeline import SearchRun
from nas.results.run import Run
from nas.results.summary import Outcome
from nas.search_spaces.presets import load_space
from nas.search_spaces.space import SearchSpace


def search(
    space: SearchSpace | str = "tiny",
    *,
    data: str = "digits",
    budgets: Mapping[str, float] | None = None,
    target: Target | str = "cpu:eager",
    strategy: str | None = None,
    evaluations: int = 120,
    seed: int = 0,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> Outcome:
    """Find, train, verify and export a backbone; budgets are in SI units: `{"latency": 0.005, "params": 5e6}`.

    `latency` is that of `target`; `latency@cpu:onnxruntime` among budgets or `objectives` is another one's, which is profiled,
    predicted and verified as well; so are `energy` and `energy@TARGET`, in joules, where a meter counts them. The `strategy` is
    `evolution` by default, `auto` with several objectives. `out` is a folder that does not hold a run yet (default: the next
    free one below `runs/`).
    `options` are further fields of `nas.results.config.SearchConfig`. Raises InfeasibleError where no architecture meets the
    budgets.
    """
    require_screened(options, options.get("screen"))
    require_adapted(options, options.get("adapt", 0))
    chosen = load_space(space) if isinstance(space, str) else space
    config = SearchConfig(
        space=chosen.to_mapping(),
        data=data,
        budgets=dict(budgets or {}),
        target=str(Target.parse(str(target))),
        strategy=strategy or strategy_for(options.get("objectives", ())),
        evaluations=evaluations,
        seed=seed,
        versions=versions(),
        **options,
    )
    with new_folder(out, chosen.name) as folder:
        return SearchRun(folder, config, reporter).run()


def resume(path: str | Path, reporter: Reporter | None = None) -> Outcome:
    """Go on with a run that was stopped or killed; a finished one is only reported again."""
    run = Run.open(path)
    return SearchRun(run.path, run.config(), reporter).run()


@contextlib.contextmanager
def new_folder(out: str | Path | None, name: str) -> Iterator[Path]:
    """The folder of a new run: `out`, or the next free one below `runs/`. It is made at once, so that no other run takes it.

    What was made is removed at the end if nothing has been written into it. Raises UsageError where `out` holds a run that
    has got as far as measuring or training, FileError where it cannot be made.
    """
    folder = _next_folder(name) if out is None else Path(out)
    run = Run(folder)
    if run.config_path.exists() and any(path.exists() for path in (run.latency_table, run.journal, run.checkpoint)):
        command = "search" if run.latency_table.exists() or run.journal.exists() else "train"
        raise UsageError(
            f"{folder} holds a run already: go on with it by `nas {command} --resume {folder}`, or choose another --out"
        )
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the run folder {folder}: {error.strerror}; choose another --out") from error
    try:
        yield folder
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _next_folder(name: str) -> Path:
    taken = {path.name for path in Path("runs").glob(f"{name}-*")}
    number = next(index for index in range(1, len(taken) + 2) if f"{name}-{index}" not in taken)
    return Path("runs") / f"{name}-{number}"
