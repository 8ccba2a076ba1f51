"""A small HTTP/1.1 client for one thing: post a JSON body to very many addresses, once a second each.

Who calls it: `agents`. Why not httpx: its pool walks all connections for every request, and 500 calls at once took nine
cores' seconds and were answered by nobody (`python -m rig power calls`). One connection per address, kept where the
other side keeps it. Strict on purpose: a length is asked for, chunks and codings are refused, both parts are capped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from capstan.adapters import errors

MAX_HEAD_BYTES = 8 * 1024  # ours is a hundred bytes; this is a proxy's in between


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `kept`: the connection may be used again."""

    status: int
    content: bytes
    kept: bool


class _Closed(Exception):  # noqa: N818 - private: a kept connection was closed before it said a byte
    pass


class Poster:
    """One connection per address.

    Args:
        path: Where everything is posted to.
        limit_bytes: Of an answer's body.
    """

    def __init__(self, path: str, *, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._kept: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    def close(self) -> None:
        """Close all connections."""
        self.keep(frozenset())

    def keep(self, addresses: frozenset[str]) -> None:
        """Close the connections to everybody else."""
        for address in self._kept.keys() - addresses:
            _, writer = self._kept.pop(address)
            writer.transport.abort()

    async def post(self, address: str, body: bytes, *, token: str) -> Answer:
        """Post `body` to `HOST:PORT`. The caller sets the deadline.

        Raises:
            Unavailable: No connection, or it broke.
            Malformed: Not an HTTP answer with a length, or one above the caps.
        """
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        request = head.encode("latin-1") + body
        try:
            kept = self._kept.pop(address, None)
            if kept is not None:
                try:
                    return await self._asked(address, kept, request)
                except _Closed:
                    pass  # the other side closed it meanwhile; to renew twice is to renew once
            return await self._asked(address, await _opened(address), request)
        except (OSError, EOFError, _Closed) as problem:
            raise errors.Unavailable(f"{address}: {str(problem) or type(problem).__name__}") from problem

    async def _asked(
        self, address: str, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes
    ) -> Answer:
        reader, writer = streams
        answer = None
        try:
            writer.write(request)
            answer = await self._read(reader)
            return answer
        finally:
            if answer is not None and answer.kept:
                self._kept[address] = streams
            else:
                writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as long:
            raise errors.Malformed(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes") from long
        except asyncio.IncompleteReadError as cut:
            if cut.partial:
                raise
            raise _Closed("closed without an answer") from cut
        except ConnectionError as reset:
            raise _Closed(str(reset)) from reset
        status, headers = _head(head)
        length = self._length(headers)
        content = await reader.readexactly(length)
        return Answer(status, content, kept=headers.get("connection", "keep-alive").lower() != "close")

    def _length(self, headers: Mapping[str, str]) -> int:
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise errors.Malformed("the answer is compressed, which was not asked for")
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
            raise errors.Malformed("the answer does not say its length")
        if len(length) > 9 or int(length) > self._limit_bytes:
            raise errors.Malformed(f"the answer is larger than {self._limit_bytes} bytes")
        return int(length)


async def _opened(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), limit=MAX_HEAD_BYTES)


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return the status and the headers, names in lower case. Raises Malformed."""
    first, *rest = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not (parts[1].isascii() and parts[1].isdecimal()):
        raise errors.Malformed(f"the answer begins with {first[:40]!r}, which is not HTTP/1")
    if len(parts[1]) != 3:
        raise errors.Malformed(f"the answer has the status {parts[1][:10]}")
    pairs = (line.partition(":") for line in rest if line)
    return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}
