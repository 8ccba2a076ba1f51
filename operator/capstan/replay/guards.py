"""The power domains of a run: the same `powercap.step` as live, once a second, on what the plant's agents say.

Who calls it: `replay.engine`, for systems that arm power domains. Must not know: requests, plans.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from capstan.model import headroom
from capstan.model.headroom import OUTSIDE, DomainSeen
from capstan.model.policy import Priority
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing
from capstan.optimize import watts
from capstan.powercap import domains, safety, step
from capstan.replay.nodes import Seats
from capstan.replay.plant import Plant
from capstan.replay.runs import DomainSeries, Mark
from capstan.replay.scenario import BudgetCut, Scenario
from capstan.replay.series import DomainLog


@dataclass(slots=True)
class Guarded:
    """One domain: its machine's memory, what it said last, and the draws since the last sample."""

    domain: domains.Domain
    log: DomainLog
    memory: domains.DomainMemory = field(default_factory=domains.DomainMemory)
    last: domains.Step | None = None
    draws_w: list[float] = field(default_factory=list)


class Guards:
    """All domains of a scenario, armed or only watched."""

    def __init__(self, scenario: Scenario, plant: Plant, *, armed: bool) -> None:
        self.marks: list[Mark] = []
        self._plant = plant
        self._caps: dict[str, domains.ClassCaps] = {}
        self._cuts: list[BudgetCut] = sorted(scenario.cuts, key=lambda cut: cut.t_s)
        self._guarded = [
            Guarded(
                dataclasses.replace(domain, armed=domain.armed and armed), DomainLog(domain.name, len(domain.nodes))
            )
            for domain in scenario.domains
        ]

    def measure(self) -> None:
        """Take the draws of the newest slice."""
        for guarded in self._guarded:
            guarded.draws_w.append(self._plant.draw_w(guarded.domain))

    def step(self, now_s: float) -> None:
        """Let every domain decide on the last second; cut budgets first where it is time."""
        while self._cuts and self._cuts[0].t_s <= now_s:
            self._cut(self._cuts.pop(0), now_s)
        for guarded in self._guarded:
            samples, before = self._plant.samples(guarded.domain), guarded.last
            guarded.last = step.step(guarded.domain, samples, guarded.memory, now_s)
            guarded.memory = guarded.last.memory
            if before is None or before.caps != guarded.last.caps:
                self._caps.clear()

    def seen(self, seats: Seats) -> tuple[DomainSeen, ...]:
        """Return the domains that act, as their status says; none of those that only watch."""
        free = {node.name: gpus for node, gpus in zip(seats.nodes, seats.free, strict=True)}
        armed = [guarded for guarded in self._guarded if guarded.domain.armed]
        names = {guarded.domain.name for guarded in armed}
        parents = {guarded.domain.name: guarded.domain.parent or "" for guarded in self._guarded}
        return tuple(
            _seen(
                guarded,
                next((name for name in headroom.above(guarded.domain.name, parents)[1:] if name in names), None),
                sum(free[node] for node in guarded.domain.nodes),
            )
            for guarded in armed
        )

    def homes(self, seats: Seats) -> tuple[str, ...]:
        """Return the innermost domain that acts of every node: the one of the fewest nodes."""
        armed = sorted((g.domain for g in self._guarded if g.domain.armed), key=lambda domain: -len(domain.nodes))
        inner = {node: domain.name for domain in armed for node in domain.nodes}
        return tuple(inner.get(node.name, OUTSIDE) for node in seats.nodes)

    def caps(self, node: str) -> domains.ClassCaps:
        """Return the tightest caps of all domains above a node; asked for every second, they change seldom."""
        if node not in self._caps:
            above = (g.last.caps for g in self._guarded if g.last and node in g.domain.nodes)
            self._caps[node] = domains.tightest(*above)
        return self._caps[node]

    def note(self, now_s: float) -> None:
        """Write down the highest draw since the last sample, budget, level and cap."""
        for guarded in self._guarded:
            last = guarded.last
            level = domains.Level.DISARMED if last is None else last.level
            cap_mhz = None if last is None else last.caps.low_mhz
            cap = math.nan if cap_mhz is None else cap_mhz
            guarded.log.note(now_s, max(guarded.draws_w), guarded.domain.budget_w, cap, str(level))
            guarded.draws_w.clear()

    def series(self) -> tuple[DomainSeries, ...]:
        """Return the columns of every domain."""
        return tuple(guarded.log.series() for guarded in self._guarded)

    def _cut(self, cut: BudgetCut, now_s: float) -> None:
        for guarded in self._guarded:
            if guarded.domain.name == cut.domain:
                guarded.domain = self._resized(guarded.domain, cut.budget_w)
        self.marks.append(Mark(now_s, f"budget of {cut.domain} is now {cut.budget_w / 1e3:.1f} kW"))

    def _resized(self, domain: domains.Domain, budget_w: float) -> domains.Domain:
        """Return a domain at another budget, with the safe setting that fits it, or comes nearest, as `power` has it.

        The one of the larger budget would brake an armed domain whose lowest limits still fit.
        """
        unsafe = dataclasses.replace(domain, budget_w=budget_w, safe=None)
        return dataclasses.replace(unsafe, safe=safety.admit(unsafe, self._plant.samples(domain)).safe)


def _seen(guarded: Guarded, parent: str | None, free_gpus: int) -> DomainSeen:
    domain, last = guarded.domain, guarded.last
    caps = domains.NO_CAPS if last is None else last.caps
    return DomainSeen(
        domain.name,
        domain.budget_w,
        Missing(Reason.NO_DATA) if last is None else Fresh(last.headroom_w, 0.0),
        parent,
        domain.thresholds.low_ratio,
        domain.thresholds.high_ratio,
        domain.thresholds.brake_ratio,
        domain.supply_efficiency_ratio,
        low_mhz=caps.low_mhz,
        high_mhz=caps.high_mhz,
        free_gpus=free_gpus,
    )


def ranks(homes: Sequence[str], seen: tuple[DomainSeen, ...], priority: Priority) -> tuple[int, ...]:
    """Return per node how gladly a replica is placed there: where there is headroom, where there is none, capped."""
    known = headroom.by_name(seen)
    each = {name: _rank(name, known, priority) for name in set(homes)}
    return tuple(each[name] for name in homes)


def _rank(name: str, known: Mapping[str, DomainSeen], priority: Priority) -> int:
    if headroom.cap_mhz(name, priority, known) is not None:
        return 2
    return 1 if name in known and watts.growth_left_w(name, known, priority) <= 0 else 0


def least(caps_mhz: Sequence[float | None]) -> float | None:
    """Return the tightest of some clock caps, None where there is none."""
    known = [cap for cap in caps_mhz if cap is not None]
    return min(known) if known else None
