"""A progress bar for whoever waits longer than two seconds, on standard error and only for people.

Who calls it: commands of `app`. Must not know: what is being waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

PATIENCE_S = 2.0


class Bar:
    """A bar that appears once two seconds have passed."""

    def __init__(self, label: str, console: Console, clock: Callable[[], float]) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(label, total=1.0)
        self._wanted = console.is_terminal
        self._clock, self._began_s, self.shown = clock, clock(), False

    def __call__(self, share: float) -> None:
        """Tell the share that is done, 0 to 1."""
        self._progress.update(self._task, completed=min(share, 1.0))
        if self._wanted and not self.shown and self._clock() - self._began_s > PATIENCE_S:
            self.shown = True
            self._progress.start()

    def stop(self) -> None:
        """Take the bar away."""
        if self.shown:
            self._progress.stop()


@contextmanager
def bar(
    label: str, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[float], None]]:
    """Yield what is to be called with the share done."""
    shown = Bar(label, console or Console(stderr=True), clock)
    try:
        yield shown
    finally:
        shown.stop()


@contextmanager
def stages(
    *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str, float], None]]:
    """Yield what is to be called with what is being done and the share of it that is done: a bar for each."""
    shown = console or Console(stderr=True)
    current: list[tuple[str, Bar]] = []

    def told(what: str, done: float) -> None:
        if not current or current[0][0] != what:
            if current:
                current.pop()[1].stop()
            current.append((what, Bar(what, shown, clock)))
        current[0][1](done)

    try:
        yield told
    finally:
        if current:
            current.pop()[1].stop()
