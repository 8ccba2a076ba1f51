"""The agent's loop, once a second and at once when a renewal tightens: sample, map GPUs to pods, set, verify by effect.

Who calls it: `app.agent`. Safe direction: every GPU is told its setting every second (the setter writes only what
differs), each by itself: one that refuses keeps none of the others from theirs, and is reported with the watts that it
really draws. Nothing is ever assumed to be set (`joining`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from capstan.agent import joining
from capstan.agent import lease as leases
from capstan.agent.joining import Held, Verified
from capstan.agent.lease import Lease, Wanted
from capstan.agent.ports import SILENT, Failed, Gpus, Owners, PlannedClock, Setter
from capstan.agent.sampling import Reading, Sampler
from capstan.powercap.domains import SafeSetting

PERIOD_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the agent says of itself: the newest sample with what each GPU was set to and whether it is in force.

    Attributes:
        failures: How many calls to the setter failed since the agent began, by (call, code).
        kept: (epoch, sequence) of the newest NodeCap whose safe setting a restart would find: setter and file have it.
    """

    sequence: int = 0
    sampled_s: float = 0.0
    gpus: tuple[Reading, ...] = ()
    owners: Owners = field(default_factory=dict)
    applied: Mapping[str, Wanted] = field(default_factory=dict)
    verified: Mapping[str, Verified] = field(default_factory=dict)
    failures: Mapping[tuple[str, str], int] = field(default_factory=dict)
    kept: tuple[int, int] = (0, 0)


