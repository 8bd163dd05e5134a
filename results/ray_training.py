"""Training a supernet on several workers with Ray Train."""

from __future__ import annotations

from pathlib import Path

from nas.errors import NasError
from nas.search.ray_session import connect, require_room

_FAILURES = 2
"""So often a training is started again from its checkpoint, where a worker fails, before it is given up."""


def train_with_ray(folder: Path, address: str, workers: int, threads: int) -> None:
    """Train the supernet of a run folder that has its config.yaml, by `workers` processes of `threads` CPU threads each.

    `address` is "local", "auto" or a cluster's; all machines must see the folder. What was trained before is gone on with,
    also where a worker dies. Raises NasError with the cause where Ray cannot be reached or has no room for the workers, and
    where these fail again and again.
    """
    place = str(folder.absolute())

    def loop() -> None:
        from nas.progress import Silent
        from nas.results.pipeline import SearchRun
        from nas.results.run import Run
        from nas.supernet.primitives import remember_few

        remember_few()
        run = Run.open(place)
        SearchRun(run.path, run.config(), Silent()).train()

    started = connect(address, workers * threads + 1)
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    try:
        require_room(address, workers, threads)
        trainer = TorchTrainer(
            loop,
            scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": threads}),
            run_config=RunConfig(
                storage_path=str(Path(place) / "ray"),
                name="supernet",
                failure_config=FailureConfig(max_failures=_FAILURES, controller_failure_limit=_FAILURES),
            ),
        )
        trainer.fit()
    except NasError:
        raise
    except Exception as error:
        cause = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise NasError(f"the training on {workers} Ray workers failed: {cause}") from error
    finally:
        if started:
            ray.shutdown()
