"""Small changes of a plan, in every window at once: what a local search tries next.

Who calls it: `searches.oracle`. Must not know: the world, what a change is worth.
"""

from __future__ import annotations

import random

from capstan.replay.searches.mixture import SLOTS, TICKS
from capstan.replay.searches.plans import CLOCK_S, SLOT_S, Fleet, Plan
from capstan.replay.searches.schedule import Planner

SEED = 20_261_121  # any would do; the same search twice must find the same plan

CLOCK_FACTORS = (0.93, 0.97, 1.04, 0.87, 1.08)
"""Clocks times this. Down saves; up, in single ticks, buys late requests back that downs elsewhere then spend. Steps
of 3 to 13 % are 2 to 13 steps of the 15 MHz grid: below that a window's lateness is noise."""

TICK_SHARE = 0.4  # of a window's ticks that a clock change touches: enough to see it in joules, few enough to hold


class Mutant:
    """Changes plans; its own random numbers, so that a search is repeatable."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._chance = random.Random(SEED)  # noqa: S311 - a search, not a secret

    def changed(self, plan: Plan, turn: int) -> Plan:
        """Return the plan with one change per window: every third turn a replica less in a slot, else clocks."""
        fleets = [plan.fleet(slot * SLOT_S) for slot in range(len(self._planner))]
        clocks = [plan.clock_cap_mhz(tick * CLOCK_S) for tick in range(len(fleets) * TICKS)]
        for first in range(0, len(fleets), SLOTS):
            inside = range(first, min(first + SLOTS, len(fleets)))
            if turn % 3 == 2 and self._smaller(fleets, inside):
                continue
            self._reclocked(fleets, clocks, inside)
        return Plan(tuple(fleets), tuple(clocks))

    def _smaller(self, fleets: list[Fleet], inside: range) -> bool:
        """Take a replica out of one slot of a window, likeliest where replicas have the least to do."""
        model = self._planner.model
        able = [slot for slot in inside if model.resized(fleets[slot], -1) != fleets[slot]]
        if not able:
            return False
        idleness = [fleets[slot].gpus / (1 + self._planner.arrivals(slot)) for slot in able]
        slot = self._chance.choices(able, weights=idleness)[0]
        fleets[slot] = model.resized(fleets[slot], -1)
        return True

    def _reclocked(self, fleets: list[Fleet], clocks: list[float | None], inside: range) -> None:
        factor = self._chance.choice(CLOCK_FACTORS)
        bounds = self._planner.model.bounds
        for tick in range(inside.start * TICKS, inside.stop * TICKS):
            if self._chance.random() < TICK_SHARE:
                grid = self._planner.model.profile(fleets[tick // TICKS].tp).clocks
                wanted_mhz = factor * (clocks[tick] or grid.max_mhz)
                lowest_mhz = bounds.min_clock_mhz or grid.min_mhz
                capped_mhz = grid.snapped_mhz(max(wanted_mhz, lowest_mhz))
                clocks[tick] = None if capped_mhz >= grid.max_mhz else capped_mhz
