"""Strategy Statistical on the plant: `powercap.step` for each domain, and agents that keep a lease.

Who calls it: `play`. Must not know: true watts, but for the domains' meters.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from capstan.model.reasons import Reason
from capstan.model.sample import Missing, Sample, graded
from capstan.powercap import readings, safety
from capstan.powercap import step as machine
from capstan.powercap.domains import ClassCaps, Domain, DomainMemory, Level, SafeSetting, tightest, tightest_safe
from capstan.replay.plantlab.layout import Floats
from capstan.replay.plantlab.scene import Scene
from capstan.replay.plantlab.site import Heard, Site
from capstan.replay.plantlab.world import World


class Statistical:
    """One controller over all domains of the tree, as `power.cycle` runs it."""

    name = "Statistical"

    def __init__(self, scene: Scene, world: World, site: Site) -> None:
        self._scene, self._world, self._site = scene, world, site
        self._memory = {d.name: DomainMemory(Level.NORMAL) for d in scene.domains}
        self._meters: list[tuple[float, Floats]] = []
        self._safe: SafeSetting | None = None
        self._names = tuple(server.name for server in scene.servers)
        count, draw = len(scene.servers), scene.profile.draw
        self._fixed = readings.Samples(
            self._names, np.full(count, np.nan), np.zeros(count), np.full(count, draw.limit_w * scene.gpus),
            np.full(count, float(scene.gpus)), np.full(count, draw.min_limit_w),
        )  # fmt: skip
        self._admit = functools.lru_cache(maxsize=64)(lambda domain: safety.admit(domain, self._fixed).safe)
        self._cap_ratio, self._limit_w = np.ones(count), np.full(count, draw.limit_w)
        self.levels = tuple(Level.NORMAL for _ in scene.domains)

    def tick(self, heard: Heard, budgets_w: dict[str, float]) -> None:
        """Hear, step every domain, and let the agents know."""
        now_s = float(self._world.now_s)
        self._read_meters(now_s)
        samples = self._samples(heard)
        confirmed = self._site.confirmed()
        domains = [self._at(domain, budgets_w[domain.name]) for domain in self._scene.domains]
        steps = [
            machine.step(
                domain, samples, self._memory[domain.name], now_s, meter=self._meter(i, now_s), confirmed=confirmed
            )
            for i, domain in enumerate(domains)
        ]
        self._memory = {domain.name: done.memory for domain, done in zip(domains, steps, strict=True)}
        self.levels = tuple(done.level for done in steps)
        if self._site.reaches():
            caps = {domain.name: done.caps for domain, done in zip(domains, steps, strict=True)}
            self._order(caps)
            self._safe = tightest_safe(domain.safe for domain in domains if domain.safe)
            self._site.called_s[:] = now_s
        self._leases(now_s)

    def _at(self, domain: Domain, budget_w: float) -> Domain:
        """Return a domain with its budget of now and the safe setting that this allows, as the live loop derives it."""
        unarmed = dataclasses.replace(domain, budget_w=budget_w)
        return dataclasses.replace(unarmed, safe=self._admit(unarmed))

    def _samples(self, heard: Heard) -> readings.Samples:
        stale_s = self._scene.root.timers.stale_s
        fresh = heard.age_s <= stale_s
        return dataclasses.replace(
            self._fixed,
            heard_w=np.where(fresh, heard.watts, np.nan),
            seen_w=np.where(fresh, 0.0, heard.watts),
        )

    def _order(self, caps: dict[str, ClassCaps]) -> None:
        profile = self._scene.profile
        for i, server in enumerate(self._scene.servers):
            held = tightest(*(caps[name] for name in server.domains))
            self._cap_ratio[i] = profile.clocks.ratio(held.high_mhz if server.high else held.low_mhz)
            self._limit_w[i] = profile.draw.limit_w if held.power_limit_w is None else held.power_limit_w

    def _leases(self, now_s: float) -> None:
        """Let agents that were called act on it, and those whose lease has run out take the safe setting."""
        lapsed = now_s - self._site.called_s >= self._scene.spec.actuation.lease_seconds
        cap_ratio, limit_w = self._cap_ratio, self._limit_w
        if self._safe is not None and lapsed.any():
            safe_ratio = self._scene.profile.clocks.ratio(self._safe.clock_mhz)
            cap_ratio = np.where(lapsed, np.minimum(cap_ratio, safe_ratio), cap_ratio)
            limit_w = np.where(lapsed, np.minimum(limit_w, self._safe.power_limit_w), limit_w)
        self._site.want(cap_ratio, limit_w)

    def _read_meters(self, now_s: float) -> None:
        if now_s % self._scene.spec.meter.period_seconds == 0:
            self._meters.append((now_s, self._world.newest_w()))

    def _meter(self, domain: int, now_s: float) -> Sample[float]:
        delay_s = self._scene.spec.meter.delay_seconds
        known = [(at_s, watts) for at_s, watts in self._meters[-8:] if at_s <= now_s - delay_s]
        if not known:
            return Missing(Reason.NO_DATA)
        at_s, watts = known[-1]
        return graded(float(watts[domain]), now_s - at_s, limit_s=self._scene.root.timers.stale_s)
