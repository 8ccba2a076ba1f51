"""A plain or gzip text file as blocks of whole lines, of bounded size, with every failure as a TraceError.

Who calls it: the readers of `replay.traces`. Must not know: what the lines mean.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from capstan.replay.traces.errors import TraceError

BLOCK_BYTES = 4 * 2**20
"""Some 100,000 rows: long enough that numpy's cost per call does not show, short enough to stay in memory's shadow."""

MAX_LINE_BYTES = 4096
"""A row of a CSV trace has about 40 characters; a line a hundred times that is not a row but another file."""

MAX_JSON_BYTES = 2**20
"""A Mooncake line names one hash per 512 prompt tokens: a million tokens are 2,000 hashes, some 20 kB."""

GZIP_MAGIC = b"\x1f\x8b"
UTF8_MARK = b"\xef\xbb\xbf"

Progress = Callable[[float], None]
"""Told the share of the file that was read, 0 to 1, after each block."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines, each ended by a newline; `row` is the number of the first, counted from 1."""

    row: int
    data: bytes


def silent(_share: float) -> None:
    """Tell nobody."""


def blocks(path: Path, progress: Progress = silent, *, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield the lines of a file in blocks; the very first line comes alone, because it may be a header.

    Raises:
        TraceError: While iterating: unreadable, cut off, no text, or a line that is too long.
    """
    with _translated(path), path.open("rb") as raw:
        size_bytes = max(path.stat().st_size, 1)
        packed = raw.peek(2)[:2] == GZIP_MAGIC
        stream: BinaryIO = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
        head = stream.readline(MAX_JSON_BYTES + 1)
        limit_bytes = MAX_JSON_BYTES if _is_json(head) else MAX_LINE_BYTES
        if len(head) > limit_bytes:
            raise too_long(path, 1, limit_bytes)
        yield Block(1, _text(head.removeprefix(UTF8_MARK).rstrip(b"\r\n") + b"\n"))
        row, rest = 2, b""
        while chunk := stream.read(block_bytes):
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                yield Block(row, _text(whole + newline))
                row += whole.count(b"\n") + 1
            if len(rest) > limit_bytes:
                raise too_long(path, row, limit_bytes)
            progress(raw.tell() / size_bytes)
        if rest:
            yield Block(row, _text(rest + b"\n"))


def too_long(path: Path, row: int, limit_bytes: int) -> TraceError:
    """Return the error of a line beyond the limit."""
    fix = f"longer than {limit_bytes} characters; a row is a time and two numbers, give a CSV file"
    return TraceError(path, row, "line", fix)


def _is_json(head: bytes) -> bool:
    return head.removeprefix(UTF8_MARK).lstrip()[:1] == b"{"


def _text(data: bytes) -> bytes:
    if not data.isascii():
        data.decode("utf-8")
    return data


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(path, None, "gzip", f"{error}; the file is cut off or damaged, fetch it again") from error
    except UnicodeDecodeError as error:
        raise TraceError(path, None, "encoding", "not UTF-8 text; give a CSV file, plain or gzip") from error
    except OSError as error:
        raise TraceError(path, None, "file", f"{error.strerror or error}; give a file that can be read") from error
