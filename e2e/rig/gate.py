"""Gates before somebody's port: what goes through one can be shut, as an outage shuts it for one process alone.

Who calls it: the proof of power domains, the integration tests. All gates of a process turn in one thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

ENDING_S = 0.1  # for connections that were dropped to end
ANSWER_S = 5.0  # of our own loop: it has nothing else to do
PART_BYTES = 65_536

T = TypeVar("T")
Address = tuple[str, int]


class Gate:
    """Forwards TCP to one address while it is open; shut, it drops every connection and takes none."""

    def __init__(self, to: Address, loop: asyncio.AbstractEventLoop) -> None:
        self._to = to
        self._loop = loop
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = True

    def shut(self) -> None:
        """Drop everything, and take nothing more."""
        self._open = False
        self._loop.call_soon_threadsafe(self._drop)

    def open(self) -> None:
        """Forward again."""
        self._open = True

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side ends it."""
        if not self._open:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._to)
        except OSError:
            writer.transport.abort()  # nobody listens there: neither do we
            return
        self._writers |= {writer, there_writer}
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            for end in (writer, there_writer):
                end.transport.abort()
                self._writers.discard(end)

    def _drop(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()


class Gates:
    """A thread that serves gates; a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rig-gates", daemon=True)
        self._gates: list[tuple[Gate, asyncio.Server]] = []

    def __enter__(self) -> Gates:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_S)
        self._loop.close()

    def serve(self, to: Address, *, at: Address = ("127.0.0.1", 0)) -> tuple[Gate, Address]:
        """Open a gate before an address; return it with where it listens."""
        gate = Gate(to, self._loop)
        server = self._run(asyncio.start_server(gate.connection, *at))
        self._gates.append((gate, server))
        host, port = server.sockets[0].getsockname()[:2]
        return gate, (host, port)

    def before_api(self, kubeconfig: Path, copy: Path) -> Gate:
        """Open a gate before a kubeconfig's API server, and write one that goes through it to `copy`."""
        text = kubeconfig.read_text(encoding="utf-8")
        url = next(word for word in text.replace('"', " ").split() if word.startswith("https://"))
        parts = urlsplit(url)
        gate, (host, port) = self.serve((str(parts.hostname), parts.port or 443))
        copy.write_text(text.replace(parts.netloc, f"{host}:{port}"), encoding="utf-8")
        return gate

    async def _end(self) -> None:
        for gate, server in self._gates:
            gate.shut()
            server.close()
        await asyncio.sleep(ENDING_S)

    def _run(self, doing: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(ANSWER_S)


@contextlib.contextmanager
def before(kubeconfig: Path, copy: Path) -> Iterator[Gate]:
    """Open one gate before an API server for as long as the block lasts."""
    with Gates() as gates:
        yield gates.before_api(kubeconfig, copy)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(PART_BYTES):
            writer.write(part)
            await writer.drain()
    writer.transport.abort()
