"""The agent's loop, once a second and at once when a renewal tightens: sample, map GPUs to pods, set, verify by effect.

Who calls it: `app.agent`. Safe direction: every GPU is told its setting every second (the setter writes only what
differs), each by itself: one that refuses keeps none of the others from theirs, and is reported with the watts that it
really draws. Nothing is ever assumed to be set: clocks are verified by effect, limits by the enforced one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from capstan.agent import lease as leases
from capstan.agent.lease import Lease, Wanted
from capstan.agent.ports import SILENT, Failed, Gpus, PlannedClock, Pod, Setter
from capstan.model.gpu import GpuSample
from capstan.powercap.domains import SafeSetting

PERIOD_S = 1.0
EFFECT_MHZ = 15.0  # one step of the clock grid: above the cap by more than this, the cap is not in force
SETTLED_S = 2.0  # a clock switch takes up to 0.5 s (facts/polca.md 3.3), the next sample comes a second later
EFFECT_W = 1.0  # the enforced limit is read in milliwatts; more than this above ours, ours is not in force
NOTHING = Wanted()

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the agent says of itself: the newest sample with what each GPU was set to."""

    sequence: int = 0
    sampled_s: float = 0.0
    gpus: tuple[GpuSample, ...] = ()
    owners: Mapping[str, Pod] | None = None
    applied: Mapping[str, Wanted] | None = None


@dataclass(slots=True)
class _Held:
    """What one GPU was told: `applied` is what the setter made of it, since `since_s`."""

    touched: bool = False
    asked_mhz: float | None = None
    since_s: float = 0.0
    applied: Wanted = NOTHING


class Cycle:
    """One node's state.

    Args:
        gpus: The driver, read only.
        setter: Who writes.
        now_s: Monotonic clock.
        remember: Keeps the safe setting over a restart.
    """

    def __init__(
        self, gpus: Gpus, setter: Setter, now_s: Callable[[], float], remember: Callable[[SafeSetting], None]
    ) -> None:
        self.lease = Lease()
        self.shown = Shown()
        self.wake = asyncio.Event()
        self._gpus = gpus
        self._setter = setter
        self._now_s = now_s
        self._remember = remember
        self._remembered: SafeSetting | None = None
        self._owners: dict[str, Pod] = {}
        self._held: dict[str, _Held] = {}
        self._problems: set[str] = set()
        self._said: set[str] = set()

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
        gpus = self._gpus.sample()
        self.shown = replace(self.shown, sequence=self.shown.sequence + 1, sampled_s=sampled_s, gpus=gpus)
        self._problems = set()
        try:
            await self._keep_alive()
            await self._tried(self._map())
            for gpu in gpus:
                await self._tried(self._set_clock(gpu))
                await self._tried(self._set_limit(gpu))
        except Failed as failed:
            self._problems.add(f"{failed.code}: {failed}")
        self.shown = replace(
            self.shown, owners=dict(self._owners), applied={uuid: held.applied for uuid, held in self._held.items()}
        )
        self._say()

    async def _keep_alive(self) -> None:
        """Tell the setter that we live and what to do should we not; keep the safe setting over restarts."""
        safe = self.lease.safe
        await self._setter.safe(*((None, None) if safe is None else (safe.clock_mhz, safe.power_limit_w)))
        if safe is not None and safe != self._remembered:
            try:
                self._remember(safe)
                self._remembered = safe
            except OSError as problem:  # a full disk must not end the loop that holds the caps
                self._problems.add(f"the safe setting cannot be kept for a restart: {problem}")

    async def _map(self) -> None:
        """Learn which pod holds which GPU; while the kubelet is silent, what was known last holds."""
        self._owners = dict(await self._setter.devices())

    async def _set_clock(self, gpu: GpuSample) -> None:
        """Cap one GPU, or lift our cap; write again what shows no effect."""
        held, now_s = self._held.setdefault(gpu.uuid, _Held()), self._now_s()
        if not (held.touched or leases.owns_clocks(self.lease)):
            return
        clock_mhz = leases.wanted(self.lease, self._owners.get(gpu.uuid), now_s).clock_mhz
        settled = held.touched and held.asked_mhz == clock_mhz and now_s - held.since_s >= SETTLED_S
        ineffective = settled and _above(gpu.sm_clock_mhz, held.applied.clock_mhz, EFFECT_MHZ)
        if ineffective:
            self._problems.add(f"NotInForce: GPU {gpu.index} runs above its clock cap")
        set_mhz = await self._setter.clock(gpu.uuid, clock_mhz, again=ineffective)
        if not held.touched or held.asked_mhz != clock_mhz:
            held.since_s = now_s
        held.touched, held.asked_mhz = True, clock_mhz
        held.applied = replace(held.applied, clock_mhz=set_mhz)

    async def _set_limit(self, gpu: GpuSample) -> None:
        """Limit one board; write again what the board does not enforce (a driver that was reloaded forgets it)."""
        if not leases.owns_limits(self.lease):
            return
        held = self._held.setdefault(gpu.uuid, _Held())
        limit_w = leases.wanted(self.lease, self._owners.get(gpu.uuid), self._now_s()).limit_w
        forgotten = held.applied.limit_w == limit_w and _above(gpu.limit_w, _within(gpu, limit_w), EFFECT_W)
        await self._setter.limit(gpu.uuid, limit_w, again=forgotten)
        held.applied = replace(held.applied, limit_w=limit_w)

    async def _tried(self, doing: Awaitable[None]) -> None:
        """Await one call to the setter; a refusal is kept for the log. Raises Failed where the setter is silent."""
        try:
            await doing
        except Failed as failed:
            if failed.code == SILENT:
                raise
            self._problems.add(f"{failed.code}: {failed}")

    def _say(self) -> None:
        """Log problems once, and their end."""
        if self._problems != self._said:
            self._said = self._problems
            _log.warning("GPUs: %s", "; ".join(sorted(self._said)) or "every setting is in place again")


def _above(seen: float | None, limit: float | None, margin: float) -> bool:
    return seen is not None and limit is not None and seen > limit + margin


def _within(gpu: GpuSample, limit_w: float | None) -> float | None:
    """Return the limit as the board can hold it: one below its range is set to the lowest it accepts."""
    return None if limit_w is None else max(limit_w, gpu.min_limit_w)
