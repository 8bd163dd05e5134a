"""The reference of benchmarks/moo.py: pymoo's NSGA-II on the same problems with the same numbers of evaluations and seeds.

    python -m venv elsewhere && elsewhere/bin/pip install pymoo==0.6.2 && elsewhere/bin/python benchmarks/moo_pymoo.py

Needs pymoo alone, which is no dependency of the project. Writes benchmarks/results/moo_pymoo.json: the hypervolume of each
run, and values at random points, by which moo.py checks that it computes the same problems. Runs that the file has are kept,
so that a setting is given more seeds, or a stopped benchmark goes on, without playing them again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pymoo
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.indicators.hv import HV
from pymoo.optimize import minimize
from pymoo.problems import get_problem

REFERENCE = (1.1, 1.1)
PROBLEMS: dict[str, dict[str, int]] = {
    "zdt1": {}, "zdt2": {}, "zdt3": {}, "dtlz2": {"n_var": 11, "n_obj": 2}, "mw1": {"n_var": 15}, "mw3": {"n_var": 15},
    "mw7": {"n_var": 15},
}  # fmt: skip
SETTINGS = (
    ("zdt1", 100, 10_000, 15), ("zdt2", 100, 10_000, 150), ("zdt3", 100, 10_000, 15), ("dtlz2", 100, 10_000, 15),
    ("mw1", 400, 60_000, 12), ("mw3", 400, 60_000, 15), ("mw7", 400, 60_000, 15),
    ("mw1", 100, 10_000, 15), ("mw3", 100, 10_000, 60), ("mw7", 100, 10_000, 15),
)  # fmt: skip
"""Problem, population, evaluations, seeds. 60,000 evaluations are those of Ma and Wang 2019."""
RESULTS = Path(__file__).parent / "results" / "moo_pymoo.json"


def sampled(name: str) -> dict[str, Any]:
    """A problem's values at random points."""
    problem = get_problem(name, **PROBLEMS[name])
    points = np.random.default_rng(0).random((3, problem.n_var))
    values = problem.evaluate(points, return_as_dictionary=True)
    constraints = values.get("G")
    return {
        "points": points.tolist(),
        "costs": values["F"].tolist(),
        "constraints": [] if constraints is None else np.asarray(constraints).tolist(),
    }


def hypervolume(name: str, population: int, evaluations: int, seed: int) -> float:
    """That of the last population's feasible front; 0 where nothing is feasible."""
    problem = get_problem(name, **PROBLEMS[name])
    outcome = minimize(problem, NSGA2(pop_size=population), ("n_eval", evaluations), seed=seed)
    return 0.0 if outcome.F is None else float(HV(ref_point=np.array(REFERENCE))(outcome.F))


def main() -> None:
    """Run what the file lacks, print, write after every setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="play all runs again")
    about = {"pymoo": pymoo.__version__, "reference": list(REFERENCE)}
    stored = {} if parser.parse_args().fresh or not RESULTS.exists() else json.loads(RESULTS.read_text(encoding="utf-8"))
    same = stored.get("runs", []) if stored.get("about") == about else []
    kept = {(row["problem"], row["population"], row["evaluations"]): row["hypervolumes"] for row in same}
    rows = [
        {"problem": name, "population": size, "evaluations": spent, "hypervolumes": kept.get((name, size, spent), [])[:seeds]}
        for name, size, spent, seeds in SETTINGS
    ]
    for row, (name, size, spent, seeds) in zip(rows, SETTINGS, strict=True):
        row["hypervolumes"] += [hypervolume(name, size, spent, seed) for seed in range(len(row["hypervolumes"]), seeds)]
        text = json.dumps({"about": about, "problems": {one: sampled(one) for one in PROBLEMS}, "runs": rows}, indent=1)
        RESULTS.write_text(text + "\n", encoding="utf-8")
        print(f"{name}, {spent} evaluations in populations of {size}: {np.mean(row['hypervolumes']):.4f}", flush=True)


if __name__ == "__main__":
    main()
