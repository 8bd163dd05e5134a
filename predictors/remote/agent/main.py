"""The agent's command: `nas agent`, or `python agent.py` with the file that `nas agent --write` makes."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nas.errors import FileError, MeasurementError, NasError, UsageError
from nas.predictors.remote.agent.about import who
from nas.predictors.remote.agent.address import parse_address
from nas.predictors.remote.agent.desk import Desk, description
from nas.predictors.remote.agent.lease import LEASE_SECONDS, FileLease
from nas.predictors.remote.agent.registry import add_plugin, installed, unusable
from nas.predictors.remote.agent.runtimes.litert import LiteRt
from nas.predictors.remote.agent.runtimes.onnxruntime import OnnxRuntimeHere
from nas.predictors.remote.agent.runtimes.openvino import OpenVino
from nas.predictors.remote.agent.secret import read_secret_file
from nas.predictors.remote.agent.server import Server, serving
from nas.predictors.remote.agent.spool import Spool, write_whole
from nas.predictors.remote.agent.wire import seal
from nas.predictors.remote.agent.worker import Worker

BUILT_IN = (OnnxRuntimeHere, OpenVino, LiteRt)
AGENT_LEASE, CLIENT_LEASE, ABOUT = "agent.lease", "client.lease", "agent.about"


def serve(
    listen: str | None = None,
    folder: Path | None = None,
    secret_file: Path | None = None,
    spool: Path | None = None,
    runtimes: Sequence[str] = (),
) -> None:
    """Measure what clients hand in, until this process is stopped.

    `listen` is an address, `folder` a shared folder: one of the two. `spool` keeps jobs and results where there is no shared
    folder (default: below the user's cache). `runtimes` are plug-ins, NAME=FILE.py. Raises UsageError, FileError where a file
    or folder cannot be used, MeasurementError where the address is taken, another agent has the folder, or no runtime is
    installed.
    """
    if (listen is None) == (folder is None):
        raise UsageError("an agent needs either --listen HOST:PORT or --folder PATH")
    secret = b"" if secret_file is None else read_secret_file(secret_file)
    for plugin in runtimes:
        add_plugin(plugin)
    for name, why in unusable().items():
        say(f"runtime {name} cannot be used here: {why}")
    if not installed():
        raise MeasurementError("no runtime is installed here; `pip install onnxruntime`, or name your own by --runtime")
    if folder is not None:
        _serve_folder(folder, secret)
    else:
        _serve_address(*parse_address(listen or ""), secret, spool)


def say(text: str) -> None:
    """A line on stderr, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def _serve_address(host: str, port: int, secret: bytes, spool: Path | None) -> None:
    worker = Worker(Spool(spool or _cache() / f"{host.replace(':', '_')}-{port}", secret), say)
    with Server(host, port, secret, Desk(worker.spool, worker.changed), say) as server, _alone(worker), serving(server):
        say(f"nas agent on {host}:{server.port}, runtimes {', '.join(installed().values())}")
        _work(worker)


def _serve_folder(folder: Path, secret: bytes) -> None:
    worker = Worker(Spool(folder, secret), say)
    with _alone(worker):
        write_whole(folder / ABOUT, seal(secret, b"about", description()))
        say(f"nas agent on folder {folder}, runtimes {', '.join(installed().values())}")
        _work(worker)


def _work(worker: Worker) -> None:
    """Work in this thread until a signal comes; a job that is interrupted so is measured when the agent is back."""
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        worker.run()
    say("nas agent stopped; jobs and results are kept")


@contextlib.contextmanager
def _alone(worker: Worker) -> Iterator[None]:
    """The only agent of a spool. One that was killed leaves a lease, which expires; a living one is named.

    Where another agent takes it over, because this machine slept, the worker stops; raises MeasurementError then.
    """
    spool = worker.spool
    lease = FileLease(spool.folder / AGENT_LEASE, f"{who()} process {os.getpid()}")
    until = time.monotonic() + 2 * LEASE_SECONDS
    holder = lease.try_acquire()
    if holder is not None:
        say(f"waiting for {holder}, who had {spool.folder}, to be gone")
    while holder is not None:
        if time.monotonic() > until:
            raise MeasurementError(f"{spool.folder} is served by another agent, {holder}; stop it or choose another folder")
        time.sleep(LEASE_SECONDS / 30)
        holder = lease.try_acquire()
    with lease.kept(worker.stopping.set):
        yield


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    found = Path(base) / "nas-agent"
    try:
        found.mkdir(parents=True, exist_ok=True, mode=0o700)  # the networks are nobody else's business
    except OSError as error:
        raise FileError(f"cannot make {found}: {error.strerror or error}; name another folder by --spool") from error
    return found


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 2 bad usage, 1 any other error."""
    parser = argparse.ArgumentParser(description="Measure exported networks that other machines hand in.")
    parser.add_argument("--listen", metavar="HOST:PORT", help="take networks over the network")
    parser.add_argument("--folder", type=Path, metavar="PATH", help="take networks from a shared folder")
    parser.add_argument("--secret-file", type=Path, metavar="FILE", help="the secret that clients must know")
    parser.add_argument("--spool", type=Path, metavar="PATH", help="where jobs and results are kept (with --listen)")
    parser.add_argument("--runtime", action="append", default=[], metavar="NAME=FILE.py", help="another runtime; repeatable")
    options = parser.parse_args(arguments)
    try:
        serve(options.listen, options.folder, options.secret_file, options.spool, options.runtime)
    except NasError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
