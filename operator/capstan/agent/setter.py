"""The setter: root, the only process that writes to the driver; five verbs and a watchdog.

Who calls it: `app.setter` runs it, `listen` puts it on a socket; the agent talks to it. It trusts its peer to be alive,
not to be right: everything is held within an admin's range and rate. When the agent falls silent while a safe setting
is known, it applies that by itself, one thread per GPU, and goes on applying it: a driver may forget a lock, and cannot
be asked for it. Safe direction when blind: only ever tighter than what is known to have been set, by earlier runs too.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial

from capstan.agent import protocol
from capstan.agent.knob import Knob
from capstan.agent.lanes import Lanes
from capstan.agent.limits import Limits
from capstan.agent.ports import Driver, Failed, Kept, Memory, Owners, PodDevices
from capstan.agent.protocol import Answer

RETRY_S = 1.0  # between tries of the watchdog on a GPU that refuses
REASSERT_S = 5.0  # between its writes while it is alone: a GPU that was reset has forgotten its lock; P1 gives 10 s
DISCOVER_S = 5.0  # between looks for GPUs that did not answer before, or are new
ENFORCED_W = 1.0  # the enforced limit is read in milliwatts; more than this above ours, ours is not in force

_log = logging.getLogger(__name__)


class Setter:
    """State and verbs of the setter.

    Args:
        driver: The boards.
        devices: The kubelet.
        memory: Keeps what was set, and the safe setting, over our own restart.
        limits: What the admin allows.
        now_s: Monotonic clock.
    """

    def __init__(
        self, driver: Driver, devices: PodDevices, memory: Memory, limits: Limits, now_s: Callable[[], float]
    ) -> None:
        self._driver = driver
        self._devices = devices
        self._memory = memory
        self._limits = limits
        self._now_s = now_s
        kept = memory.read()
        self._lanes = Lanes()
        self._clock = Knob("megahertz", self._apply_clock, self._lanes, kept.clocks_mhz, self._store)
        self._limit = Knob("watts", self._apply_limit, self._lanes, kept.limits_w, self._store)
        self._safe = kept.safe
        self._unkept = ""
        self._heard_s = now_s()
        self._alone = False
        self._watch_at_s = -math.inf
        self._discover_at_s = -math.inf

    # --- verbs -------------------------------------------------------------------------------------

    async def answer(self, line: bytes) -> Answer:
        """Return the answer to one line of a peer; never raises. A line that is none of ours is no sign of life."""
        try:
            asked = protocol.parsed(line)
            self._heard_s, self._alone, self._watch_at_s = self._now_s(), False, -math.inf
            return {"ok": True, **await self._do(asked)}
        except Failed as failed:
            return {"ok": False, "error": failed.code, "message": str(failed)}

    async def _do(self, asked: Answer) -> Answer:
        verb, again = asked["verb"], asked.get("again") is True
        if verb == "clock":
            mhz = self._limits.clock_mhz(protocol.number(asked, "megahertz"))
            return await self._clock.ask(self._named(asked), mhz, again=again, now_s=self._now_s())
        if verb == "limit":
            watts = self._limits.limit_w(protocol.number(asked, "watts"))
            return await self._limit.ask(self._named(asked), watts, again=again, now_s=self._now_s())
        if verb == "devices":
            return {"devices": _shown(await self._lanes.run("the kubelet", self._devices.owners))}
        if verb == "reset":
            return await self._reset()
        clock_mhz, limit_w = protocol.number(asked, "megahertz"), protocol.number(asked, "watts")
        self._keep_safe(None if clock_mhz is None or limit_w is None else (clock_mhz, limit_w))
        return {}

    def _named(self, asked: Answer) -> str:
        """Return the GPU of a line. Raises Failed for one that is not there: each gets a thread and a place here."""
        uuid = protocol.uuid(asked)
        if uuid not in self._driver.uuids():
            raise Failed("UnknownGPU", f"no GPU {uuid[:80]} on this node")
        return uuid

    def _apply_clock(self, uuid: str, clock_mhz: float | None) -> float | None:
        if clock_mhz is None:
            self._driver.reset_clock(uuid)
            return None
        return self._driver.cap_clock(uuid, clock_mhz)

    def _apply_limit(self, uuid: str, limit_w: float | None) -> float:
        enforced_w = self._driver.limit_power(uuid, limit_w, self._limits.max_limit_w)
        if limit_w is not None and enforced_w > limit_w + ENFORCED_W:
            raise Failed("NotEnforced", f"asked for {limit_w:.0f} W, the board enforces {enforced_w:.0f} W")
        return enforced_w

    async def _reset(self) -> Answer:
        """Lift every cap and limit of ours: the release of a node. Every GPU gets its try; a failure is told."""
        self._keep_safe(None)
        stock_mhz = self._limits.clock_mhz(None)
        uuids = self._driver.uuids()
        done = await asyncio.gather(
            *(_done(uuid, self._clock.write(uuid, stock_mhz)) for uuid in uuids),
            *(_done(uuid, self._limit.write(uuid, None)) for uuid in uuids),
        )
        if not all(done):
            raise Failed("Incomplete", f"{done.count(False)} of {len(done)} writes failed (see the log): reset again")
        return {}

    # --- watchdog ----------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Apply the safe setting once the agent has been silent for too long; called often."""
        now_s = self._now_s()
        silent = now_s - self._heard_s >= self._limits.watchdog_s
        if self._safe is None or not silent or now_s < self._watch_at_s:
            return
        if not self._alone:
            _log.error("the agent is silent: applying the safe setting of %.0f MHz and %.0f W", *self._safe)
        self._alone, self._watch_at_s = True, now_s + RETRY_S
        safe_mhz, safe_w = self._limits.clock_mhz(self._safe[0]), self._limits.limit_w(self._safe[1])
        done = await asyncio.gather(
            *(_done(uuid, self._clock.tighten(uuid, safe_mhz)) for uuid in self._driver.uuids()),
            *(_done(uuid, self._limit.tighten(uuid, safe_w)) for uuid in self._driver.uuids()),
        )
        if self._alone and all(done):
            self._watch_at_s = now_s + REASSERT_S

    async def discover(self) -> None:
        """Get to know GPUs that did not answer before, or are new; called often."""
        now_s = self._now_s()
        if now_s < self._discover_at_s:
            return
        self._discover_at_s = now_s + DISCOVER_S
        try:
            missing = await self._lanes.run("counting GPUs", self._driver.missing)
        except Failed as failed:
            _log.warning("%s: %s", failed.code, failed)
            return
        looks = {f"GPU {index}": partial(self._driver.describe, index) for index in missing}
        await asyncio.gather(*(_done(name, self._lanes.run(name, look)) for name, look in looks.items()))

    # --- memory ------------------------------------------------------------------------------------

    def _keep_safe(self, safe: tuple[float, float] | None) -> None:
        if safe != self._safe:
            self._safe = safe
            self._store()

    def _store(self) -> None:
        """Keep what is set; a full disk must not end the process that holds the caps."""
        problem = ""
        try:
            self._memory.write(Kept(self._safe, self._clock.kept, self._limit.kept))
        except OSError as error:
            problem = str(error)
        if problem and problem != self._unkept:
            _log.warning("what is set cannot be kept for a restart: %s", problem)
        self._unkept = problem


async def _done(name: str, doing: Awaitable[None]) -> bool:
    """Return whether one call of ours went through; log it where it did not."""
    try:
        await doing
    except Failed as failed:
        _log.warning("%s: %s: %s", name, failed.code, failed)
        return False
    return True


def _shown(owners: Owners) -> Answer:
    return {uuid: [{"namespace": pod.namespace, "name": pod.name} for pod in pods] for uuid, pods in owners.items()}
