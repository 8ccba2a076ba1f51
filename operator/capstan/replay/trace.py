"""Request traces from files: read strictly, one row at a time, and compressed for short runs.

Who calls it: `replay.scenario` and the rig's load driver. Must not know: policies, engines, who serves the requests.
A trace that cannot be read says which row, which field and what to do; nothing is repaired in silence.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from capstan.model.workload import Request

TIME, PROMPT, OUTPUT = "TIMESTAMP", "ContextTokens", "GeneratedTokens"
"""The columns of github.com/Azure/AzurePublicDataset, LLM inference traces of 2023 and 2024."""

MAX_LINE_CHARS = 4096
"""A row of these traces has about 40 characters; a line a hundred times that is not a row but another file."""

GZIP_MAGIC = b"\x1f\x8b"


class TraceError(ValueError):
    """A trace that cannot be used. `row` counts lines from 1, the header included; None: the file as a whole."""

    def __init__(self, path: Path, row: int | None, field: str, fix: str) -> None:
        self.path, self.row, self.field, self.fix = path, row, field, fix
        place = f"{path}" if row is None else f"{path}, row {row}"
        super().__init__(f"{place}, {field}: {fix}")


def read(path: Path) -> Iterator[Request]:
    """Yield the requests of an Azure trace (plain or gzip), `arrival_s` counted from its first row.

    Raises:
        TraceError: While iterating, at the first row that cannot be used, or when there is none.
    """
    with _opened(path) as lines:
        rows = csv.reader(lines, strict=True)
        columns = _columns(path, next(rows, []))
        first: datetime | None = None
        last_s = 0.0
        count = 0
        for row_number, row in enumerate(rows, start=2):
            cells = _cells(path, row_number, row, columns)
            when = _time(path, row_number, cells[0])
            first = first or when
            arrival_s = (when - first).total_seconds()
            if arrival_s < last_s:
                raise TraceError(path, row_number, TIME, f"{cells[0]} is before the row above; sort the file by {TIME}")
            last_s = arrival_s
            prompt = _tokens(path, row_number, PROMPT, cells[1])
            output = _tokens(path, row_number, OUTPUT, cells[2])
            yield Request(count, arrival_s, prompt, output)
            count += 1
    if not count:
        raise TraceError(path, None, "rows", "there is a header and not one request; give a trace with rows")


def compress(requests: Iterable[Request], factor: float, *, rate_ratio: float = 1.0, seed: int) -> list[Request]:
    """Return the shape of a trace run `factor` times faster, thinned so that its rates are the trace's own.

    Args:
        requests: In order of arrival.
        factor: Each arrival time is divided by it; >= 1. Example: 1,751 s at 8 take 219 s.
        rate_ratio: Rates as a multiple of the trace's; each request is kept with probability rate_ratio / factor.
        seed: Of the thinning; the same seed keeps the same requests.

    Returns:
        Requests numbered from 0.

    Raises:
        ValueError: The trace has too few requests for that rate: rate_ratio / factor is outside (0, 1].
    """
    if not 0 < rate_ratio <= factor:
        raise ValueError(f"thinning needs 0 < rate ratio <= compression; got {rate_ratio} and {factor}")
    chance = random.Random(seed)  # noqa: S311 - thinning, not a secret
    kept = [request for request in requests if chance.random() < rate_ratio / factor]
    return [Request(i, r.arrival_s / factor, r.prompt_tokens, r.output_tokens) for i, r in enumerate(kept)]


def until(requests: Iterable[Request], end_s: float) -> list[Request]:
    """Return the requests that arrive before `end_s`."""
    return [request for request in requests if request.arrival_s < end_s]


def shared_data(start: Path) -> Path | None:
    """Return the folder `shared/data` beside `start` or beside any folder above it, or None."""
    for folder in (start, *start.parents):
        candidate = folder / "shared" / "data"
        if candidate.is_dir():
            return candidate
    return None


# --- one row ---------------------------------------------------------------------------------------


def _columns(path: Path, header: list[str]) -> tuple[int, int, int]:
    names = [name.strip() for name in header]
    missing = [name for name in (TIME, PROMPT, OUTPUT) if name not in names]
    if missing:
        found = ", ".join(names)[:200] or "an empty line"
        would_do = ", ".join((TIME, PROMPT, OUTPUT))
        fix = f"found {found}; an Azure trace has {would_do}; rename the columns or give another file"
        raise TraceError(path, 1, ", ".join(missing), f"missing; {fix}")
    return names.index(TIME), names.index(PROMPT), names.index(OUTPUT)


def _cells(path: Path, row_number: int, row: list[str], columns: tuple[int, int, int]) -> tuple[str, str, str]:
    if len(row) <= max(columns):
        raise TraceError(path, row_number, "columns", f"only {len(row)} of them; complete or remove the row")
    return row[columns[0]], row[columns[1]], row[columns[2]]


def _time(path: Path, row_number: int, cell: str) -> datetime:
    """Return the time of a row; one without a zone is UTC, as in the traces."""
    try:
        when = datetime.fromisoformat(cell.strip())
    except ValueError:
        raise TraceError(path, row_number, TIME, f"{cell[:40]!r} is no ISO 8601 time; write it as one") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _tokens(path: Path, row_number: int, field: str, cell: str) -> int:
    try:
        tokens = int(cell)
    except ValueError:
        raise TraceError(path, row_number, field, f"{cell[:40]!r} is no whole number; write a token count") from None
    if tokens < 1:
        raise TraceError(path, row_number, field, f"{tokens} is below 1; correct or remove the row")
    return tokens


# --- the file --------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[str]]:
    """Open a plain or gzip file as lines of bounded length, with every failure as a TraceError."""
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == GZIP_MAGIC
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
                yield _lines(path, text)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(path, None, "gzip", f"{error}; the file is cut off or damaged, fetch it again") from error
    except UnicodeDecodeError as error:
        raise TraceError(path, None, "encoding", "not UTF-8 text; give a CSV file, plain or gzip") from error
    except csv.Error as error:
        raise TraceError(path, None, "quoting", f"{error}; give plain comma-separated values") from error
    except OSError as error:
        raise TraceError(path, None, "file", f"{error.strerror or error}; give a file that can be read") from error


def _lines(path: Path, text: io.TextIOWrapper) -> Iterator[str]:
    row_number = 0
    while line := text.readline(MAX_LINE_CHARS + 1):
        row_number += 1
        if len(line) > MAX_LINE_CHARS:
            fix = f"longer than {MAX_LINE_CHARS} characters; a row is a time and two numbers, give a CSV file"
            raise TraceError(path, row_number, "line", fix)
        yield line
