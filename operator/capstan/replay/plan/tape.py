"""A power trace from a file: AC watts of a domain by time, judged row by row, laid on whole seconds.

Who calls it: `app.fit`. Must not know: budgets, servers (`plausible` does). Nothing is repaired in silence: a sample
that is not there stays a gap, and is counted.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capstan.powercap import derive
from capstan.replay.runs import Floats
from capstan.replay.traces import cells, files
from capstan.replay.traces.errors import TraceError
from capstan.replay.traces.layouts import Clock, Layout

TIME, WATTS = "time_s", "watts"
COLUMNS = Layout("power trace", TIME, WATTS, WATTS, Clock.EITHER)

MOST_PERIOD_S = 60
"""A sample stands until the next one, for a minute at most: rises within the control latency (40 s out of band,
facts/polca.md 1.2) cannot be told from samples that are further apart."""

DAY_S, WEEK_S = 86_400, 604_800
LEAST_HEARD_S = DAY_S  # the load of a service follows the day: less than one has not seen its peak
MOST_DAYS = 400  # a year and a bit: more is a time column in another unit, and would be laid on as many seconds


@dataclass(frozen=True, slots=True, eq=False)
class Tape:
    """A domain's watts.

    Attributes:
        watts: AC watts, `[second]` since the first row; NaN where nothing was heard.
        period_s: Median time between two samples.
        samples, lost: Rows, and those of them without a value.
    """

    watts: Floats
    period_s: float
    samples: int
    lost: int

    @property
    def heard_s(self) -> int:
        """Seconds with a value."""
        return int(np.isfinite(self.watts).sum())


def read(path: Path, progress: files.Progress = files.silent) -> Tape:
    """Return a trace of `time_s,watts` (seconds or ISO times; plain or gzip).

    Raises:
        TraceError: The row, the column and the fix.
    """
    source = files.blocks(path, progress)
    places = _places(path, next(csv.reader([next(source).data.decode()]), []))
    parts, last_s = [], -math.inf
    for block in source:
        part = _fast(block, places, last_s)
        parts.append(_slow(path, block, places, last_s) if part is None else part)
        last_s = float(parts[-1][-1, 0])
    if not parts:
        raise TraceError(path, None, "rows", "there is a header and not one sample; give a trace with rows")
    return laid(path, np.concatenate(parts))


def laid(path: Path, rows: Floats) -> Tape:
    """Return samples `[row, (time, watts)]` on whole seconds: the mean of a second's, which stands until the next.

    Raises:
        TraceError: Too far apart, too long, or less than a day of them.
    """
    at_s, watts = rows[:, 0] - rows[0, 0], np.where(rows[:, 1] >= derive.LEAST_W, rows[:, 1], np.nan)
    period_s = float(np.median(np.diff(at_s))) if len(at_s) > 1 else math.inf
    if len(at_s) > 1 and period_s > MOST_PERIOD_S:
        raise TraceError(path, None, TIME, f"samples are {period_s:g} s apart; record one every {MOST_PERIOD_S} s")
    if at_s[-1] > MOST_DAYS * DAY_S:
        raise TraceError(
            path, None, TIME, f"spans {at_s[-1] / DAY_S:,.0f} days; give {MOST_DAYS} at most, in seconds or ISO times"
        )
    tape = Tape(_held(at_s, watts, period_s), period_s, len(at_s), int(np.isnan(watts).sum()))
    if tape.heard_s < LEAST_HEARD_S:
        raise TraceError(
            path, None, "rows", f"{tape.heard_s / 3600:.1f} hours with a value; give a day at least, better a week"
        )
    return tape


def _held(at_s: Floats, watts: Floats, period_s: float) -> Floats:
    """Return watts `[second]`; the last sample stands for one period, as those before it do."""
    second = at_s.astype(np.int64)
    known = np.isfinite(watts)
    length = int(second[-1]) + max(math.ceil(min(period_s, MOST_PERIOD_S)), 1)
    counts = np.bincount(second[known], minlength=length)
    sums = np.bincount(second[known], weights=watts[known], minlength=length)
    means = np.divide(sums, counts, out=np.full(length, np.nan), where=counts > 0)
    told = np.zeros(length, np.int64)
    told[second] = second  # a row without a value ends the one before
    last = np.maximum.accumulate(told)
    held = means[last]
    held[np.arange(length) - last >= MOST_PERIOD_S] = np.nan
    return np.asarray(held)


@dataclass(frozen=True, slots=True)
class _Places:
    time: int
    watts: int
    width: int


def _places(path: Path, header: list[str]) -> _Places:
    names = [name.strip() for name in header]
    missing = [name for name in (TIME, WATTS) if name not in names]
    if missing:
        found = ", ".join(names)[:200] or "an empty line"
        fix = f"missing; found {found}; name the columns {TIME} (seconds or ISO times) and {WATTS} (AC watts)"
        raise TraceError(path, 1, ", ".join(missing), fix)
    return _Places(names.index(TIME), names.index(WATTS), len(names))


def _fast(block: files.Block, places: _Places, last_s: float) -> Floats | None:
    """Return a block of plain numbers, None where some row needs a closer look."""
    if not block.data.strip():
        return None
    try:
        found = np.loadtxt(
            io.BytesIO(block.data), delimiter=",", usecols=(places.time, places.watts), ndmin=2, comments=None
        )
    except ValueError:
        return None
    if len(found) != block.data.count(b"\n"):
        return None  # empty lines are passed over there
    times = found[:, 0]
    sound = np.isfinite(found).all() and times[0] > last_s and (np.diff(times) > 0).all()
    return found if sound and found.min() >= 0 and times[-1] <= cells.MAX_TIME_S else None


def _slow(path: Path, block: files.Block, places: _Places, last_s: float) -> Floats:
    return np.array(list(_rows(path, block, places, last_s)))


def _rows(path: Path, block: files.Block, places: _Places, last_s: float) -> Iterator[tuple[float, float]]:
    reader = csv.reader(io.StringIO(block.data.decode(), newline="\n"), strict=True)
    try:
        for row, line in enumerate(reader, start=block.row):
            if len(line) <= max(places.time, places.watts):
                raise TraceError(path, row, "columns", f"only {len(line)} of them; complete or remove the row")
            when_s = cells.time_ns(path, row, COLUMNS, line[places.time]) / cells.NS
            if when_s <= last_s:
                fix = f"{line[places.time][:40]} is not after the row above; sort the file by it, each time once"
                raise TraceError(path, row, TIME, fix)
            last_s = when_s
            yield when_s, _watts(path, row, line[places.watts])
    except csv.Error as error:
        raise TraceError(path, None, "quoting", f"{error}; give plain comma-separated values") from error


def _watts(path: Path, row: int, cell: str) -> float:
    """Return watts; an empty cell, and one that says that it is no number, was not heard."""
    text = cell.strip()
    try:
        watts = float(text) if text else math.nan
    except ValueError:
        raise TraceError(path, row, WATTS, f"{text[:40]!r} is no number; write AC watts") from None
    if watts < 0 or math.isinf(watts):
        raise TraceError(path, row, WATTS, f"{text[:40]} is no draw; correct the row, or leave the cell empty")
    return watts
