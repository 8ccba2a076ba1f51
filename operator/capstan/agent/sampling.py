"""One look at every GPU of the node: a thread each, watts checked against the energy counter, joules booked.

Who calls it: `cycle`. Safe direction when blind: a GPU that hangs or fails has no watts, which counts at its maximum;
where reading and counter disagree, the larger is what we report (facts/polca.md 5.4).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from capstan.agent.lanes import Lanes
from capstan.agent.ports import Failed, Gpus
from capstan.model.gpu import GpuSample

WINDOW_S = 5.0  # one instant a second is a poor mean over less
STEP_S = 0.5  # a bell wakes the loop early: samples closer than this are one look
DISAGREE_RATIO = 0.10  # facts/polca.md 5.4: more than 10 % for 3 samples
DISAGREE_LOOKS = 3
COUNT_EVERY = 5  # samples between two counts of the node's GPUs

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """A GPU's sample with what it says of itself over time.

    Attributes:
        gpu: `power_w` is the larger of reading and counter where they disagree.
        disagrees: Whether they do, lately; None: cannot be told (no counter, or not for long enough).
        booked_j: Joules since our start; None: the board has no counter.
        forgot: The energy counter fell: the driver was loaded anew, or the board reset, and every setting is gone.
    """

    gpu: GpuSample
    disagrees: bool | None = None
    booked_j: float | None = None
    forgot: bool = False


@dataclass(slots=True)
class Counter:
    """One GPU's energy counter beside its readings."""

    looks: deque[tuple[float, float, float]] = field(default_factory=deque)  # s, J, W
    booked_j: float | None = None
    last_j: float | None = None
    odd: int = 0

    def take(self, gpu: GpuSample, now_s: float) -> Reading:
        """Return the reading of a sample."""
        forgot = self._book(gpu.energy_j)
        if forgot or gpu.energy_j is None or gpu.power_w is None:
            self.looks.clear()
            self.odd = 0
        if gpu.energy_j is None or gpu.power_w is None:
            return Reading(gpu, None, self.booked_j, forgot)
        new = self._look(now_s, gpu.energy_j, gpu.power_w)
        if self.looks[-1][0] - self.looks[0][0] < WINDOW_S:
            return Reading(gpu, None, self.booked_j, forgot)
        counted_w, read_w = self._means()
        if new:
            apart = abs(counted_w - read_w) > DISAGREE_RATIO * max(counted_w, read_w)
            self.odd = self.odd + 1 if apart else 0
        disagrees = self.odd >= DISAGREE_LOOKS
        shown = replace(gpu, power_w=max(gpu.power_w, min(counted_w, gpu.max_limit_w))) if disagrees else gpu
        return Reading(shown, disagrees, self.booked_j, forgot)

    def _look(self, now_s: float, energy_j: float, power_w: float) -> bool:
        """Put a look into the window, which is as short as it can be; return whether it is one of its own."""
        if self.looks and now_s - self.looks[-1][0] < STEP_S:
            return False
        self.looks.append((now_s, energy_j, power_w))
        while now_s - self.looks[1 if len(self.looks) > 1 else 0][0] >= WINDOW_S:
            self.looks.popleft()
        return True

    def _book(self, energy_j: float | None) -> bool:
        """Count joules; return whether the counter fell."""
        if energy_j is None:
            return False
        before_j, self.last_j = self.last_j, energy_j
        fell = before_j is not None and energy_j < before_j
        grown_j = 0.0 if before_j is None else energy_j if fell else energy_j - before_j
        self.booked_j = (self.booked_j or 0.0) + grown_j
        return fell

    def _means(self) -> tuple[float, float]:
        """Return mean watts of the window by the counter and by the readings (trapezoids between them)."""
        looks = list(self.looks)
        elapsed_s = looks[-1][0] - looks[0][0]
        pairs = itertools.pairwise(looks)
        read_j = sum((two[0] - one[0]) * (one[2] + two[2]) / 2 for one, two in pairs)
        return (looks[-1][1] - looks[0][1]) / elapsed_s, read_j / elapsed_s


class Sampler:
    """Reads all GPUs at once."""

    def __init__(self, gpus: Gpus, now_s: Callable[[], float]) -> None:
        self._gpus = gpus
        self._now_s = now_s
        self._lanes = Lanes()
        self._counters: dict[str, Counter] = {}
        self._count = 0
        self._turns = 0

    async def sample(self) -> tuple[Reading, ...]:
        """Return every GPU of the node, by index."""
        if self._count == 0 or self._turns % COUNT_EVERY == 0:
            await self._recount()
        self._turns += 1
        gpus = await asyncio.gather(*(self._read(index) for index in range(self._count)))
        now_s = self._now_s()
        return tuple(self._counters.setdefault(gpu.uuid, Counter()).take(gpu, now_s) for gpu in gpus)

    async def _read(self, index: int) -> GpuSample:
        try:
            return await self._lanes.run(f"GPU {index}", partial(self._gpus.read, index))
        except Failed:
            return self._gpus.lost(index)

    async def _recount(self) -> None:
        """Learn how many GPUs there are; one that is gone is still expected, and counts at its maximum."""
        try:
            self._count = max(self._count, await self._lanes.run("counting GPUs", self._gpus.count))
        except Failed as failed:
            _log.debug("counting GPUs: %s", failed)  # those that are known are read, and each says what it lacks
