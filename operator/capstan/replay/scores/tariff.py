"""What energy costs over time, in money or in carbon: step functions from a file, integrated over a run's watts.

Who calls it: `scores.compare`; the command line reads the files (`--price`, `--carbon-intensity`). Must not know:
systems, SLOs. The watts are those of assigned GPUs; GPUs without a pod have no watts over time and are not in it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from capstan import units
from capstan.replay.runs import Floats, Run
from capstan.replay.scores import watts

START = "start_s"


class Kind(StrEnum):
    """What a file gives per kWh; the value is its column. Money is in the file's own currency."""

    PRICE = "price_per_kwh"
    CARBON = "g_per_kwh"


class TariffError(ValueError):
    """A file that cannot be used; the message names file, row, column and what to do."""

    def __init__(self, path: Path, row: int | None, field: str, fix: str) -> None:
        place = f"{path}" if row is None else f"{path}, row {row}"
        super().__init__(f"{place}, {field}: {fix}")


@dataclass(frozen=True, slots=True)
class Tariff:
    """From `start_s[i]` on a kWh counts `per_kwh[i]`, until the next start; the last one holds on."""

    kind: Kind
    start_s: Floats
    per_kwh: Floats

    def over(self, run: Run) -> float | None:
        """Return the run's total, in the file's currency or in grams; None where watts are not known throughout."""
        edges_s, gpus_w = watts.steps([service.series for service in run.services])
        if not len(gpus_w) or not np.isfinite(gpus_w).all():
            return None
        cuts_s = np.union1d(edges_s, self.start_s[(self.start_s > edges_s[0]) & (self.start_s < edges_s[-1])])
        power_w = gpus_w[np.searchsorted(edges_s, cuts_s[:-1], side="right") - 1]
        rate = self.per_kwh[np.searchsorted(self.start_s, cuts_s[:-1], side="right") - 1]
        return float((power_w * np.diff(cuts_s) * rate).sum() / units.JOULES_PER_KWH)


def price(path: Path) -> Tariff:
    """Read a CSV with the columns `start_s` (seconds after the first arrival, from 0 on) and `price_per_kwh`.

    Raises:
        TariffError: The file cannot be read or used.
    """
    return _read(path, Kind.PRICE)


def carbon(path: Path) -> Tariff:
    """Read a CSV with the columns `start_s` (seconds after the first arrival, from 0 on) and `g_per_kwh`.

    Raises:
        TariffError: The file cannot be read or used.
    """
    return _read(path, Kind.CARBON)


def _read(path: Path, kind: Kind) -> Tariff:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(_rows(path, kind, lines))
    except OSError as problem:
        raise TariffError(path, None, "file", f"{problem.strerror}; give a file that can be read") from problem
    except (UnicodeDecodeError, csv.Error) as problem:
        raise TariffError(path, None, "file", "is no plain CSV text; give a CSV file") from problem
    if not rows:
        raise TariffError(path, None, "rows", "there is none; give at least one, from 0 s on")
    return Tariff(kind, np.array([start_s for start_s, _ in rows]), np.array([value for _, value in rows]))


def _rows(path: Path, kind: Kind, lines: Iterable[str]) -> Iterable[tuple[float, float]]:
    rows = csv.reader(lines, strict=True)
    header = [name.strip() for name in next(rows, [])]
    missing = [name for name in (START, kind) if name not in header]
    if missing:
        found = ", ".join(header)[:200] or "an empty line"
        raise TariffError(path, 1, ", ".join(missing), f"missing; found {found}; name the columns {START},{kind}")
    before_s = -math.inf
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        start_s = _number(path, number, START, row, header)
        if math.isinf(before_s) and start_s != 0:
            raise TariffError(path, number, START, f"the first is {start_s:g}; begin at 0, the first arrival")
        if start_s <= before_s:
            raise TariffError(path, number, START, f"{start_s:g} is not after the row above; sort the file by {START}")
        before_s = start_s
        yield start_s, _number(path, number, kind, row, header)


def _number(path: Path, number: int, column: str, row: list[str], header: list[str]) -> float:
    at = header.index(column)
    cell = row[at] if at < len(row) else ""
    try:
        value = float(cell)
    except ValueError:
        raise TariffError(path, number, column, f"{cell[:40]!r} is no number; write one") from None
    lowest = -math.inf if column == Kind.PRICE else 0.0  # prices below zero happen
    if not (math.isfinite(value) and value >= lowest):
        raise TariffError(path, number, column, f"{cell[:40]} is not possible; write a finite number, 0 or above")
    return value
