"""Where a command's trace comes from, as options: a file.

Who calls it: `app.trace`. Must not know: what is done with the requests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from capstan.app import progress
from capstan.replay import traces


@dataclass(frozen=True, slots=True)
class Source:
    """What was asked for."""

    file: Path
    columns: str | None

    def trace(self) -> traces.Trace:
        """Read it.

        Raises:
            TraceError: What cannot be used. ValueError: Options that make no sense.
        """
        told = None if self.columns is None else traces.custom(self.columns)
        with progress.bar(f"reading {self.file.name}") as share:
            return traces.read(self.file, told=told, progress=share)


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets them as one `source`."""

    @click.option("--trace", "file", type=click.Path(path_type=Path), required=True, help="CSV or JSON lines, or .gz.")
    @click.option("--columns", help="time=NAME,prompt=NAME,output=NAME, where the format is none of the known ones.")
    @functools.wraps(command)
    def wrapped(*, file: Path, columns: str | None, **rest: object) -> None:
        command(source=Source(file, columns), **rest)

    return wrapped
