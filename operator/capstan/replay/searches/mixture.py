"""The best of many runs, stretch by stretch: what each plan cost and delayed where, and a plan joined from that.

Who calls it: `searches.oracle`. Must not know: the world, physics.

Requests stay seconds, windows last minutes: a window of one plan costs and delays nearly the same after another
plan's window. Nearly, and picking what looked best also picks what was lucky: the mixture is run in the world like any
plan, and windows that then have too many late requests are mixed again with less allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capstan.replay.runs import Floats, Ints
from capstan.replay.scores.measure import WINDOW_S
from capstan.replay.searches.lateness import Allowance
from capstan.replay.searches.plans import CLOCK_S, SLOT_S, Plan
from capstan.replay.searches.trial import Tried

TICKS = round(SLOT_S / CLOCK_S)
SLOTS = round(WINDOW_S / SLOT_S)

CHEAPEST_J, DEAREST_J = 1e-3, 1e9
HALVINGS = 24
"""The price of a late request is bisected between a millijoule and a gigajoule: 12 decades to 1 part in 10^6."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What several plans did in each slot, shapes `[plan, slot]`."""

    plans: tuple[Plan, ...]
    slot_j: Floats
    late: Floats


def rows(tried: Sequence[Tried], allowance: Allowance, slots: int) -> Rows:
    """Return the table of plans that were run; joules after the last slot count in the last one."""
    joules, late = np.zeros((len(tried), slots)), np.zeros((len(tried), slots))
    for i, one in enumerate(tried):
        joules[i] = slot_j(one, slots)
        late[i] = allowance.late(one.trial.good, SLOT_S, slots)
    return Rows(tuple(one.plan for one in tried), joules, late)


def slot_j(tried: Tried, slots: int) -> Floats:
    """Return a run's joules per slot, shape `[slot]`."""
    slot = np.minimum(np.arange(len(tried.trial.tick_j)) // TICKS, slots - 1)
    return np.bincount(slot, weights=tried.trial.tick_j, minlength=slots).astype(np.float64)


def mix(table: Rows, allowed: Floats, *, by_window: bool) -> Plan:
    """Return the plan of least joules whose late requests, as the table has them, are within each window's allowance.

    Args:
        table: Plans that were run.
        allowed: Late requests per window, shape `[window]`.
        by_window: One plan per window; else one per slot.
    """
    slots = table.slot_j.shape[1]
    choice = np.zeros(slots, dtype=np.int64)
    for first in range(0, slots, SLOTS):
        inside = slice(first, first + SLOTS)
        joules, late = table.slot_j[:, inside], table.late[:, inside]
        if by_window:
            joules, late = joules.sum(axis=1, keepdims=True), late.sum(axis=1, keepdims=True)
        window = first // SLOTS
        choice[inside] = _chosen(joules, late, float(allowed[window]) if window < len(allowed) else 0.0)
    return joined([table.plans[row] for row in choice.tolist()])


def _chosen(joules: Floats, late: Floats, most: float) -> Ints:
    """Return the row of each stretch at the lowest price of a late request that keeps to `most` in all of them."""
    low, high = np.log(CHEAPEST_J), np.log(DEAREST_J)
    stretches = np.arange(joules.shape[1])
    best: Ints = (joules + DEAREST_J * late).argmin(axis=0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        choice = (joules + np.exp(middle) * late).argmin(axis=0)
        if late[choice, stretches].sum() <= most + 1e-9:
            high, best = middle, choice
        else:
            low = middle
    return best


def joined(by_slot: Sequence[Plan]) -> Plan:
    """Return the plan that is another one in each slot."""
    fleets = tuple(plan.fleet(slot * SLOT_S) for slot, plan in enumerate(by_slot))
    clocks = tuple(
        plan.clock_cap_mhz(slot * SLOT_S + tick * CLOCK_S) for slot, plan in enumerate(by_slot) for tick in range(TICKS)
    )
    return Plan(fleets, clocks)
