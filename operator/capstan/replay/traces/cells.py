"""One row at a time: the meaning of a cell, and the error of one that has none.

Who calls it: `traces.read`, for every block that `traces.columns` cannot take whole. It is the reference: what this
reads, the fast path reads to the same bits, or leaves to this. Must not know: files, numpy.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from capstan.replay.traces.errors import TraceError
from capstan.replay.traces.layouts import Clock, Layout

NS = 1_000_000_000
MAX_TOKENS = 2**31 - 1
"""No engine counts a request's tokens beyond 32 bits."""

MAX_TIME_S = 2**63 // NS - 1
"""292 years: what nanoseconds in 64 bits hold."""

MIN_YEAR, MAX_YEAR = 1700, 2261
"""The years whose nanoseconds since 1970 fit in 64 bits."""

WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
FRACTION = re.compile(r"([^.,]*)[.,]([0-9]+)(.*)", re.ASCII | re.DOTALL)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def tokens(path: Path, row: int, field: str, cell: str, *, least: int = 1) -> int:
    """Return a token count."""
    text = cell.strip()
    if not WHOLE.fullmatch(text) or len(text) > 20:  # 20 digits are past any limit below
        raise TraceError(path, row, field, f"{cell[:40]!r} is no whole number; write a token count")
    count = int(text)
    if count < least:
        raise TraceError(path, row, field, f"{count} is below {least}; correct or remove the row")
    if count > MAX_TOKENS:
        raise TraceError(path, row, field, f"{count} is no length of a request; correct or remove the row")
    return count


def time_ns(path: Path, row: int, layout: Layout, cell: str) -> int:
    """Return a time in whole nanoseconds: since 1970 for a date, as written for seconds."""
    if layout.clock is Clock.SECONDS or (layout.clock is Clock.EITHER and _numeric(cell)):
        return number_ns(path, row, layout.time, cell)
    try:
        return _iso_ns(cell.strip())
    except ValueError:
        fix = f"{cell[:40]!r} is no ISO 8601 time; write it as one"
        if layout.clock is Clock.EITHER:
            fix = f"{cell[:40]!r} is neither a number of seconds nor an ISO 8601 time; write it as one of them"
        raise TraceError(path, row, layout.time, fix) from None


def number_ns(path: Path, row: int, field: str, cell: str, *, unit_ns: int = NS) -> int:
    """Return a number of seconds (or of units of `unit_ns`) in whole nanoseconds."""
    try:
        number = Decimal(cell.strip())
    except InvalidOperation:
        fix = f"{cell[:40]!r} is no number; write seconds as the trace's format has them"
        raise TraceError(path, row, field, fix) from None
    if not number.is_finite():
        raise TraceError(path, row, field, f"{cell[:40]!r} is not finite; correct or remove the row")
    if number < 0:
        raise TraceError(path, row, field, f"{cell[:40]} is negative; count from 0 or later")
    if number * unit_ns > MAX_TIME_S * NS:
        raise TraceError(path, row, field, f"{cell[:40]} is more than 292 years; is the unit right?")
    return int(number * unit_ns)


def _numeric(cell: str) -> bool:
    """Return whether a cell is some number: digits and a point at most, or what Decimal takes (1e3, nan)."""
    try:
        Decimal(cell.strip())
    except InvalidOperation:
        return False
    return True


def _iso_ns(text: str) -> int:
    """Return nanoseconds since 1970 UTC; one without a zone is UTC, as in the traces. Digits past the ninth are cut."""
    whole, fraction_ns = text, 0
    if found := FRACTION.fullmatch(text):
        whole = found[1] + found[3]
        fraction_ns = int(found[2][:9].ljust(9, "0"))
    when = datetime.fromisoformat(whole)
    if not MIN_YEAR <= when.year <= MAX_YEAR:
        raise ValueError("outside what nanoseconds in 64 bits hold")
    since = (when if when.tzinfo else when.replace(tzinfo=UTC)) - EPOCH
    return (since.days * 86400 + since.seconds) * NS + since.microseconds * 1000 + fraction_ns
