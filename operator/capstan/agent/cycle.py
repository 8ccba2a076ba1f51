"""The agent's loop, once a second and at once when a renewal tightens: sample, map GPUs to pods, set, verify by effect.

Who calls it: `app.agent`. Safe direction: a GPU whose setting failed is tried again every second and reported with the
watts that it really draws; nothing is ever assumed to be set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from capstan.agent import lease as leases
from capstan.agent.lease import Lease, Wanted
from capstan.agent.ports import Failed, Gpus, PlannedClock, Pod, Setter
from capstan.model.gpu import GpuSample
from capstan.powercap.domains import SafeSetting

PERIOD_S = 1.0
EFFECT_MHZ = 15.0  # one step of the clock grid: above the cap by more than this, the cap is not in force
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
        self._applied: dict[str, Wanted] = {}
        self._problem = ""

    def renew(self, renewal: leases.Renewal) -> None:
        """Take a lease call; a tighter cap wakes the loop. Raises `Outdated`."""
        before = self.lease
        self.lease = leases.renewed(before, renewal, self._now_s())
        if before.caps != self.lease.caps or leases.in_safe_setting(before, self._now_s()):
            self.wake.set()

    def grant(self, grant: leases.Granted | None, plan: tuple[PlannedClock, ...]) -> None:
        """Take our NodeCap as it is now (None: no `spec.power`)."""
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
                await asyncio.wait_for(self.wake.wait(), PERIOD_S)
            except TimeoutError:
                continue

    async def turn(self) -> None:
        """Sample, set what differs, and show it."""
        sampled_s = self._now_s()
        gpus = self._gpus.sample()
        try:
            await self._keep_alive()
            self._owners = dict(await self._setter.devices())
            for gpu in gpus:
                await self._set(gpu)
            self._say("")
        except Failed as failed:
            self._say(f"{failed.code}: {failed}")
        self.shown = Shown(self.shown.sequence + 1, sampled_s, gpus, dict(self._owners), dict(self._applied))

    async def _keep_alive(self) -> None:
        """Tell the setter that we live and what to do should we not; keep the safe setting over restarts."""
        safe = self.lease.safe
        await self._setter.safe(*((None, None) if safe is None else (safe.clock_mhz, safe.power_limit_w)))
        if safe is not None and safe != self._remembered:
            self._remember(safe)
            self._remembered = safe

    async def _set(self, gpu: GpuSample) -> None:
        """Bring one GPU to what it should be; write again what shows no effect."""
        wanted = leases.wanted(self.lease, self._owners.get(gpu.uuid), self._now_s())
        before = self._applied.get(gpu.uuid)
        # Locks outlive the process that set them and cannot be read back: the first turn writes, even "no cap".
        ineffective = wanted.clock_mhz is not None and gpu.sm_clock_mhz > wanted.clock_mhz + EFFECT_MHZ
        if before is None or before.clock_mhz != wanted.clock_mhz or ineffective:
            await self._setter.clock(gpu.uuid, wanted.clock_mhz, again=ineffective and before == wanted)
        if before is None or before.limit_w != wanted.limit_w:
            await self._setter.limit(gpu.uuid, wanted.limit_w)
        self._applied[gpu.uuid] = wanted

    def _say(self, problem: str) -> None:
        """Log a problem once, and its end."""
        if problem != self._problem:
            self._problem = problem
            _log.warning("GPUs: %s", problem or "every setting is in place again")
