"""The setter's Unix socket: who may connect, one line in, one line out.

Who calls it: `app.setter`. The folder's group is the agent's; who connects is checked by uid besides.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from capstan.agent.protocol import MAX_LINE_BYTES, Answer

MAX_PEERS = 4  # one agent, its successor while it is replaced, a person, and one to spare

_log = logging.getLogger(__name__)


class Socket:
    """Serves `answer` to peers of some uids, and to root and ourselves."""

    def __init__(self, answer: Callable[[bytes], Awaitable[Answer]], peer_uids: frozenset[int]) -> None:
        self._answer = answer
        self._uids = peer_uids | {0, os.getuid()}
        self._peers = 0

    async def serve(self, path: Path) -> asyncio.Server:
        """Listen on a Unix socket; what an earlier run left there is replaced."""
        mask = os.umask(0o117)  # 0660
        try:
            return await asyncio.start_unix_server(self._connection, path, limit=MAX_LINE_BYTES)
        finally:
            os.umask(mask)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._peers += 1
        try:
            if self._may(writer):
                await self._talk(reader, writer)
        except (ConnectionError, ValueError):
            return  # the peer left, or sent an endless line
        finally:
            self._peers -= 1
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
            await writer.drain()

    def _may(self, writer: asyncio.StreamWriter) -> bool:
        """Return whether a peer is listened to: its uid may connect, and there are not too many."""
        packed = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        _, uid, _ = struct.unpack("3i", packed)
        if uid not in self._uids:
            _log.warning("refused a peer of uid %d: name it with --peer-uid", uid)
            return False
        if self._peers > MAX_PEERS:
            _log.warning("refused a peer: %d others are connected", self._peers - 1)
            return False
        return True
