"""What energy costs over time, from a file: the price or the carbon intensity of a kilowatt-hour, as steps.

Who calls it: `replay.costs`; the command line names the files (`--price`, `--carbon-intensity`). Must not know: runs,
plans. The last row may say `repeat` for its value: from that moment on the file begins again.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from capstan import units
from capstan.model.objective import Series

START = "start_s"
REPEAT = "repeat"


class Kind(StrEnum):
    """What a file gives per kWh; the value is its column. Money is in the file's own currency."""

    PRICE = "price_per_kwh"
    CARBON = "g_per_kwh"


class TariffError(ValueError):
    """A file that cannot be used; the message names file, row, column and what to do."""

    def __init__(self, path: Path, row: int | None, field: str, fix: str) -> None:
        place = f"{path}" if row is None else f"{path}, row {row}"
        super().__init__(f"{place}, {field}: {fix}")


def price(path: Path) -> Series:
    """Read money per joule from a CSV with the columns `start_s` (after the first arrival, from 0) and `price_per_kwh`.

    Raises:
        TariffError: The file cannot be read or used.
    """
    return _read(path, Kind.PRICE)


def carbon(path: Path) -> Series:
    """Read grams per joule from a CSV with the columns `start_s` (after the first arrival, from 0) and `g_per_kwh`.

    Raises:
        TariffError: The file cannot be read or used.
    """
    return _read(path, Kind.CARBON)


def _read(path: Path, kind: Kind) -> Series:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(_rows(path, kind, lines))
    except OSError as problem:
        raise TariffError(path, None, "file", f"{problem.strerror}; give a file that can be read") from problem
    except (UnicodeDecodeError, csv.Error) as problem:
        raise TariffError(path, None, "file", "is no plain CSV text; give a CSV file") from problem
    period_s = rows.pop()[0] if rows and rows[-1][1] is None else None
    values = [value for _, value in rows if value is not None]
    if not values:
        raise TariffError(path, None, "rows", "there is none; give at least one, from 0 s on")
    starts = tuple(start_s for start_s, _ in rows)
    return Series(starts, tuple(value / units.JOULES_PER_KWH for value in values), period_s)


def _rows(path: Path, kind: Kind, lines: Iterable[str]) -> Iterable[tuple[float, float | None]]:
    """Yield (start, value) of every row; no value: from there on the file begins again."""
    rows = csv.reader(lines, strict=True)
    header = [name.strip() for name in next(rows, [])]
    missing = [name for name in (START, kind) if name not in header]
    if missing:
        found = ", ".join(header)[:200] or "an empty line"
        raise TariffError(path, 1, ", ".join(missing), f"missing; found {found}; name the columns {START},{kind}")
    before_s, ended = -math.inf, False
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if ended:
            raise TariffError(path, number, kind, f"comes after `{REPEAT}`; let that be the last row")
        start_s = _number(path, number, START, row, header)
        _check_start(path, number, start_s, before_s)
        before_s, ended = start_s, _cell(row, header, kind).strip() == REPEAT
        yield start_s, None if ended else _number(path, number, kind, row, header)


def _check_start(path: Path, number: int, start_s: float, before_s: float) -> None:
    if math.isinf(before_s) and start_s != 0:
        raise TariffError(path, number, START, f"the first is {start_s:g}; begin at 0, the first arrival")
    if start_s <= before_s:
        raise TariffError(path, number, START, f"{start_s:g} is not after the row above; sort the file by {START}")


def _cell(row: list[str], header: list[str], column: str) -> str:
    at = header.index(column)
    return row[at] if at < len(row) else ""


def _number(path: Path, number: int, column: str, row: list[str], header: list[str]) -> float:
    cell = _cell(row, header, column)
    try:
        value = float(cell)
    except ValueError:
        raise TariffError(path, number, column, f"{cell[:40]!r} is no number; write one") from None
    lowest = -math.inf if column == Kind.PRICE else 0.0  # prices below zero happen
    if not (math.isfinite(value) and value >= lowest):
        raise TariffError(path, number, column, f"{cell[:40]} is not possible; write a finite number, 0 or above")
    return value
