"""`Batches`: trials are planned in batches that grow with the archive, so that what a candidate costs does not."""

from __future__ import annotations

import bisect


class Batches:
    """One trial in a batch at first, later one for every `share` trials before it; `least` at any time."""

    def __init__(self, share: int, least: int = 1) -> None:
        self.share, self.least = share, least
        self._starts = [0]

    def of(self, number: int) -> tuple[int, int]:
        """The first number of the batch that a trial belongs to, and the size of the batch."""
        while self._starts[-1] <= number:
            self._starts.append(self._starts[-1] + max(self.least, self._starts[-1] // self.share))
        following = bisect.bisect_right(self._starts, number)
        return self._starts[following - 1], self._starts[following] - self._starts[following - 1]
