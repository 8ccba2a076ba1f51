"""A gate before an API server: what goes through it can be shut, as an outage shuts it for one process alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit


class Gate:
    """Forwards TCP to one address while it is open; shut, it refuses and drops every connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._to = (str(parts.hostname), parts.port or 443)
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = True

    async def serve(self) -> asyncio.Server:
        """Listen on a port of our own."""
        return await asyncio.start_server(self._connection, "127.0.0.1", 0)

    def shut(self) -> None:
        """Drop everything, and take nothing more."""
        self._open = False
        for writer in tuple(self._writers):
            writer.transport.abort()

    def open(self) -> None:
        """Forward again."""
        self._open = True

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(*self._to)
        self._writers |= {writer, there_writer}
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            for end in (writer, there_writer):
                end.transport.abort()
                self._writers.discard(end)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    writer.transport.abort()


@contextlib.contextmanager
def before(url: str, kubeconfig: Path, copy: Path) -> Iterator[Gate]:
    """Open a gate before an API server, and write a kubeconfig that goes through it to `copy`."""
    gate, ready = Gate(url), threading.Event()
    turning: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []

    async def turn() -> None:
        server, over = await gate.serve(), asyncio.Event()
        turning.append((asyncio.get_running_loop(), over, server.sockets[0].getsockname()[1]))
        ready.set()
        await over.wait()
        gate.shut()
        server.close()
        await asyncio.sleep(0.1)  # for the connections that were dropped to end

    thread = threading.Thread(target=lambda: asyncio.run(turn()), daemon=True)
    thread.start()
    assert ready.wait(5)
    loop, over, port = turning[0]
    host = f"{urlsplit(url).hostname}:{urlsplit(url).port}"
    copy.write_text(kubeconfig.read_text(encoding="utf-8").replace(host, f"127.0.0.1:{port}"), encoding="utf-8")
    try:
        yield gate
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(5)