class Cycle:
    """One node's state.

    Args:
        gpus: The driver, read only.
        setter: Who writes.
        now_s: Monotonic clock.
        remember: Keeps the safe setting and the newest epoch over a restart. Raises OSError.
    """

    def __init__(
        self, gpus: Gpus, setter: Setter, now_s: Callable[[], float], remember: Callable[[SafeSetting, int], None]
    ) -> None:
        self.lease = Lease()
        self.shown = Shown()
        self.wake = asyncio.Event()
        self._sampler = Sampler(gpus, now_s)
        self._setter = setter
        self._now_s = now_s
        self._remember = remember
        self._remembered: tuple[SafeSetting, int] | None = None
        self._kept = (0, 0)
        self._owners: Owners = {}
        self._held: dict[str, Held] = {}
        self._problems: set[str] = set()
        self._said: set[str] = set()
        self._failures: Counter[tuple[str, str]] = Counter()

    def renew(self, renewal: leases.Renewal) -> None:
        """Take a lease call; a tighter cap wakes the loop. Raises `Outdated`."""
        before = self.lease
        self.lease = leases.renewed(before, renewal, self._now_s())
        if before.caps != self.lease.caps or leases.in_safe_setting(before, self._now_s()):
            self.wake.set()

    def grant(self, grant: leases.Granted | None, plan: tuple[PlannedClock, ...] | None) -> None:
        """Take our NodeCap as it is now (None: no `spec.power`, no `spec.plan`)."""
        before = self.lease
        self.lease = replace(leases.granted(before, grant), plan=plan)
        if self.lease != before:
            self.wake.set()

    async def run(self) -> None:
        """Turn until cancelled."""
        while True:
            self.wake.clear()
            await self.turn()
            try:
                async with asyncio.timeout(PERIOD_S):  # 3.11's wait_for may lose a cancellation
                    await self.wake.wait()
            except TimeoutError:
                continue

    async def turn(self) -> None:
        """Sample, show it, and bring every GPU to what it should be."""
        sampled_s = self._now_s()
        readings = await self._sampler.sample()
        self.shown = replace(self.shown, sequence=self.shown.sequence + 1, sampled_s=sampled_s, gpus=readings)
        self._problems = set()
        try:
            await self._keep_alive()
            await self._tried(self._map())
            for reading in readings:
                await self._bring(reading, sampled_s)
        except Failed as failed:
            self._problems.add(f"{failed.code}: {failed}")
        self._show(sampled_s)
        self._say()

    async def _keep_alive(self) -> None:
        """Tell the setter that we live and what to do should we not; keep what a restart must know."""
        safe, epoch, taken = self.lease.safe, self.lease.epoch, self.lease.taken
        with self._counted("safe"):
            await self._setter.safe(*((None, None) if safe is None else (safe.clock_mhz, safe.power_limit_w)))
        if safe is not None and (safe, epoch) != self._remembered:
            try:
                self._remember(safe, epoch)
                self._remembered = (safe, epoch)
            except OSError as problem:  # a full disk must not end the loop that holds the caps
                self._problems.add(f"the safe setting cannot be kept for a restart: {problem}")
                return
        self._kept = taken

    async def _map(self) -> None:
        """Learn which pods hold which GPU; while the kubelet is silent, what was known last holds."""
        with self._counted("devices"):
            self._owners = await self._setter.devices()

    async def _bring(self, reading: Reading, sampled_s: float) -> None:
        """Bring one GPU to what it should be, which is the safe setting while its settings are in doubt."""
        gpu, held = reading.gpu, self._held.setdefault(reading.gpu.uuid, Held())
        seen = joining.verified(gpu, held, sampled_s)
        problem = joining.lost(held, seen, forgot=reading.forgot)
        if problem:
            self._problems.add(f"NotInForce: GPU {gpu.index} {problem}")
        joining.join(held, seen, self.lease.safe, sampled_s)
        pods = self._owners.get(gpu.uuid, ())
        wanted = leases.wanted(self.lease, pods, self._now_s(), joined=held.joined)
        if held.touched or leases.owns_clocks(self.lease):
            await self._tried(self._set_clock(gpu.uuid, wanted.clock_mhz, again=bool(problem)))
        if leases.owns_limits(self.lease):
            await self._tried(self._set_limit(gpu.uuid, wanted.limit_w, again=bool(problem)))

    async def _set_clock(self, uuid: str, clock_mhz: float | None, *, again: bool) -> None:
        """Cap one GPU, or lift our cap."""
        with self._counted("clock"):
            set_mhz = await self._setter.clock(uuid, clock_mhz, again=again)
        self._held[uuid].told_clock(clock_mhz, set_mhz, self._now_s())

    async def _set_limit(self, uuid: str, limit_w: float | None, *, again: bool) -> None:
        """Limit one board."""
        with self._counted("limit"):
            await self._setter.limit(uuid, limit_w, again=again)
        self._held[uuid].told_limit(limit_w, self._now_s())

    @contextmanager
    def _counted(self, call: str) -> Iterator[None]:
        """Count a call that fails, by its code. Raises Failed."""
        try:
            yield
        except Failed as failed:
            self._failures[call, failed.code] += 1
            raise

    async def _tried(self, doing: Awaitable[None]) -> None:
        """Await one call to the setter; a refusal is kept for the log. Raises Failed where the setter is silent."""
        try:
            await doing
        except Failed as failed:
            if failed.code == SILENT:
                raise
            self._problems.add(f"{failed.code}: {failed}")

    def _show(self, sampled_s: float) -> None:
        """Show what is set, and what the sample says of it."""
        gpus = {reading.gpu.uuid: reading.gpu for reading in self.shown.gpus}
        held = {uuid: self._held.get(uuid, Held()) for uuid in gpus}
        self.shown = replace(
            self.shown,
            owners=self._owners,
            kept=self._kept,
            applied={uuid: one.applied for uuid, one in held.items()},
            verified={uuid: joining.verified(gpus[uuid], one, sampled_s) for uuid, one in held.items()},
            failures=dict(self._failures),
        )

    def _say(self) -> None:
        """Log problems once, and their end."""
        if self._problems != self._said:
            self._said = self._problems
            _log.warning("GPUs: %s", "; ".join(sorted(self._said)) or "every setting is in place again")
