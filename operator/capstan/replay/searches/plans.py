"""Plans over time that know nothing else: a fixed fleet, and a schedule of (tp, replicas) and of clocks.

Who calls it: `replay.provision` and `searches.oracle` make them, `replay.engine` plays them as systems. Must not know:
loads, physics, why anything was planned.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from capstan.replay.runs import Floats, Ints
from capstan.replay.seen import Seen, Service, Want

SLOT_S = 60.0
CLOCK_S = 5.0
"""DESIGN 7.1, `oracle`: it re-plans (tp, replicas) every 60 s and the clock every 5 s."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """`replicas` engines of `tp` GPUs."""

    tp: int
    replicas: int

    @property
    def gpus(self) -> int:
        """GPUs that it holds."""
        return self.tp * self.replicas


@dataclass(frozen=True, slots=True)
class Plan:
    """From `k` x `slot_s` on `fleets[k]` stands, from `k` x `clock_s` on `clocks_mhz[k]` is the cap (None: full clock).

    The last of each holds to the end.
    """

    fleets: tuple[Fleet, ...]
    clocks_mhz: tuple[float | None, ...] = (None,)
    slot_s: float = SLOT_S
    clock_s: float = CLOCK_S

    def __post_init__(self) -> None:
        if not self.fleets or not self.clocks_mhz or min(self.slot_s, self.clock_s) <= 0:
            raise ValueError("a plan needs a fleet, a clock and periods above zero")

    @classmethod
    def fixed(cls, tp: int, replicas: int, clock_cap_mhz: float | None = None) -> Plan:
        """Return a plan that never moves."""
        return cls((Fleet(tp, replicas),), (clock_cap_mhz,))

    @property
    def moves(self) -> bool:
        """Whether anything ever changes."""
        return len(set(self.fleets)) > 1 or len(set(self.clocks_mhz)) > 1

    def fleet(self, t_s: float) -> Fleet:
        """Return what stands at `t_s` (a hair before a slot's edge counts as the edge: ticks are sums of floats)."""
        return self.fleets[_index(t_s, self.slot_s, len(self.fleets))]

    def clock_cap_mhz(self, t_s: float) -> float | None:
        """Return the cap at `t_s`."""
        return self.clocks_mhz[_index(t_s, self.clock_s, len(self.clocks_mhz))]


def _index(t_s: float, period_s: float, count: int) -> int:
    return min(max(int(t_s / period_s + 1e-6), 0), count - 1)


@dataclass(frozen=True, slots=True)
class Laned:
    """The plan of one class pool; `classes` empty: of the only pool."""

    plan: Plan
    pool: str = "all"
    classes: tuple[int, ...] = ()


Schedule = tuple[Laned, ...]
"""The plans of all class pools of a service."""


def whole(plan: Plan) -> Schedule:
    """Return the schedule of a service that is one pool."""
    return (Laned(plan),)


class Scheduled:
    """Plays one schedule per service, word for word; whatever is seen changes nothing.

    A service without one keeps the scenario's start.
    """

    caps_power = False

    def __init__(self, name: str, schedules: Mapping[str, Schedule]) -> None:
        self.name = name
        self._schedules = schedules
        # Asked once, not every tick: a week's plan has a hundred thousand clocks to compare.
        self._moving = {key: lanes for key, lanes in schedules.items() if any(lane.plan.moves for lane in lanes)}
        periods_s = [lane.plan.clock_s for lanes in self._moving.values() for lane in lanes if lane.plan.moves]
        self.period_s = min(periods_s, default=SLOT_S)

    def start(self, service: Service) -> tuple[Want, ...]:
        """Begin with the plan's first fleet and clock."""
        lanes = self._schedules.get(service.policy.key)
        return (service.start,) if lanes is None else _wants(service.policy.key, lanes, 0.0)

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        """Want what the plans say for now; those that never move want nothing new."""
        return tuple(want for key, lanes in self._moving.items() for want in _wants(key, lanes, seen.now_s))


def _wants(policy: str, lanes: Schedule, t_s: float) -> tuple[Want, ...]:
    found = []
    for lane in lanes:
        fleet = lane.plan.fleet(t_s)
        cap_mhz = lane.plan.clock_cap_mhz(t_s)
        found.append(Want(policy, fleet.tp, fleet.replicas, cap_mhz, pool=lane.pool, classes=lane.classes))
    return tuple(found)


class Standing(Protocol):
    """What a service, or one class pool of it, had standing over time, shapes `[sample]`."""

    @property
    def t_s(self) -> Floats:
        """When."""
        ...

    @property
    def tp(self) -> Ints:
        """Degree of most of it."""
        ...

    @property
    def replicas_ready(self) -> Ints:
        """Replicas that served."""
        ...

    @property
    def clock_cap_mhz(self) -> Floats:
        """Clock cap, NaN for none."""
        ...


def realised(series: Standing, *, slot_s: float = SLOT_S, clock_s: float = CLOCK_S) -> tuple[Plan, ...]:
    """Return what a run had standing, as plans: candidates for `oracle`, what a system found less what moving cost it.

    Three of them, each once: per slot the most replicas that were ready, per slot their mean rounded up, and what was
    ready at every `clock_s`. The first keeps all that served and stands too long, the second is too small at a slot's
    peak, the third moves as the system did. The tp of a slot is the one that most of its samples show.
    """
    if not len(series.t_s):
        raise ValueError("a run without samples has no plan")
    times = series.t_s.tolist()
    steps = range(int(times[-1] / clock_s + 1e-6) + 1)
    at = [max(bisect_right(times, step * clock_s + 1e-6) - 1, 0) for step in steps]
    caps = [float(series.clock_cap_mhz[i]) for i in at]
    clocks = tuple(None if np.isnan(cap) else cap for cap in caps)
    most, mean = _by_slot(series, slot_s)
    raw = tuple(Fleet(int(series.tp[i]), int(series.replicas_ready[i])) for i in at)
    found = (Plan(most, clocks, slot_s, clock_s), Plan(mean, clocks, slot_s, clock_s))
    return tuple(dict.fromkeys((*found, Plan(raw, clocks, clock_s, clock_s))))


def _by_slot(series: Standing, slot_s: float) -> tuple[tuple[Fleet, ...], tuple[Fleet, ...]]:
    """Return each slot's most replicas, and their mean rounded up; a slot without a sample is as the one before."""
    slots = np.floor(series.t_s / slot_s + 1e-6).astype(int)
    most: list[Fleet] = []
    mean: list[Fleet] = []
    for slot in range(int(slots[-1]) + 1):
        inside = slots == slot
        if not inside.any():
            first = Fleet(int(series.tp[0]), int(series.replicas_ready[0]))
            most.append(most[-1] if most else first)
            mean.append(mean[-1] if mean else first)
            continue
        degrees, counts = np.unique(series.tp[inside], return_counts=True)
        tp, ready = int(degrees[counts.argmax()]), series.replicas_ready[inside]
        most.append(Fleet(tp, int(ready.max())))
        mean.append(Fleet(tp, math.ceil(float(ready.mean()) - 1e-9)))
    return tuple(most), tuple(mean)
