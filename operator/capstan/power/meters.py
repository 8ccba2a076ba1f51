"""The slow meters beside the loop: every query read once a period, the answers kept with their age.

Who calls it: `app.power` runs it; `budgets` looks. A source that is down makes answers old, and delays no tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from capstan.power.ports import Reading

PERIOD_S = 5.0  # a meter is polled once in 2-60 s (facts/polca.md 2.6); the loss of a feed must be seen within 10 s
AT_ONCE = 8  # of queries: Prometheus has other users


class SlowMeters:
    """Implements `ports.Meters`.

    Args:
        read: Asks one query and returns its reading; never raises.
    """

    def __init__(self, read: Callable[[str], Awaitable[Reading]]) -> None:
        self._read = read
        self._asked: frozenset[str] = frozenset()
        self._said: dict[str, Reading] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    def ask(self, queries: frozenset[str]) -> None:
        """Say what is to be read from now on."""
        self._asked = queries

    def said(self, query: str) -> Reading | None:
        """Return what a query last yielded."""
        return self._said.get(query)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(PERIOD_S)

    async def turn(self) -> None:
        """Read every query once; an answer that failed keeps the value before, which grows old."""
        asked = sorted(self._asked)
        readings = await asyncio.gather(*(self._one(query) for query in asked))
        self._said = {query: self._kept(query, reading) for query, reading in zip(asked, readings, strict=True)}

    async def _one(self, query: str) -> Reading:
        async with self._room:
            return await self._read(query)

    def _kept(self, query: str, reading: Reading) -> Reading:
        before = self._said.get(query)
        if reading.value_w is not None or before is None or before.value_w is None:
            return reading
        return Reading(before.value_w, before.age_s, before.read_s, reading.problem)
