"""`nas.search(...)`: a whole run from Python, as the command line does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import FileError, UsageError
from nas.predictors.target import Target
from nas.progress import Reporter
from nas.results.config import SearchConfig, versions
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
    strategy: str = "evolution",
    evaluations: int = 150,
    seed: int = 0,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> Outcome:
    """Find, train, verify and export a backbone; budgets are in SI units: `{"latency": 0.005, "params": 5e6}`.

    `out` is a folder that does not hold a run yet (default: the next free one below `runs/`). `options` are further fields of
    `nas.results.config.SearchConfig`. Raises InfeasibleError where no architecture meets the budgets.
    """
    chosen = load_space(space) if isinstance(space, str) else space
    config = SearchConfig(
        space=chosen.to_mapping(),
        data=data,
        budgets=dict(budgets or {}),
        target=str(Target.parse(str(target))),
        strategy=strategy,
        evaluations=evaluations,
        seed=seed,
        versions=versions(),
        **options,
    )
    folder = new_folder(out, chosen.name)
    return SearchRun(folder, config, reporter).run()


def resume(path: str | Path, reporter: Reporter | None = None) -> Outcome:
    """Go on with a run that was stopped or killed; a finished one is only reported again."""
    run = Run.open(path)
    return SearchRun(run.path, run.config(), reporter).run()


def new_folder(out: str | Path | None, name: str) -> Path:
    """The folder of a new run. Raises UsageError where `out` holds a run, FileError where it cannot be made."""
    if out is None:
        taken = {path.name for path in Path("runs").glob(f"{name}-*")}
        number = next(index for index in range(1, len(taken) + 2) if f"{name}-{index}" not in taken)
        out = Path("runs") / f"{name}-{number}"
    folder = Path(out)
    if (folder / "config.yaml").exists():
        raise UsageError(
            f"{folder} holds a run already: go on with it by `nas search --resume {folder}`, or choose another --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the run folder {folder}: {error.strerror}; choose another --out") from error
    return folder
