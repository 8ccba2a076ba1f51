"""A small HTTP/1.1 server on asyncio: metrics, health and the agent's lease call, with caps on size and time.

Who calls it: `app.operator`, `app.power`, `app.agent`. Why not a framework: the agent's and power's processes have no
other use for one, and this is all they serve. It answers one request per connection and speaks no TLS: in the cluster
a NetworkPolicy and the bearer key stand in front of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

MAX_HEAD_BYTES = 16 * 1024  # a scraper's headers are a few hundred bytes
MAX_BODY_BYTES = 256 * 1024  # a lease call for 64 pods is under 10 KiB
READ_S = 5.0  # a slow drip is cut off
SEND_S = 5.0  # and so is a reader that does not read

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def bearer(self) -> str | None:
        """The bearer token, None where none was sent."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def text(cls, status: int, text: str) -> Response:
        """Return a plain text answer."""
        return cls(status, text.encode())

    @classmethod
    def json(cls, status: int, document: object) -> Response:
        """Return a JSON answer."""
        return cls(status, json.dumps(document, separators=(",", ":")).encode(), "application/json")


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Handler]  # (method, path)


class _BadRequest(Exception):  # noqa: N818 - private, and named as the status
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def serve(host: str, port: int, routes: Routes) -> asyncio.Server:
    """Listen until the returned server is closed. Port 0 takes a free one (`bound` says which)."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_S):
                response = await _answer(reader, routes)
        except TimeoutError:
            response = Response.text(HTTPStatus.REQUEST_TIMEOUT, "the request took too long\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()
            return
        except Exception:  # noqa: BLE001 - the boundary: one request's bug must not leave its caller waiting
            _log.exception("a request failed")
            response = Response.text(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error, see the log\n")
        await _send(writer, response)

    return await asyncio.start_server(connection, host, port, limit=MAX_HEAD_BYTES)


def bound(server: asyncio.Server) -> tuple[str, int]:
    """Return the host and port that a server listens on."""
    host, port = server.sockets[0].getsockname()[:2]
    return str(host), int(port)


async def _answer(reader: asyncio.StreamReader, routes: Routes) -> Response:
    try:
        request = await _read(reader)
    except _BadRequest as bad:
        return Response.text(bad.status, f"{bad}\n")
    handler = routes.get((request.method, request.path))
    if handler is None:
        known = any(path == request.path for _, path in routes)
        status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
        return Response.text(status, f"{status.phrase}\n")
    return await handler(request)


async def _read(reader: asyncio.StreamReader) -> Request:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError as long:
        raise _BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long") from long
    first, *rest = head.split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise _BadRequest(HTTPStatus.BAD_REQUEST, "not an HTTP/1 request")
    pairs = (line.partition(":") for line in rest if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await _body(reader, headers.get("content-length", "0"))
    return Request(parts[0], parts[1].partition("?")[0], headers, body)


async def _body(reader: asyncio.StreamReader, length: str) -> bytes:
    if not length.isdecimal():
        raise _BadRequest(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
    if int(length) > MAX_BODY_BYTES:
        raise _BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {MAX_BODY_BYTES} bytes")
    return await reader.readexactly(int(length))


async def _send(writer: asyncio.StreamWriter, response: Response) -> None:
    phrase = HTTPStatus(response.status).phrase
    head = (
        f"HTTP/1.1 {response.status} {phrase}\r\nContent-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\nConnection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(SEND_S):
            writer.write(head.encode("latin-1") + response.body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
    except (ConnectionError, TimeoutError):
        writer.transport.abort()  # the peer left, or does not read; there is nobody to tell
