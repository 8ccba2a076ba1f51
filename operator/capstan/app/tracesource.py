"""Where a command's trace comes from, as options: a file, or a Prometheus history turned into requests.

Who calls it: commands of `app`. Must not know: what is done with the requests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np

from capstan.adapters import errors
from capstan.app import progress
from capstan.replay import traces
from capstan.replay.traces import history

MIN_STEP_S = 10


@dataclass(frozen=True, slots=True)
class Source:
    """What was asked for: a file with perhaps its columns, or a span of a server's history."""

    file: Path | None = None
    columns: str | None = None
    prometheus: str | None = None
    start: str | None = None
    end: str | None = None
    step_s: int = 60
    selector: str = ""
    seed: int = 0

    def trace(self) -> traces.Trace:
        """Read it.

        Raises:
            ValueError: Options that make no sense; as a TraceError, what cannot be used.
        """
        if (self.file is None) == (self.prometheus is None):
            raise ValueError("give either --trace FILE or --prometheus URL")
        if self.prometheus is not None:
            start, end = _moment("--start", self.start), _moment("--end", self.end)
            return prometheus_history(self.prometheus, start, end, self.step_s, self.selector, seed=self.seed)
        told = None if self.columns is None else traces.custom(self.columns)
        assert self.file is not None  # noqa: S101 - said above
        with progress.bar(f"reading {self.file.name}") as share:
            return traces.read(self.file, told=told, progress=share)


def prometheus_history(
    url: str, start: datetime, end: datetime, step_s: int, selector: str = "", *, seed: int = 0
) -> traces.Trace:
    """Return the requests that a Prometheus counted, drawn from its rates and histograms.

    Raises:
        TraceError: The server, what was asked of it, and what it said.
    """
    from capstan.adapters.prometheus import history as adapter

    if (end - start).total_seconds() < step_s:
        raise traces.TraceError(url, None, "--end", f"less than one step of {step_s} s after --start; ask for more")
    try:
        with progress.bar("asking Prometheus") as share:
            found = adapter.read(adapter.Ask(url, start, end, step_s, selector), share)
    except errors.AdapterError as problem:
        raise traces.TraceError(url, None, "history", str(problem)) from problem
    source = f"{url}, {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, {found.counted}"
    tables = (
        history.histogram(
            url,
            {edge: np.array(values) for edge, values in buckets.counts.items()},
            None if buckets.sum_tokens is None else np.array(buckets.sum_tokens),
        )
        for buckets in (found.prompt, found.output)
    )
    return history.requests(history.History(source, step_s, np.array(found.requests), *tables), seed=seed)


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets them as one `source`."""

    @click.option("--trace", "file", type=click.Path(path_type=Path), help="CSV or JSON lines, plain or .gz.")
    @click.option("--columns", help="time=NAME,prompt=NAME,output=NAME, where the format is none of the known ones.")
    @click.option("--prometheus", metavar="URL", help="Instead of a file: draw from a server's vLLM metrics.")
    @click.option("--start", metavar="TIME", help="Of the history, ISO 8601; no zone means UTC.")
    @click.option("--end", metavar="TIME", help="Of the history.")
    @click.option("--step", "step_s", type=click.IntRange(MIN_STEP_S), default=60, show_default=True, help="Seconds.")
    @click.option("--selector", default="", help='Which engines: model_name="llama",namespace="chat".')
    @click.option("--history-seed", "seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw.")
    @functools.wraps(command)
    def wrapped(**given: object) -> None:
        asked = {name: given.pop(name) for name in Source.__slots__}
        command(source=Source(**asked), **given)  # type: ignore[arg-type]  # click made them of these types

    return wrapped


def _moment(option: str, text: str | None) -> datetime:
    if text is None:
        raise ValueError(f"{option}: --prometheus needs a span; write a time such as 2026-11-20T00:00")
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} {text[:40]}: no ISO 8601 time; write one such as 2026-11-20T00:00") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
