"""Training probes on a Ray cluster with Ray Tune: one trial a probe, tried again where a worker dies."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Mapping
from typing import Any

from nas.errors import NasError
from nas.results.ranking.standalone import ProbeTrainer
from nas.search.ray_session import connect, require_room

_FAILURES = 2


def train_with_tune(
    trainer: ProbeTrainer, architectures: list[str], address: str, workers: int, told: Callable[[int], None]
) -> list[Mapping[str, float]]:
    """The outcomes of the architectures (JSON), in their order; `workers` of them are trained at once.

    `address` is "local", "auto" or a cluster's. All machines must see the trainer's folder. Raises NasError where Ray
    cannot be reached or has no room for a worker, and where a probe fails again and again.
    """
    started = connect(address, workers * trainer.threads)
    import ray
    from ray import tune

    try:
        require_room(address, 1, trainer.threads)
        shared = ray.put(trainer)

        def trial(config: dict[str, Any]) -> None:
            tune.report(dict(ray.get(shared)(config["architecture"])))

        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": trainer.threads}),
            param_space={"architecture": tune.grid_search(architectures)},
            tune_config=tune.TuneConfig(max_concurrent_trials=workers),
            run_config=tune.RunConfig(
                storage_path=str((trainer.folder / "tune").absolute()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=_FAILURES),
                callbacks=[_counter(told)],
            ),
        )
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # it would end the trials and return as if all were well
        with contextlib.redirect_stdout(io.StringIO()):  # Tune's table of settings, printed at any verbosity
            results = tuner.fit()
    finally:
        if started:
            ray.shutdown()
    failed = [result.error for result in results if result.error is not None]
    if failed:
        raise NasError(f"{len(failed)} of {len(architectures)} probes failed again and again, the first by: {failed[0]}")
    if len(results) < len(architectures):
        raise NasError(f"{len(architectures) - len(results)} probes were not trained; the same command goes on with them")
    by_text = {result.config["architecture"]: result.metrics for result in results}
    return [{name: float(by_text[text][name]) for name in ("accuracy", "loss")} for text in architectures]


def _counter(told: Callable[[int], None]) -> Any:
    from ray import tune

    class Counter(tune.Callback):  # type: ignore[misc]
        """Tells how many trials are done."""

        def __init__(self) -> None:
            self.done: set[str] = set()

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.done.add(trial.trial_id)
            told(len(self.done))

    return Counter()
