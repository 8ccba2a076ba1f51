"""A trace to a file in Azure's format, plain or gzip: streamed, same bytes for same requests, whole or not at all.

Who calls it: `capstan trace synth`. Must not know: where the requests come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from capstan.replay.runs import Ints, Requests
from capstan.replay.traces import atomic
from capstan.replay.traces.columns import ZERO, Bytes
from capstan.replay.traces.layouts import AZURE

START = datetime(2024, 1, 1)  # noqa: DTZ001 - a synthetic trace has no date; a Monday, midnight UTC
TICKS_PER_S = 10_000_000
"""Azure writes seven digits after the second."""

DAY_TICKS = 86_400 * TICKS_PER_S
CLOCK = ((11, 36_000), (12, 3_600), (14, 600), (15, 60), (17, 10), (18, 1))
"""Where a digit of the time of day stands in `2024-01-01 00:00:00.0000000`, and the seconds that one of it is."""

TOKEN_DIGITS = 10  # those of 2**31 - 1


def write(path: Path, parts: Iterable[Requests], progress: Callable[[int], None] = lambda _rows: None) -> int:
    """Write a trace and return its number of requests; a name that ends in `.gz` is compressed.

    Args:
        path: The file; it appears under its name when it is complete, and nothing is left when it is not.
        parts: Requests in order, the parts' times on one clock.
        progress: Told the rows written so far.

    Raises:
        OSError: The file or its folder cannot be written.
    """
    rows = 0
    with atomic.replaced(path) as stream:
        stream.write(",".join(AZURE.names).encode() + b"\n")
        for part in parts:
            stream.write(lines(part))
            rows += len(part)
            progress(rows)
    return rows


def lines(requests: Requests) -> bytes:
    """Return rows as text; a matrix of characters, of which leading zeros of the lengths are left out."""
    ticks = np.rint(requests.arrival_s * TICKS_PER_S).astype(np.int64)
    time = _times(ticks)
    prompt, output = _numbers(requests.prompt_tokens), _numbers(requests.output_tokens)
    comma, newline = (np.full((len(ticks), 1), ord(c), np.uint8) for c in ",\n")
    table: Bytes = np.hstack([time, comma, prompt, comma, output, newline])
    text: bytes = table[table != 0].tobytes()
    return text


def _times(ticks: Ints) -> Bytes:
    """Return `2024-01-01 00:00:00.0000000`, shape `[row, 27]`; rows come in runs of one day."""
    text = np.empty((len(ticks), 27), np.uint8)
    text[:] = np.frombuffer(b"0000-00-00 00:00:00.0000000", np.uint8)
    days = ticks // DAY_TICKS
    for day in np.unique(days):
        date = (START + timedelta(days=int(day))).strftime("%Y-%m-%d")
        text[days == day, :10] = np.frombuffer(date.encode(), np.uint8)
    seconds, fraction = np.divmod(ticks - days * DAY_TICKS, TICKS_PER_S)
    for place, unit_s in CLOCK:
        text[:, place] += (seconds // unit_s % (6 if unit_s in {600, 10} else 10)).astype(np.uint8)
    for i in range(7):
        text[:, 26 - i] += (fraction // 10**i % 10).astype(np.uint8)
    return text


def _numbers(values: Ints) -> Bytes:
    """Return decimal digits, right-aligned behind zero bytes, shape `[row, digit]`."""
    digits = min(len(str(int(values.max(initial=1)))), TOKEN_DIGITS)
    text = np.zeros((len(values), digits), np.uint8)
    rest: npt.NDArray[np.int64] = values.copy()
    for i in range(digits):
        rest, digit = np.divmod(rest, 10)
        shown = (rest > 0) | (digit > 0) | (i == 0)
        text[:, digits - 1 - i] = np.where(shown, digit + ZERO, 0)
    return text
