"""Blocks of lines to columns: CSV by its columns, Mooncake by its keys, both in order of time or refused.

Who calls it: `traces.read`. Must not know: where lines come from, what the columns are for.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from capstan.replay.traces import cells, columns
from capstan.replay.traces.columns import Parsed
from capstan.replay.traces.errors import TraceError
from capstan.replay.traces.files import Block
from capstan.replay.traces.layouts import MOONCAKE, Places

MS_NS = 1_000_000

PUBLISHED = re.compile(
    rb'^\{"timestamp": (0|[1-9][0-9]{0,11}), "input_length": ([1-9][0-9]{0,8}), "output_length": ([1-9][0-9]{0,8}), '
    rb'"hash_ids": \[(?:[0-9]+(?:, [0-9]+)*)?\]\}\n',
    re.MULTILINE,
)
"""A line of the published traces, whole; 12 digits of milliseconds are 31 years."""

Row = tuple[int, int, int]


class Rows(Protocol):
    """Turns the blocks of one file, in order, into columns."""

    def parsed(self, block: Block) -> Parsed:
        """Return a block's rows; TraceError at the first that cannot be used."""
        ...


class Csv:
    """Rows of comma-separated values: whole blocks at once, row by row where one of them is unusual or wrong."""

    def __init__(self, path: Path, places: Places) -> None:
        self._path, self._places = path, places
        self._least_output = 0 if places.layout.failures else 1
        self._last_ns = -(2**63)

    def parsed(self, block: Block) -> Parsed:
        """Return a block's rows; TraceError at the first that cannot be used."""
        fast = columns.parsed(block.data, self._places)
        sound = fast is not None and _sound(fast, self._last_ns, self._least_output)
        found = fast if fast is not None and sound else _columns(self._rows(block))
        self._last_ns = int(found.time_ns[-1])
        return found

    def _rows(self, block: Block) -> Iterator[Row]:
        path, places, last_ns = self._path, self._places, self._last_ns
        time, prompt, output = places.layout.names
        for row, line in _split(path, block):
            if len(line) <= max(places.time, places.prompt, places.output):
                raise TraceError(path, row, "columns", f"only {len(line)} of them; complete or remove the row")
            when_ns = cells.time_ns(path, row, places.layout, line[places.time])
            if when_ns < last_ns:
                fix = f"{line[places.time][:40]} is before the row above; sort the file by {time}"
                raise TraceError(path, row, time, fix)
            last_ns = when_ns
            yield (
                when_ns,
                cells.tokens(path, row, prompt, line[places.prompt]),
                cells.tokens(path, row, output, line[places.output], least=self._least_output),
            )


class Json:
    """Mooncake: an object per line, `timestamp` in milliseconds; `hash_ids` (shared prefixes) are not looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_ns = 0

    def parsed(self, block: Block) -> Parsed:
        """Return a block's rows; TraceError at the first that cannot be used."""
        fast = _published(block.data)
        if fast is not None and _sound(fast, self._last_ns, 1):
            found = fast
        else:
            lines = block.data.removesuffix(b"\n").split(b"\n")
            found = _columns(self._row(row, line) for row, line in enumerate(lines, start=block.row))
        self._last_ns = int(found.time_ns[-1])
        return found

    def _row(self, row: int, line: bytes) -> Row:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:  # the second: brackets within brackets, a thousand deep
            raise TraceError(self._path, row, "JSON", f"{error}; write one object per line") from error
        keys = list(found) if isinstance(found, dict) else []
        missing = [name for name in MOONCAKE.names if name not in keys]
        if missing:
            fix = f"missing; found {', '.join(keys)[:200] or 'no keys'}; a Mooncake row has {', '.join(MOONCAKE.names)}"
            raise TraceError(self._path, row, ", ".join(missing), fix)
        time, prompt, output = (found[name] for name in MOONCAKE.names)
        when_ns = cells.number_ns(self._path, row, MOONCAKE.time, json.dumps(time), unit_ns=MS_NS)
        if when_ns < self._last_ns:
            raise TraceError(self._path, row, MOONCAKE.time, f"{time} is before the row above; sort the file by it")
        self._last_ns = when_ns
        return (
            when_ns,
            cells.tokens(self._path, row, MOONCAKE.prompt, json.dumps(prompt)),
            cells.tokens(self._path, row, MOONCAKE.output, json.dumps(output)),
        )


def _published(data: bytes) -> Parsed | None:
    """Return the rows of a block whose every line is written as the published traces write it, else None."""
    found = PUBLISHED.findall(data)
    if len(found) != data.count(b"\n"):
        return None
    table = np.array(found, "S13").astype(np.int64)
    return Parsed(table[:, 0] * MS_NS, table[:, 1].copy(), table[:, 2].copy())


def _sound(found: Parsed, last_ns: int, least_output: int) -> bool:
    ordered = bool(found.time_ns[0] >= last_ns and (np.diff(found.time_ns) >= 0).all())
    return ordered and bool(found.prompt_tokens.min() >= 1 and found.output_tokens.min() >= least_output)


def _split(path: Path, block: Block) -> Iterator[tuple[int, list[str]]]:
    """Yield each row's number and cells."""
    reader = csv.reader(io.StringIO(block.data.decode(), newline="\n"), strict=True)
    try:
        yield from enumerate(reader, start=block.row)
    except csv.Error as error:
        raise TraceError(path, None, "quoting", f"{error}; give plain comma-separated values") from error


def _columns(rows: Iterable[Row]) -> Parsed:
    table = np.array(list(rows), np.int64).reshape(-1, 3)
    return Parsed(*(np.ascontiguousarray(table[:, i]) for i in range(3)))
