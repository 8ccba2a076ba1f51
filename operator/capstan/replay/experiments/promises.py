"""What Capstan's plans promised of each pool, and from when to when they stood: a system that writes it down.

Who calls it: `predictions`. Must not know: how a promise is made (`optimize.tune` is asked for each pool what `decide`
asks for all of them), what came of it.

A promise is what a plan should cost and achieve once it is in force, as of the cycle in which it was made; the operator
shows the same as `status.expected`. It is held against what came from when the pool first stood as planned, nothing
starting or draining, until its plan changed. Caps of power domains are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from capstan.model.fleet import ServiceObserved
from capstan.model.plan import Decision, Effect, Fleet, Memory, PolicyMemory, PoolMemory, PoolPlan
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.model.sample import Fresh
from capstan.optimize import bias, fleets, lanes, tune
from capstan.optimize import case as cases
from capstan.replay.scenario import Scenario
from capstan.replay.seen import PoolSeen, Seen, ServiceSeen
from capstan.replay.systems import Capstan


@dataclass(frozen=True, slots=True)
class Promise:
    """One plan of one pool, and how long it stood.

    Attributes:
        policy, pool: Whose.
        classes: The codes that it serves; empty: all of them.
        fleet, clock_cap_mhz: What was planned.
        expected: Of the pool alone, as of the cycle in which it was planned.
        from_s: When the pool first stood as planned; None: it never did.
        until_s: When the plan changed, the pool no longer stood, or the watch ended.
        energy_j: Drawn in between by the pool's replicas.
    """

    policy: str
    pool: str
    classes: tuple[int, ...]
    fleet: Fleet
    clock_cap_mhz: float | None
    expected: Effect
    from_s: float | None = None
    until_s: float | None = None
    energy_j: float = 0.0

    @property
    def span_s(self) -> float:
        """Seconds that it stood."""
        return 0.0 if self.from_s is None or self.until_s is None else self.until_s - self.from_s

    def same_plan(self, other: Promise) -> bool:
        """Return whether nothing was decided anew between the two."""
        own, others = ((one.classes, one.fleet, one.clock_cap_mhz) for one in (self, other))
        return own == others


@dataclass(frozen=True, slots=True)
class _Open:
    """A promise whose plan is in force, with the joules that its pool's replicas had drawn when it first stood."""

    promise: Promise
    before_j: float = 0.0

    def seen(self, pool: PoolSeen | None, now_s: float) -> _Open:
        """Return it with what the pool has drawn by now."""
        if pool is None or self.promise.from_s is None:
            return self
        return replace(self, promise=replace(self.promise, until_s=now_s, energy_j=pool.energy_j - self.before_j))

    def begun(self, pool: PoolSeen, now_s: float) -> _Open:
        """Return it as it stands from now on."""
        return _Open(replace(self.promise, from_s=now_s, until_s=now_s), pool.energy_j)


