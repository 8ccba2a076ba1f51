"""The agent's side of the setter's socket: one line out, one line in, reconnecting when the setter restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from capstan.agent.ports import SILENT, Failed, Owners, Pod

DEADLINE_S = 2.0  # a driver call takes some 6 ms; a hung driver must not hold the loop beyond the lease


class SetterClient:
    """Implements `ports.Setter` over a Unix socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def clock(self, uuid: str, clock_mhz: float | None, *, again: bool = False) -> float | None:
        """Cap a GPU's clock; return the clock that the setter set."""
        set_mhz = (await self._ask({"verb": "clock", "uuid": uuid, "megahertz": clock_mhz, "again": again})).get(
            "megahertz"
        )
        return float(set_mhz) if isinstance(set_mhz, int | float) else None

    async def limit(self, uuid: str, limit_w: float | None, *, again: bool = False) -> None:
        """Limit a GPU's board."""
        await self._ask({"verb": "limit", "uuid": uuid, "watts": limit_w, "again": again})

    async def devices(self) -> Owners:
        """Return the pods of every physical GPU that one holds."""
        found = (await self._ask({"verb": "devices"})).get("devices")
        if not isinstance(found, dict):
            raise Failed("Malformed", "the setter's answer has no devices")
        return {
            uuid: tuple(Pod(str(pod["namespace"]), str(pod["name"])) for pod in pods) for uuid, pods in found.items()
        }

    async def safe(self, clock_mhz: float | None, limit_w: float | None) -> None:
        """Say that we live, and what to apply should we not."""
        await self._ask({"verb": "safe", "megahertz": clock_mhz, "watts": limit_w})

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, asked: Mapping[str, object]) -> Mapping[str, object]:
        try:
            async with asyncio.timeout(DEADLINE_S):
                answer = json.loads(await self._line(json.dumps(asked).encode() + b"\n"))
        except (OSError, TimeoutError, ValueError) as problem:
            await self.close()
            raise Failed(SILENT, f"no answer on {self._path}: {problem or 'too slow'}") from problem
        if not isinstance(answer, dict) or answer.get("ok") is not True:
            said = answer if isinstance(answer, dict) else {}
            raise Failed(str(said.get("error", "Malformed")), str(said.get("message", "no answer of a setter")))
        return answer

    async def _line(self, line: bytes) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._path)
        reader, writer = self._streams
        writer.write(line)
        await writer.drain()
        answer = await reader.readline()
        if not answer:
            raise ConnectionResetError("the setter closed the connection")
        return answer
