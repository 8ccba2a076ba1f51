"""A block of CSV lines to columns in some sixty numpy operations, whatever the number of rows.

Who calls it: `traces.read`. Nothing is judged here: a block with anything unusual in it (quotes, ragged rows, signs, an
exponent, two time zones) is left to `traces.cells`, row by row, which either reads it or says what is wrong. What is
taken here, `cells` reads to the same values (tests/replay/test_trace_columns.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from capstan.replay.runs import Ints
from capstan.replay.traces.cells import MAX_TOKENS, MAX_YEAR, MIN_YEAR, NS
from capstan.replay.traces.layouts import Clock, Places

Bytes = npt.NDArray[np.uint8]

COMMA, NEWLINE, RETURN, POINT, ZERO = (ord(c) for c in ",\n\r.0")
PAD = 32  # more than the widest number taken here: looking left of a field stays inside the buffer
MAX_SECONDS_DIGITS = 10  # 317 years; `cells` says what is wrong beyond 292
MAX_FRACTION_DIGITS = 9
TOKEN_DIGITS = 10  # those of MAX_TOKENS
ISO = re.compile(rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(Z|[+-]\d\d:\d\d)?")
ISO_WIDTH = 19  # 2023-11-16 18:15:46
ISO_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])
ISO_MARKS = ((4, b"-"), (7, b"-"), (10, b" T"), (13, b":"), (16, b":"))
EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of a block: where each cell begins and ends in the padded buffer."""

    data: Bytes
    start: Ints
    end: Ints

    @property
    def width(self) -> Ints:
        """Characters of each cell."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Parsed:
    """A block's rows, shapes `[row]`."""

    time_ns: Ints
    prompt_tokens: Ints
    output_tokens: Ints


def parsed(data: bytes, places: Places) -> Parsed | None:
    """Return the columns of a block of whole lines, or None where some row needs a closer look."""
    if b'"' in data:
        return None
    cells = _split(data, places.width)
    if cells is None:
        return None
    prompt, output = _whole(cells[places.prompt]), _whole(cells[places.output])
    if prompt is None or output is None:
        return None
    clock = places.layout.clock
    time_ns = None if clock is Clock.SECONDS else _iso_ns(cells[places.time])
    if time_ns is None and clock is not Clock.ISO:
        time_ns = _seconds_ns(cells[places.time])
    return None if time_ns is None else Parsed(time_ns, prompt, output)


def _split(data: bytes, width: int) -> list[Cells] | None:
    """Return the cells of each column, or None where a row has more or fewer of them than the header."""
    buffer = np.frombuffer(b"0" * PAD + data + b"0" * PAD, np.uint8)
    ends = np.flatnonzero(buffer == NEWLINE)
    starts = np.empty_like(ends)
    starts[0], starts[1:] = PAD, ends[:-1] + 1
    commas = np.flatnonzero(buffer == COMMA)
    if len(commas) != len(ends) * (width - 1):
        return None
    inner = commas.reshape(len(ends), width - 1)
    if width > 1 and ((inner[:, 0] < starts).any() or (inner[:, -1] > ends).any()):
        return None
    returned = buffer[ends - 1] == RETURN
    if np.count_nonzero(buffer == RETURN) != np.count_nonzero(returned):  # elsewhere it is no end of a line
        return None
    last = ends - returned
    left = [starts, *(inner[:, i] + 1 for i in range(width - 1))]
    right = [*(inner[:, i] for i in range(width - 1)), last]
    return [Cells(buffer, start, end) for start, end in zip(left, right, strict=True)]


def _whole(cells: Cells) -> Ints | None:
    """Return token counts without a sign, or None."""
    width = cells.width
    if width.min() < 1 or width.max() > TOKEN_DIGITS:
        return None
    value = np.zeros(len(width), np.int64)
    for i in range(int(width.max())):  # from the last digit to the first
        digit = cells.data[cells.end - 1 - i] - np.uint8(ZERO)  # anything but a digit wraps to more than 9
        digit[width <= i] = 0
        if (digit > 9).any():
            return None
        value += digit * np.int64(10**i)
    return value if value.max() <= MAX_TOKENS else None


def _seconds_ns(cells: Cells) -> Ints | None:
    """Return seconds such as 12 or 12.345 in nanoseconds, or None."""
    point = _points(cells)
    if point is None:
        return None
    whole_digits = point - cells.start
    if whole_digits.min() < 1 or whole_digits.max() > MAX_SECONDS_DIGITS:
        return None
    seconds = _digits(cells.data, cells.start, whole_digits)
    fraction_ns = _fraction_ns(cells.data, point, cells.end)
    if seconds is None or fraction_ns is None or seconds.max() >= 2**63 // NS:
        return None
    return seconds * NS + fraction_ns


