"""The reference of benchmarks/moo.py: pymoo's NSGA-II on the same problems with the same number of evaluations.

    python -m venv elsewhere && elsewhere/bin/pip install pymoo==0.6.2 && elsewhere/bin/python benchmarks/moo_pymoo.py

Needs pymoo alone, which is no dependency of the project. Writes benchmarks/results/moo_pymoo.json: the hypervolume of each
run, and values at random points, by which moo.py checks that it computes the same problems.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pymoo
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.indicators.hv import HV
from pymoo.optimize import minimize
from pymoo.problems import get_problem

POPULATION, EVALUATIONS, SEEDS = 100, 10_000, 15
REFERENCE = (1.1, 1.1)
PROBLEMS = {
    "zdt1": {}, "zdt2": {}, "zdt3": {}, "dtlz2": {"n_var": 11, "n_obj": 2}, "mw1": {"n_var": 15}, "mw3": {"n_var": 15},
    "mw7": {"n_var": 15},
}  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "moo_pymoo.json"


def main() -> None:
    """Run, print, write."""
    found: dict[str, dict[str, object]] = {}
    for name, options in PROBLEMS.items():
        problem = get_problem(name, **options)
        points = np.random.default_rng(0).random((3, problem.n_var))
        values = problem.evaluate(points, return_as_dictionary=True)
        volumes = []
        for seed in range(SEEDS):
            outcome = minimize(problem, NSGA2(pop_size=POPULATION), ("n_eval", EVALUATIONS), seed=seed)
            volumes.append(0.0 if outcome.F is None else float(HV(ref_point=np.array(REFERENCE))(outcome.F)))
        constraints = values.get("G")
        found[name] = {
            "hypervolumes": volumes,
            "points": points.tolist(),
            "costs": values["F"].tolist(),
            "constraints": [] if constraints is None else np.asarray(constraints).tolist(),
        }
        print(f"{name}: {np.mean(volumes):.4f}", flush=True)
    about = {"pymoo": pymoo.__version__, "population": POPULATION, "evaluations": EVALUATIONS, "reference": REFERENCE}
    RESULTS.write_text(json.dumps({"about": about, "problems": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
