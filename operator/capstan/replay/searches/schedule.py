"""From a stress to a plan: for each slot the smallest fleet that the fluid model keeps within it, at a given clock.

Who calls it: `searches.oracle`. Must not know: the world.
"""

from __future__ import annotations

from collections.abc import Iterator

from capstan.model.workload import Workload
from capstan.replay.runs import Requests
from capstan.replay.searches import fluid
from capstan.replay.searches.plans import SLOT_S, Fleet, Plan

SPARES = 4  # sizes above the smallest that are looked at: more replicas at lower clocks can draw less


class Planner:
    """Draws plans for one service's trace. Slots go on until the last token at the fluid model's pace."""

    def __init__(self, model: fluid.Model, requests: Requests) -> None:
        self.model = model
        self._slots = fluid.loads(requests, SLOT_S)

    def __len__(self) -> int:
        return len(self._slots)

    def arrivals(self, slot: int) -> float:
        """Return the requests that arrive in a slot."""
        return float(self._slots.arrivals[slot])

    def at(self, stress_ratio: float, degrees: tuple[int, ...], clock_ratio: float) -> Plan:
        """Return the plan of the smallest fleets within a stress at full clock, run at a share of that clock.

        The stress sets the size and not the clock, so that clocks can be compared at equal sizes.
        """
        fleets = tuple(self._fleet(slot, stress_ratio, degrees) for slot in range(len(self)))
        clocks = {tp: self.clock_mhz(tp, clock_ratio) for tp in degrees}
        return Plan(fleets, tuple(clocks[fleet.tp] for fleet in fleets), SLOT_S, SLOT_S)

    def least(self, stress_ratio: float) -> Plan:
        """Return the plan of the fleets and clocks that draw least within a stress, slot by slot."""
        options = [self._least(self._slots.workload(slot), stress_ratio) for slot in range(len(self))]
        clocks = tuple(self.clock_mhz(o.fleet.tp, o.clock_mhz / self._most_mhz(o.fleet.tp)) for o in options)
        return Plan(tuple(option.fleet for option in options), clocks, SLOT_S, SLOT_S)

    def _least(self, load: Workload | None, stress_ratio: float) -> fluid.Option:
        """Return the option of least watts for one load; where none is within the stress, the largest fleet."""
        degrees = self.model.degrees()
        sized = [self.model.smallest(tp, load, stress_ratio) for tp in degrees]
        within = [
            option for fleet in sized for option in self._options(fleet, load) if option.stress_ratio <= stress_ratio
        ]
        largest = self.model.option(sized[-1], load, self._most_mhz(degrees[-1]))
        return min(within, key=lambda option: option.watts, default=largest)

    def _options(self, fleet: Fleet, load: Workload | None) -> Iterator[fluid.Option]:
        """Yield a fleet and some larger ones at every clock."""
        for more in range(SPARES):
            larger = self.model.resized(fleet, more)
            for clock_mhz in self.model.clocks_mhz(fleet.tp):
                yield self.model.option(larger, load, clock_mhz)

    def _most_mhz(self, tp: int) -> float:
        return self.model.profile(tp).clocks.max_mhz

    def _fleet(self, slot: int, stress_ratio: float, degrees: tuple[int, ...]) -> Fleet:
        load = self._slots.workload(slot)
        sized = (self.model.smallest(tp, load, stress_ratio) for tp in degrees)
        return min(sized, key=lambda fleet: (fleet.gpus, fleet.tp))

    def clock_mhz(self, tp: int, ratio: float) -> float | None:
        """Return a share of the maximum clock as a cap on the grid; None for all of it."""
        clocks = self.model.profile(tp).clocks
        floor_mhz = self.model.bounds.min_clock_mhz or clocks.min_mhz
        return None if ratio >= 1 else clocks.snapped_mhz(max(ratio * clocks.max_mhz, floor_mhz))
