"""From stresses to a plan: for each slot the cheapest fleet, and for each tick the cheapest clock, within a stress.

Who calls it: `replay.oracle`. Must not know: the world, how stresses are found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.replay import fluid
from capstan.replay.plans import Fleet, Plan
from capstan.replay.runs import Floats, Requests

CLOCK_VIEW_TICKS = 3
"""A tick's clock looks at the load of its own 5 s and of three ticks before: what decodes now arrived there (15 to
20 s is the stay of a 211-token answer at 70 to 100 ms a token), and one tick alone has too few arrivals for a rate."""


@dataclass(frozen=True, slots=True)
class Stresses:
    """How near to the limits each slot's fleet and clocks may be planned; shapes `[slot]`."""

    fleet: Floats
    clock: Floats

    @classmethod
    def level(cls, slots: int, fleet_ratio: float, clock_ratio: float) -> Stresses:
        """Return the same for all slots."""
        return cls(np.full(slots, fleet_ratio), np.full(slots, clock_ratio))


class Planner:
    """Remembers the options of every slot and tick, so that one more plan costs milliseconds."""

    def __init__(self, model: fluid.Model, requests: Requests, *, slot_s: float, clock_s: float) -> None:
        self.model = model
        self.slot_s = slot_s
        self.clock_s = clock_s
        self._slots = fluid.loads(requests, slot_s)
        ticks = fluid.loads(requests, clock_s, span_s=len(self._slots) * slot_s)
        self._ticks = _smoothed(ticks)
        self._ticks_per_slot = round(slot_s / clock_s)
        self._fleets: dict[tuple[int, tuple[int, ...]], tuple[fluid.Option, ...]] = {}
        self._clocks: dict[tuple[int, Fleet], tuple[fluid.Option, ...]] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def arrivals(self, slot: int) -> float:
        """Return the requests that arrive in a slot."""
        return float(self._slots.arrivals[slot])

    def plan(self, stresses: Stresses, degrees: tuple[int, ...], shifts: dict[int, int] | None = None) -> Plan:
        """Return the plan of these stresses; `shifts` adds replicas (or takes them) in single slots."""
        fleets = tuple(self._fleet(slot, stresses, degrees, (shifts or {}).get(slot, 0)) for slot in range(len(self)))
        clocks: list[float | None] = []
        for slot, fleet in enumerate(fleets):
            within = float(stresses.clock[slot])
            first = slot * self._ticks_per_slot
            clocks += [self._clock(tick, fleet, within) for tick in range(first, first + self._ticks_per_slot)]
        return Plan(fleets, tuple(clocks), self.slot_s, self.clock_s)

    def _fleet(self, slot: int, stresses: Stresses, degrees: tuple[int, ...], shift: int) -> Fleet:
        key = (slot, degrees)
        if key not in self._fleets:
            self._fleets[key] = self.model.options(self._slots.workload(slot), degrees)
        chosen = fluid.cheapest(self._fleets[key], float(stresses.fleet[slot])).fleet
        least = max(self.model.bounds.min_replicas, 1 if chosen.replicas else 0)
        return Fleet(chosen.tp, min(max(chosen.replicas + shift, least), self.model.most(chosen.tp)))

    def _clock(self, tick: int, fleet: Fleet, within: float) -> float | None:
        load = self._ticks.workload(tick)
        if load is None or not fleet.replicas:
            return None
        key = (tick, fleet)
        if key not in self._clocks:
            grid = (self.model.option(fleet, load, mhz) for mhz in self.model.clocks_mhz(fleet.tp))
            self._clocks[key] = tuple(sorted(grid, key=lambda o: (o.watts, o.stress_ratio, -o.clock_mhz)))
        mhz = fluid.cheapest(self._clocks[key], within).clock_mhz
        return None if mhz >= self.model.profile(fleet.tp).clocks.max_mhz else mhz


def _smoothed(loads: fluid.Loads) -> fluid.Loads:
    """Return each tick's load as the mean over itself and the ticks before that its clock looks at."""
    return fluid.Loads(loads.period_s, *(_mean_back(c) for c in (loads.arrivals, loads.prompt_tokens)), loads.decode_tokens)


def _mean_back(column: Floats) -> Floats:
    width = CLOCK_VIEW_TICKS + 1
    total = np.concatenate([[0.0], np.cumsum(column)])
    first = np.maximum(np.arange(len(column)) - width + 1, 0)
    return np.asarray((total[1:] - total[first]) / (np.arange(len(column)) - first + 1))
