"""Rates and lengths as two small tables, so that a load can be described without its requests; read, checked, written.

Who calls it: `traces.describe` makes them, `replay.synth` draws from them, the command line reads and writes them. Must
not know: how requests are drawn. Two layouts are read: ours (`rates.csv`: `start_s,requests_per_min`; `lengths.csv`:
`percentile,input_tokens,output_tokens`) and the digitised Azure week's (minutes with an envelope; exact outputs).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capstan import units
from capstan.replay.runs import Floats
from capstan.replay.traces import atomic, files
from capstan.replay.traces.cells import MAX_TOKENS
from capstan.replay.traces.errors import TraceError

MINUTE_S = units.SECONDS_PER_MINUTE

OURS_RATES = ("start_s", "requests_per_min")
DIGITISED_RATES = ("minute_of_trace", "requests_per_min_mid", "requests_per_min_lo", "requests_per_min_hi")
OURS_LENGTHS = ("percentile", "input_tokens", "output_tokens")
DIGITISED_LENGTHS = ("cdf_percent", "input_tokens", "output_tokens", "output_tokens_exact")

MAX_PER_MIN = 6e8
"""Ten million requests a second: no such service, but such a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Mean arrivals over time, shapes `[step]`: step i lasts until step i + 1, the last until `end_s`.

    `low_per_min` and `high_per_min` are the envelope of the counts of single minutes within a step, equal to
    `per_min` where nothing is known of it.
    """

    start_s: Floats
    per_min: Floats
    low_per_min: Floats
    high_per_min: Floats
    end_s: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """Marginal quantiles of both lengths, shapes `[point]`: `cdf_ratio` ascends within 0 to 1, lengths never fall."""

    cdf_ratio: Floats
    prompt_tokens: Floats
    output_tokens: Floats


def steady(start_s: Floats, per_min: Floats, end_s: float) -> Rates:
    """Return rates without an envelope."""
    return Rates(start_s, per_min, per_min, per_min, end_s)


def expected(rates: Rates) -> float:
    """Return the mean number of requests."""
    return float((rates.per_min * np.diff(rates.start_s, append=rates.end_s)).sum() / MINUTE_S)


def read_rates(path: Path) -> Rates:
    """Read `rates.csv` of either layout.

    Our last step lasts as long as the one before it (a minute, where it is alone); the digitised file's last row
    stands at its end, and closes it.

    Raises:
        TraceError: The row, the field and the fix.
    """
    table = _table(path, (OURS_RATES, DIGITISED_RATES))
    if table.names == OURS_RATES:
        start_s, per_min = (table.column(name) for name in OURS_RATES)
        low, high = per_min, per_min
        last_s = start_s[-1] - start_s[-2] if len(start_s) > 1 else MINUTE_S
    else:
        minute, per_min, low, high = (table.column(name) for name in DIGITISED_RATES)
        start_s, last_s = minute * MINUTE_S, 0.0
        table.refuse((low > per_min) | (per_min > high), DIGITISED_RATES[1], "outside lo and hi; correct the row")
        if len(start_s) < 2:
            raise TraceError(path, None, "rows", "the last row closes the table; give two rows at least")
    table.refuse(np.diff(start_s, prepend=-math.inf) <= 0, table.names[0], "not after the row above; sort the rows")
    table.refuse(per_min > MAX_PER_MIN, table.names[1], f"more than {MAX_PER_MIN:g} a minute; correct the row")
    if not per_min.any():
        raise TraceError(path, None, table.names[1], "every rate is 0, so there is nothing to draw; give a rate")
    return Rates(start_s, per_min, low, high, float(start_s[-1] + last_s))


def read_lengths(path: Path) -> Lengths:
    """Read `lengths.csv` of either layout; an exact output length replaces the one read off a plot.

    Raises:
        TraceError: The row, the field and the fix.
    """
    table = _table(path, (OURS_LENGTHS, DIGITISED_LENGTHS))
    percent, prompt, output = (table.column(name) for name in table.names[:3])
    if table.names == DIGITISED_LENGTHS:
        exact = table.column(DIGITISED_LENGTHS[3], blank=math.nan)
        output = np.where(np.isnan(exact), output, exact)
    table.refuse(percent > 100, table.names[0], "above 100; percentiles go from 0 to 100")
    table.refuse(np.diff(percent, prepend=-1.0) <= 0, table.names[0], "not above the row before; sort the rows")
    for name, column in ((table.names[1], prompt), (table.names[2], output)):
        table.refuse((column < 1) | (column > MAX_TOKENS), name, "no length of a request; write tokens, 1 or more")
        table.refuse(np.diff(column, prepend=0.0) < 0, name, "below the row before; quantiles never fall")
    return Lengths(percent / 100, prompt, output)


def write_rates(path: Path, rates: Rates) -> None:
    """Write `rates.csv`: `start_s,requests_per_min`; a last step of another length is closed by a row of rate 0."""
    start_s, per_min = rates.start_s, rates.per_min
    usual_s = float(start_s[-1] - start_s[-2]) if len(start_s) > 1 else MINUTE_S
    if not math.isclose(rates.end_s - float(start_s[-1]), usual_s):
        start_s, per_min = np.append(start_s, rates.end_s), np.append(per_min, 0.0)
    _write(path, OURS_RATES, (start_s, per_min))


def write_lengths(path: Path, lengths: Lengths) -> None:
    """Write `lengths.csv`: `percentile,input_tokens,output_tokens`."""
    _write(path, OURS_LENGTHS, (lengths.cdf_ratio * 100, lengths.prompt_tokens, lengths.output_tokens))


@dataclass(frozen=True, slots=True)
class _Table:
    """The cells of a small CSV file, and the names by which it was known."""

    path: Path
    names: tuple[str, ...]
    header: list[str]
    rows: list[list[str]]

    def column(self, name: str, *, blank: float | None = None) -> Floats:
        """Return a column of numbers >= 0; an empty cell is `blank` where one may be empty."""
        place = self.header.index(name)
        return np.array([self._number(name, row, cells[place], blank) for row, cells in enumerate(self.rows, start=2)])

    def refuse(self, wrong: np.typing.NDArray[np.bool_], field: str, fix: str) -> None:
        """Raise a TraceError at the first row that is wrong."""
        if wrong.any():
            raise TraceError(self.path, int(np.argmax(wrong)) + 2, field, fix)

    def _number(self, name: str, row: int, cell: str, blank: float | None) -> float:
        if blank is not None and not cell.strip():
            return blank
        try:
            number = float(cell)
        except ValueError:
            raise TraceError(self.path, row, name, f"{cell[:40]!r} is no number; write one") from None
        if not (math.isfinite(number) and number >= 0):
            raise TraceError(self.path, row, name, f"{cell[:40]} is not a finite number of 0 or more; correct the row")
        return number


def _table(path: Path, layouts: Sequence[tuple[str, ...]]) -> _Table:
    text = b"".join(block.data for block in files.blocks(path)).decode()
    try:
        header, *rows = csv.reader(io.StringIO(text), strict=True)
    except csv.Error as error:
        raise TraceError(path, None, "quoting", f"{error}; give plain comma-separated values") from error
    names = [name.strip() for name in header]
    known = next((layout for layout in layouts if all(name in names for name in layout)), None)
    if known is None:
        would_do = " or ".join(",".join(layout) for layout in layouts)
        raise TraceError(path, 1, "columns", f"found {','.join(names)[:200] or 'an empty line'}; write {would_do}")
    if not rows:
        raise TraceError(path, None, "rows", "there is a header and nothing below it; give a table with rows")
    for row, cells in enumerate(rows, start=2):
        if len(cells) != len(names):
            raise TraceError(path, row, "columns", f"{len(cells)} of them, the header has {len(names)}; complete it")
    return _Table(path, known, names, rows)


def _write(path: Path, names: tuple[str, ...], columns: tuple[Floats, ...]) -> None:
    rows = zip(*(column.tolist() for column in columns), strict=True)
    lines = [",".join(names), *(",".join(f"{cell:.12g}" for cell in row) for row in rows)]
    with atomic.replaced(path) as stream:
        stream.write("\n".join([*lines, ""]).encode())
