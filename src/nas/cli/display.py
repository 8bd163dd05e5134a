"""Progress on the terminal: a bar with time left where someone watches, a line now and then where nobody does."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from nas.progress import Reporter, Step
from nas.quantities import format_duration

_EVERY = 15.0


def reporter() -> Reporter:
    """Bars on a terminal, plain lines elsewhere; both on stderr, so that stdout stays clean for --json."""
    return Bars() if sys.stderr.isatty() else Lines()


class Bars:
    """A live bar for each phase, with its time left."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)

    @contextlib.contextmanager
    def phase(self, title: str) -> Iterator[Step]:
        """A bar that the callback moves."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(title, total=1, words="")

            def step(done: int, total: int, words: str) -> None:
                progress.update(task, completed=done, total=max(total, 1), words=words)

            yield step
            progress.update(task, completed=progress.tasks[0].total)

    def note(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(text, highlight=False, markup=False)


class Lines:
    """A line when a phase begins and ends, and every 15 seconds between."""

    @contextlib.contextmanager
    def phase(self, title: str) -> Iterator[Step]:
        """Lines that tell how far the phase is and how long it will go on."""
        began = last = time.monotonic()
        first: int | None = None

        def step(done: int, total: int, words: str) -> None:
            nonlocal last, first
            first = done if first is None else first
            if time.monotonic() - last >= _EVERY:
                last = time.monotonic()
                left = (last - began) / max(done - first, 1) * (total - done) if done > first else None
                ahead = f", about {format_duration(left)} left" if left is not None else ""
                self.note(f"{title}: {done}/{total}{ahead}{f' ({words})' if words else ''}")

        self.note(f"{title} ...")
        yield step
        self.note(f"{title}: done in {format_duration(time.monotonic() - began)}")

    def note(self, text: str) -> None:
        """A line on stderr."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
