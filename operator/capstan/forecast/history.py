"""What is known of a load's past: its mean rate slot by slot, with the slots of which nothing is known left open.

Who calls it: whoever reads Prometheus or a trace; `forecast.template` makes a template of it. Must not know: where the
numbers came from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from capstan.forecast.calendar import Calendar

MIN_COVERED_RATIO = 0.5
"""A slot is known when it was watched for at least half of its time: less says more of the gap than of the load."""


@dataclass(frozen=True, slots=True)
class History:
    """Mean arrivals per slot from `first_slot` on, and the highest window of each; None: not known, which is not 0.

    `highest_rps` is empty where nobody looked at windows within a slot.
    """

    calendar: Calendar
    first_slot: int = 0
    rates_rps: tuple[float | None, ...] = ()
    highest_rps: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        for rate in (*self.rates_rps, *self.highest_rps):
            if rate is not None and not (math.isfinite(rate) and rate >= 0):
                raise ValueError("rates of a history are finite and not negative; leave an unknown one None")
        if self.highest_rps and len(self.highest_rps) != len(self.rates_rps):
            raise ValueError("highest_rps is empty or has one entry per slot")

    @property
    def next_slot(self) -> int:
        """The slot after the last."""
        return self.first_slot + len(self.rates_rps)

    def at(self, slot: int) -> float | None:
        """Return the rate of a slot, None where it is not known."""
        return self.rates_rps[slot - self.first_slot] if self.first_slot <= slot < self.next_slot else None

    def highest(self, slot: int) -> float | None:
        """Return the highest window of a slot, None where it is not known."""
        inside = self.first_slot <= slot < self.first_slot + len(self.highest_rps)
        return self.highest_rps[slot - self.first_slot] if inside else None

    def until(self, slot: int) -> History:
        """Return what was known when `slot` began."""
        count = max(slot - self.first_slot, 0)
        return History(self.calendar, self.first_slot, self.rates_rps[:count], self.highest_rps[:count])

    def since(self, slot: int) -> History:
        """Return the history without what lies before `slot`."""
        skip = min(max(slot - self.first_slot, 0), len(self.rates_rps))
        return History(self.calendar, self.first_slot + skip, self.rates_rps[skip:], self.highest_rps[skip:])

    def then(self, later: History) -> History:
        """Return this history with another that begins after it, open in between.

        Raises:
            ValueError: The other has another calendar, or begins before this one ends.
        """
        if not (self.rates_rps and later.rates_rps):
            return later if later.rates_rps else self
        gap = later.first_slot - self.next_slot
        if later.calendar != self.calendar or gap < 0:
            raise ValueError("a later history has the same calendar and begins when this one ends, or after")
        highest = (*self._highest(), *(None,) * gap, *later._highest())
        return History(self.calendar, self.first_slot, (*self.rates_rps, *(None,) * gap, *later.rates_rps), highest)

    def _highest(self) -> tuple[float | None, ...]:
        return self.highest_rps or (None,) * len(self.rates_rps)


def of_rates(calendar: Calendar, samples: Iterable[tuple[float, float]]) -> History:
    """Return the history that samples `(t_s, rate_rps)` tell: per slot their mean and the highest.

    A sample tells of the window that ends at `t_s`, so that one at a slot's very end belongs to it.
    """
    found: dict[int, list[float]] = {}
    for t_s, rate_rps in samples:
        found.setdefault(calendar.slot_before(t_s), []).append(rate_rps)
    means = {slot: math.fsum(rates) / len(rates) for slot, rates in found.items()}
    return _filled(calendar, means, {slot: max(*rates, means[slot]) for slot, rates in found.items()})


def of_counter(calendar: Calendar, samples: Sequence[tuple[float, float]], *, gap_s: float) -> History:
    """Return the history that a counter tells.

    Args:
        calendar: Its slots.
        samples: `(t_s, requests so far)`, ascending in time. A counter that falls was restarted: what it shows has
            arrived since, and what was lost with the process stays lost, as in PromQL's `increase`.
        gap_s: Two samples further apart leave what lies between them unknown.

    Returns:
        Requests are spread evenly between their samples.

    Raises:
        ValueError: Times do not ascend, or a count is negative or not finite.
    """
    counted: dict[int, float] = {}
    watched_s: dict[int, float] = {}
    for (since_s, before), (until_s, after) in itertools.pairwise(samples):
        if until_s <= since_s or not (math.isfinite(after) and min(before, after) >= 0):
            raise ValueError(f"counter at {until_s:g} s: times must ascend, and counts be finite and not negative")
        if until_s - since_s > gap_s:
            continue
        arrived = after - before if after >= before else after
        for slot, part_s in _parts(calendar, since_s, until_s):
            counted[slot] = counted.get(slot, 0.0) + arrived * part_s / (until_s - since_s)
            watched_s[slot] = watched_s.get(slot, 0.0) + part_s
    enough_s = MIN_COVERED_RATIO * calendar.slot_s
    return _filled(calendar, {slot: counted[slot] / s for slot, s in watched_s.items() if s >= enough_s})


def _parts(calendar: Calendar, since_s: float, until_s: float) -> Iterable[tuple[int, float]]:
    """Yield the slots that a span touches, with the seconds inside each."""
    first, last = calendar.slot(since_s), calendar.slot(until_s)
    for slot in range(first, last + 1):
        part_s = min(until_s, calendar.start_s(slot + 1)) - max(since_s, calendar.start_s(slot))
        if part_s > 0:
            yield slot, part_s


def _filled(calendar: Calendar, known: dict[int, float], highest: dict[int, float] | None = None) -> History:
    """Return a history of the slots that are known, open in between."""
    if not known:
        return History(calendar)
    slots = range(min(known), max(known) + 1)
    highest_rps = () if highest is None else tuple(highest.get(slot) for slot in slots)
    return History(calendar, slots[0], tuple(known.get(slot) for slot in slots), highest_rps)
