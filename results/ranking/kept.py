"""Numbers about architectures that are computed once: a file each, so that what is interrupted goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from nas.errors import FileError, NasError, in_one_line
from nas.files import read_json, write_json
from nas.results.ranking.lack_of_memory import lacks_memory
from nas.search_spaces.architecture import Architecture

Compute = Callable[[Architecture], Mapping[str, float]]


class KeptScores:
    """Architecture -> numbers by name, computed by `compute` unless a file in `folder` has them.

    The files lie in a folder of their own for each `identity`, JSON values that say what the numbers depend on: those of
    other weights, images or settings are never taken for these.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], compute: Compute) -> None:
        self.identity = json.loads(json.dumps(identity))
        text = json.dumps(self.identity, sort_keys=True)
        self.folder = folder / blake2b(text.encode(), digest_size=8).hexdigest()
        self.compute = compute

    def __call__(self, architecture: Architecture) -> dict[str, float]:
        """The numbers in the order of their names; those that are not finite stay so.

        Raises what `compute` does, but NasError where memory ran out, and FileError.
        """
        known = self.known(architecture)
        if known is None:
            known = {name: float(value) for name, value in sorted(self._computed(architecture).items())}
            values = {name: value if math.isfinite(value) else str(value) for name, value in known.items()}
            told = {"identity": self.identity, "architecture": architecture.to_json(), "values": values}
            write_json(self.folder / f"{architecture.digest}.json", told)
        return known

    def _computed(self, architecture: Architecture) -> Mapping[str, float]:
        try:
            return self.compute(architecture)
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            raise NasError(
                f"memory ran out on the way to the scores of network {architecture.digest} ({in_one_line(error)[:160]}): end "
                "other programs, or lower --threads, and give the command again, which goes on from the scores that are kept"
            ) from error

    def known(self, architecture: Architecture) -> dict[str, float] | None:
        """What is kept, None where nothing is. Raises FileError for a damaged file or one of something else."""
        path = self.folder / f"{architecture.digest}.json"
        if not path.exists():
            return None
        found = read_json(path, "scores of a network")
        try:
            if found["identity"] != self.identity:
                raise FileError(f"{path} holds scores of something else: delete it")
            return {str(name): float(value) for name, value in found["values"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(f"{path} is no file of scores ({type(error).__name__}: {error}): delete it") from error
