"""An agent's loop with one board that answers and a setter that does as it is told, or fails as it is told."""

from __future__ import annotations

import asyncio

from capstan.agent import lease
from capstan.agent.cycle import Cycle
from capstan.agent.ports import Failed, Owners
from capstan.model.gpu import GpuSample
from capstan.powercap.domains import ClassCaps, SafeSetting


class Gpu:
    """A board that answers."""

    def count(self) -> int:
        return 1

    def read(self, index: int) -> GpuSample:
        return GpuSample(index, "GPU-a", 300, 1, 1110, 400, 200, 700)

    def lost(self, index: int) -> GpuSample:
        return self.read(index)


class Setter:
    """Records what it was told and how often it was told that the agent lives; calls with a code fail with it."""

    def __init__(self, **codes: str) -> None:
        self.codes = codes
        self.turns = 0
        self.clock_mhz: float | None = None
        self.limited = asyncio.Event()

    def _answer(self, call: str) -> None:
        if call in self.codes:
            raise Failed(self.codes[call], "no")

    async def clock(self, uuid: str, clock_mhz: float | None, *, again: bool = False) -> float | None:
        self._answer("clock")
        self.clock_mhz = clock_mhz
        return clock_mhz

    async def limit(self, uuid: str, limit_w: float | None, *, again: bool = False) -> None:
        self._answer("limit")
        self.limited.set()

    async def devices(self) -> Owners:
        self._answer("devices")
        return {}

    async def safe(self, clock_mhz: float | None, limit_w: float | None) -> None:
        self._answer("safe")
        self.turns += 1


def armed(setter: Setter) -> Cycle:
    """A loop under a lease of a minute, with a safe setting of 1110 MHz and 400 W, at a time that stands still."""
    cycle = Cycle(Gpu(), setter, lambda: 100.0, lambda _safe, _epoch: None)
    cycle.renew(lease.Renewal(1, 1, 60.0, ClassCaps()))
    caps = ClassCaps(1560, 1560, 450)
    cycle.grant(lease.Granted(1, 1, caps, frozenset(), SafeSetting(1110, 400)), None)
    return cycle