class Watched(Capstan):
    """Capstan, decision by decision the same, with its promises written down until the last request has arrived."""

    def __init__(
        self, policies: tuple[Policy, ...], profiles: tuple[Profile, ...], settings: cases.Settings, *, delay_s: float
    ) -> None:
        super().__init__(policies, profiles, settings, delay_s=delay_s)
        self.end_s = math.inf
        self._open: dict[tuple[str, str], _Open] = {}
        self._kept: list[Promise] = []

    @classmethod
    def of(cls, scenario: Scenario) -> Watched:
        """Return Capstan with the policies, profiles and periods of a scenario."""
        made = cls(scenario.policies, scenario.profiles, scenario.settings, delay_s=scenario.telemetry_s)
        made.end_s = scenario.duration_s
        return made

    @property
    def promises(self) -> tuple[Promise, ...]:
        """Every plan that was made and has an expectation, those that never stood as well; in order of their ends."""
        return (*self._kept, *(one.promise for one in self._open.values()))

    def decide(self, seen: Seen) -> Decision:
        """Decide, and write down what is new."""
        before = self._memory
        decision = super().decide(seen)
        if seen.now_s <= self.end_s:
            for service in seen.services:
                self._note(service, seen.now_s, self._promised(service.policy, before, decision, seen.now_s))
        return decision

    def _promised(self, policy: str, before: Memory, decision: Decision, now_s: float) -> tuple[Promise, ...]:
        decided = decision.of(policy)
        if decided is None or decided.expected.power_w is None:
            return ()
        service = self._services[policy]
        own = next(each for each in self._policies if each.key == policy)
        known = {one.pool: one.decode_ratio for one in before.of(policy).pools}  # what it was decided with
        memory = decision.memory.of(policy)
        memory = replace(memory, pools=tuple(replace(one, decode_ratio=known.get(one.pool)) for one in memory.pools))
        return tuple(promised(own, memory, decided.pools, service.profiles, self._settings, now_s))

    def _note(self, service: ServiceSeen, now_s: float, promises: tuple[Promise, ...]) -> None:
        """Close what has changed or gone, open what is new, and begin what stands for the first time."""
        pools = {pool.pool: pool for pool in service.pools}
        new = {(one.policy, one.pool): one for one in promises}
        for key in [key for key in self._open if key[0] == service.policy]:
            held = self._open[key] = self._open[key].seen(pools.get(key[1]), now_s)
            stands = held.promise.from_s is None or stands_as(pools.get(key[1]), held.promise.fleet)
            if key not in new or not new[key].same_plan(held.promise) or not stands:
                self._kept.append(self._open.pop(key).promise)
        for key, promise in new.items():
            held = self._open.setdefault(key, _Open(promise))
            pool = pools.get(key[1])
            if pool is not None and held.promise.from_s is None and stands_as(pool, promise.fleet):
                self._open[key] = held.begun(pool, now_s)


def stands_as(pool: PoolSeen | None, fleet: Fleet) -> bool:
    """Return whether just the planned replicas are Ready, and none starts or drains."""
    if pool is None:
        return False
    ready = fleets.of({tp: ready for tp, _, ready, _, _ in pool.degrees})
    return ready == fleet and not any(starting or draining for *_, starting, draining in pool.degrees)


def promised(
    policy: Policy,
    memory: PolicyMemory,
    plans: tuple[PoolPlan, ...],
    profiles: tuple[Profile, ...],
    settings: cases.Settings,
    now_s: float,
) -> Iterator[Promise]:
    """Yield what a decision promises of each pool; nothing of one whose load or steady state is not known.

    Args:
        policy: Whose.
        memory: As the decision left it, but for decode ratios: those that it was made with.
        plans: The decision's pools; entries of one pool follow each other, pools are in the order of the memory's.
        profiles: The physics of every degree, ascending.
        settings: Of the decision.
        now_s: When it was made.
    """
    for own in memory.pools:
        entries = [entry for entry in plans if entry.pool == own.pool]
        if not entries or not own.rates or own.lengths is None or own.fleet is None:
            continue
        case = _case(policy, own, entries[0], profiles, settings, now_s)
        effect = tune.expected(case, own.fleet, entries[0].clock_cap_mhz)
        if effect.power_w is not None:
            yield Promise(policy.key, own.pool, entries[0].classes, own.fleet, entries[0].clock_cap_mhz, effect)


def _case(
    policy: Policy,
    own: PoolMemory,
    entry: PoolPlan,
    profiles: tuple[Profile, ...],
    settings: cases.Settings,
    now_s: float,
) -> cases.Case:
    """Return a pool as `decide` looked at it, as far as what it expects depends on it."""
    codes = entry.classes or policy.pools.edges.whole()[0]
    return cases.Case(
        now_s=now_s,
        policy=policy,
        slo=lanes.limits(policy, codes).of_phase(entry.phase),
        pool=own.pool,
        classes=entry.classes,
        seen=ServiceObserved(policy.key, (), arrival_rps=Fresh(own.rates[-1][1], 0.0)),
        pools=(),
        profiles=tuple(bias.corrected(profile, own.decode_ratio) for profile in profiles),
        memory=own,
        settings=settings,
        phase=entry.phase,
    )
