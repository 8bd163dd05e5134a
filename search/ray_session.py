"""A Ray to work on: one of our own on this machine, or a cluster that is reached and has room for the workers."""

from __future__ import annotations

import logging
import os
import time

from nas.errors import NasError
from nas.search.executors.base import WorkersLostError

ROOM_SECONDS = 60.0
"""How long a cluster may take to have room: one that grows by itself adds machines."""


def connect(address: str, cpus: int) -> bool:
    """Connect this process to "local" (a Ray of our own with so many CPUs), "auto" or the address of a cluster.

    Returns whether it must be shut down afterwards: a Ray that the process is connected to already is used as it is. Raises
    WorkersLostError where the cluster cannot be reached.
    """
    # Read by Ray when it starts: no usage report, and GPUs stay visible to actors that ask for none.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return False
    try:
        if address == "local":
            ray.init("local", num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
        else:
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise WorkersLostError(f"cannot reach Ray at {address!r}: {' '.join(str(error).split())}") from error
    return True


def require_room(address: str, workers: int, threads: int, seconds: float = ROOM_SECONDS) -> None:
    """Raise NasError where the machines of the connected Ray have no room for the workers within so many seconds.

    Ray itself would wait for ever for a machine that is large enough.
    """
    import ray

    until = time.monotonic() + seconds
    while True:
        cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        if sum(each // threads for each in cores) >= workers:
            return
        if time.monotonic() > until:
            have = ", ".join(map(str, sorted(cores, reverse=True))) or "none"
            raise NasError(
                f"Ray at {address!r} has no room for {workers} workers of {threads} CPUs each: its machines have {have} CPUs; "
                "lower --threads or --workers"
            )
        time.sleep(1.0)
