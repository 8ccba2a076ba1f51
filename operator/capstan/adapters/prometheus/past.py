"""Reads back what a policy's engines served in the last weeks, so that a restarted operator forgets nothing.

Who calls it: `app.operator`, beside the cycle and never inside it: a long history takes many questions, and a slow
answer must not hold a decision. One question per policy and block (a day at 5-minute steps): what 1,000 pods scraped
in a day is a tenth of what Prometheus loads for one query by default (`--query.max-samples`).

Arrivals are those of `vllm`: first tokens, and growth of the queue. Pods that are gone are in it: they are chosen by
name, which a policy's Deployments give.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from capstan.adapters import errors
from capstan.adapters.prometheus.client import Prometheus, matcher
from capstan.adapters.prometheus.vllm import ENGINE
from capstan.model.past import BLOCK_STEPS, BLOCKS, Ask, Block, Past

DEADLINE_S = 30.0  # of one question; nobody waits for it, and Prometheus itself gives up after two minutes
SETTLED_S = 30.0  # two scrapes of 15 s: before that the end of a step is not all there
POLICIES_AT_ONCE = 4
DIGITS = 6  # of a rate that is kept: a request in a million


@dataclass(slots=True)
class _Known:
    """What was read for one policy. `ended` are blocks that no later answer can change."""

    blocks: dict[int, Block] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    past: Past | None = None
    problem: str = ""


class Pasts:
    """Implements `serving.ports.History`: steps of `step_s`, `BLOCKS` blocks back."""

    def __init__(self, prometheus: Prometheus, *, step_s: float, wall_s: Callable[[], float] = time.time) -> None:
        self._prometheus = prometheus
        self._step_s = step_s
        self._wall_s = wall_s
        self._known: dict[Ask, _Known] = {}
        self._wanted: frozenset[Ask] = frozenset()
        self._news = asyncio.Event()

    def follow(self, asks: Iterable[Ask]) -> None:
        """Read these from now on, and forget all others."""
        wanted = frozenset(asks)
        if wanted - self._wanted:
            self._news.set()
        self._wanted = wanted
        self._known = {ask: known for ask, known in self._known.items() if ask in wanted}

    def past(self, ask: Ask) -> Past | None:
        """Return what was read last, None until everything was asked for once."""
        known = self._known.get(ask)
        return None if known is None else known.past

    @property
    def problem(self) -> str:
        """Why something could not be read lately, empty where all could."""
        return next((known.problem for _, known in sorted(self._known.items(), key=str) if known.problem), "")

    async def run(self) -> None:
        """Refresh at every step, and at once for a policy that is new; until cancelled."""
        while True:
            self._news.clear()
            await self.refresh()
            try:
                async with asyncio.timeout(self._step_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Ask for what is not known yet, for every policy that is followed."""
        turn = asyncio.Semaphore(POLICIES_AT_ONCE)

        async def one(ask: Ask) -> None:
            async with turn:
                await self._refresh(ask, self._known.setdefault(ask, _Known()))

        await asyncio.gather(*(one(ask) for ask in sorted(self._wanted, key=str)))

    async def _refresh(self, ask: Ask, known: _Known) -> None:
        """Bring one policy up to date; after an error what was read before stands, and the next time goes on."""
        last = math.floor((self._wall_s() - SETTLED_S) / self._step_s)  # the number of the last step that has ended
        newest = (last - 1) // BLOCK_STEPS
        kept = range(newest - BLOCKS + 1, newest + 1)
        try:
            for number in kept:
                if number not in known.ended:
                    known.blocks[number] = await self._block(ask, number, last)
                if (number + 1) * BLOCK_STEPS <= last:
                    known.ended.add(number)
        except errors.AdapterError as problem:
            known.problem = f"{ask.policy}: {problem}"
            return
        known.problem = ""
        known.blocks = {number: known.blocks[number] for number in kept}
        known.ended &= set(kept)
        told = tuple(b for b in known.blocks.values() if any(rate is not None for rate in b.rates_rps))
        past = Past(ask.policy, told)
        known.past = past if past != known.past else known.past  # the same object says: nothing new

    async def _block(self, ask: Ask, number: int, last: int) -> Block:
        """Return one block, up to step `last`."""
        first, end = number * BLOCK_STEPS, min((number + 1) * BLOCK_STEPS, last)
        series = await self._prometheus.range(
            query(ask, self._step_s, self._prometheus.source.matchers),
            start_s=(first + 1) * self._step_s,
            end_s=end * self._step_s,
            step_s=self._step_s,
            deadline_s=DEADLINE_S,
        )
        found = {round(t_s / self._step_s): value for one in series for t_s, value in one.points}
        rates = tuple(_rate(found.get(step), self._step_s) for step in range(first + 1, end + 1))
        return Block(first * self._step_s, self._step_s, rates)


def query(ask: Ask, step_s: float, matchers: Mapping[str, str]) -> str:
    """Return the query for arrivals per step; each answer tells of the step that ends there."""
    asked = [matcher(label, value) for label, value in sorted({**matchers, "namespace": ask.namespace}.items())]
    inside = ",".join([*asked, f"pod=~{matcher('', ask.pods)[1:]}"])
    window = f"[{round(step_s * 1000)}ms]"
    first = f"sum(max by ({ENGINE}) (increase(vllm:time_to_first_token_seconds_count{{{inside}}}{window})))"
    queue = f"sum(max by ({ENGINE}) (delta(vllm:num_requests_waiting{{{inside}}}{window})))"
    return f"{first} + ({queue} or vector(0))"


def _rate(count: float | None, step_s: float) -> float | None:
    """Return requests per second; those who gave up in the queue take away from it, down to none."""
    return None if count is None else float(f"{max(count, 0.0) / step_s:.{DIGITS}g}")
