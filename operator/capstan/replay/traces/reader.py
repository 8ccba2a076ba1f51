"""A trace from a file: streamed block by block, judged row by row, nothing repaired in silence.

Who calls it: `replay.load`, the command line, tests. Must not know: policies, engines, who serves the requests.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capstan.replay.runs import Requests
from capstan.replay.traces import files, layouts
from capstan.replay.traces.cells import NS
from capstan.replay.traces.columns import Parsed
from capstan.replay.traces.errors import TraceError
from capstan.replay.traces.layouts import MOONCAKE, Layout
from capstan.replay.traces.rows import Csv, Json, Rows
from capstan.replay.traces.transforms import joined


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows that were left out, and why."""

    count: int
    why: str


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests, in words where they came from, and what of it was left out."""

    requests: Requests
    source: str
    dropped: tuple[Dropped, ...] = ()


def read(path: Path, *, told: Layout | None = None, progress: files.Progress = files.silent) -> Trace:
    """Return a whole trace; `arrival_s` counts from its first row.

    Args:
        path: An Azure, BurstGPT or other CSV, or Mooncake JSON lines; plain or gzip, known by its content.
        told: The columns, where they are none of the known traces'.
        progress: Told the share that was read.

    Raises:
        TraceError: At the first row that cannot be used, or when there is none.
    """
    stream = Stream(path, told=told)
    requests = joined(stream.parts(progress))
    return Trace(requests, f"{path.name} ({stream.layout_name})", stream.dropped)


class Stream:
    """A trace in parts, for those who need not hold it whole; `dropped` is complete once the parts are."""

    def __init__(self, path: Path, *, told: Layout | None = None, block_bytes: int = files.BLOCK_BYTES) -> None:
        self.layout_name = ""
        self._path, self._told, self._block_bytes = path, told, block_bytes
        self._first_ns: int | None = None
        self._failures = 0

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """What was left out so far."""
        if not self._failures:
            return ()
        return (Dropped(self._failures, "failed requests (no output tokens)"),)

    def parts(self, progress: files.Progress = files.silent) -> Iterator[Requests]:
        """Yield the requests in order.

        Raises:
            TraceError: While iterating, at the first row that cannot be used, or when there is none.
        """
        source = files.blocks(self._path, progress, block_bytes=self._block_bytes)
        head = next(source)
        rows = self._rows(head)
        count = 0
        for block in itertools.chain([head] if isinstance(rows, Json) else [], source):
            part = self._kept(rows.parsed(block))
            count += len(part)
            yield part
        if not count:
            fix = "there is a header and not one request; give a trace with rows"
            raise TraceError(self._path, None, "rows", fix)

    def _rows(self, head: files.Block) -> Rows:
        if head.data.lstrip()[:1] == b"{":
            self.layout_name = MOONCAKE.name
            return Json(self._path)
        places = layouts.places(self._path, next(csv.reader([head.data.decode()]), []), self._told)
        self.layout_name = places.layout.name
        return Csv(self._path, places)

    def _kept(self, part: Parsed) -> Requests:
        if self._first_ns is None:
            self._first_ns = int(part.time_ns[0])
        arrival_s = (part.time_ns - self._first_ns) / NS
        made = part.output_tokens > 0
        self._failures += len(made) - int(made.sum())
        if made.all():
            return Requests(arrival_s, part.prompt_tokens, part.output_tokens)
        return Requests(arrival_s[made], part.prompt_tokens[made], part.output_tokens[made])