def _points(cells: Cells) -> Ints | None:
    """Return where each number's decimal point stands (its end, where it has none); None for an over-long one."""
    width = cells.width
    if width.max() > MAX_SECONDS_DIGITS + 1 + MAX_FRACTION_DIGITS:
        return None
    point = cells.end.copy()
    for i in range(int(width.max()) - 1, -1, -1):  # from the right, so that the leftmost point wins
        here = (i < width) & (cells.data[cells.start + np.minimum(i, width)] == POINT)
        point[here] = cells.start[here] + i
    return point


def _digits(data: Bytes, start: Ints, count: Ints) -> Ints | None:
    """Return the number that `count` digits from `start` on make, or None."""
    value = np.zeros(len(start), np.int64)
    for i in range(int(count.max())):
        digit = data[np.minimum(start + i, len(data) - 1)] - np.uint8(ZERO)
        inside = i < count
        if (digit[inside] > 9).any():
            return None
        value = np.where(inside, value * 10 + digit, value)
    return value


def _fraction_ns(data: Bytes, point: Ints, end: Ints) -> Ints | None:
    """Return the digits after each point as nanoseconds; none where the point is the end. None: no such thing."""
    count = end - point - 1  # -1: no point
    if (count == 0).any() or count.max() > MAX_FRACTION_DIGITS:
        return None
    if (data[point[count > 0]] != POINT).any():
        return None
    value = np.zeros(len(point), np.int64)
    for i in range(int(max(count.max(), 0))):
        digit = data[np.minimum(point + 1 + i, len(data) - 1)] - np.uint8(ZERO)
        digit[count <= i] = 0
        if (digit > 9).any():
            return None
        value += digit * np.int64(10 ** (MAX_FRACTION_DIGITS - 1 - i))
    return value


def _iso_ns(cells: Cells) -> Ints | None:
    """Return nanoseconds since 1970 of times that all have the first one's zone, or None."""
    first = cells.data[cells.start[0] : cells.end[0]].tobytes()
    shape = ISO.fullmatch(first)
    if shape is None:
        return None
    zone = shape[1] or b""
    end = cells.end - len(zone)
    if (end - cells.start).min() < ISO_WIDTH:
        return None
    for i, mark in enumerate(zone):
        if (cells.data[end + i] != mark).any():
            return None
    seconds = _iso_seconds(cells.data, cells.start)
    fraction_ns = _fraction_ns(cells.data, cells.start + ISO_WIDTH, end)
    if seconds is None or fraction_ns is None:
        return None
    return (seconds - _offset_s(zone)) * NS + fraction_ns


def _iso_seconds(data: Bytes, start: Ints) -> Ints | None:
    """Return whole seconds since 1970 of `YYYY-MM-DD hh:mm:ss`, or None where one of them is no such time."""
    for place, allowed in ISO_MARKS:
        mark = data[start + place]
        if not np.isin(mark, np.frombuffer(allowed, np.uint8)).all():
            return None
    digits = [data[start + place] - np.uint8(ZERO) for place in ISO_DIGITS]
    if any((digit > 9).any() for digit in digits):
        return None
    pairs = [digits[i] * np.int64(10) + digits[i + 1] for i in range(0, len(digits), 2)]
    century, years, month, day, hour, minute, second = pairs
    if hour.max() > 23 or minute.max() > 59 or second.max() > 59:
        return None
    days = _days(((century * 100 + years) * 100 + month) * 100 + day)
    return None if days is None else ((days * 24 + hour) * 60 + minute) * 60 + second


def _days(yyyymmdd: Ints) -> Ints | None:
    """Return days since 1970; few different ones are expected, in runs."""
    begins = np.flatnonzero(np.diff(yyyymmdd, prepend=-1))
    runs = yyyymmdd[begins]
    if runs.min() < MIN_YEAR * 10_000 or runs.max() >= (MAX_YEAR + 1) * 10_000:
        return None
    try:
        known = {int(d): date(int(d) // 10_000, int(d) // 100 % 100, int(d) % 100).toordinal() for d in set(runs)}
    except ValueError:  # 31 February
        return None
    days = np.array([known[int(d)] - EPOCH_DAY for d in runs], np.int64)
    return np.repeat(days, np.diff(begins, append=len(yyyymmdd)))


def _offset_s(zone: bytes) -> int:
    if zone in {b"", b"Z"}:
        return 0
    offset_s = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return -offset_s if zone[:1] == b"-" else offset_s
