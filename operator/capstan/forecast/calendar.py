"""Slots of the day, days of the week: where a moment stands in the pattern of a week.

Who calls it: the rest of this room. Must not know: rates. Lengths are parameters, since a replay may run a week in an
hour; the pattern is then the same with shorter slots.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
UNIX_MONDAY_S = 4 * DAY_S
"""Unix time of a Monday 00:00 UTC: 1970-01-01 was a Thursday."""

KINDS = 2
"""Kinds of days: 0 a workday, 1 a day of the weekend."""

_ROUNDING_SLOTS = 1e-6  # a moment that is a slot's start but for a rounding belongs to that slot


@dataclass(frozen=True, slots=True)
class Calendar:
    """Slots are numbered from `origin_s`, a Monday 00:00 of the service's time zone (so the zone is in it).

    Attributes:
        slot_s: Seconds of a slot; DynamoLLM's is 5 min.
        slots_per_day: Slots of a day.
        days_per_week: Days of a week.
        workdays: The first so many days of a week; the rest is the weekend.
        origin_s: Start of slot 0.
    """

    slot_s: float = 300.0
    slots_per_day: int = 288
    days_per_week: int = 7
    workdays: int = 5
    origin_s: float = UNIX_MONDAY_S

    def __post_init__(self) -> None:
        if not (self.slot_s > 0 and math.isfinite(self.slot_s) and math.isfinite(self.origin_s)):
            raise ValueError("slot_s is a length above 0, and origin_s a moment")
        if self.slots_per_day < 1 or not 0 <= self.workdays <= self.days_per_week or self.days_per_week < 1:
            raise ValueError("a day has slots, a week has days, and workdays are among them")

    @property
    def slots_per_week(self) -> int:
        """Slots of a week."""
        return self.slots_per_day * self.days_per_week

    def slot(self, t_s: float) -> int:
        """Return the slot that a moment lies in; a slot's start belongs to it."""
        return math.floor((t_s - self.origin_s) / self.slot_s + _ROUNDING_SLOTS)

    def slot_before(self, t_s: float) -> int:
        """Return the slot that ends at a moment, or that it lies inside."""
        return math.ceil((t_s - self.origin_s) / self.slot_s - _ROUNDING_SLOTS) - 1

    def start_s(self, slot: int) -> float:
        """Return when a slot begins."""
        return self.origin_s + slot * self.slot_s

    def kind(self, slot: int) -> int:
        """Return the kind of a slot's day."""
        return int(slot // self.slots_per_day % self.days_per_week >= self.workdays)

    def place(self, slot: int) -> int:
        """Return a slot's place in a template: the workday's slots first, then the weekend's."""
        return self.kind(slot) * self.slots_per_day + slot % self.slots_per_day

    def faster(self, ratio: float) -> Calendar:
        """Return the calendar of weeks that pass `ratio` times as fast; moment 0 stays where it is in the week."""
        return dataclasses.replace(self, slot_s=self.slot_s / ratio, origin_s=self.origin_s / ratio)


def near(slot_s: float, *, day_s: float = DAY_S, begins_s: float | None = None) -> Calendar:
    """Return the calendar whose slots are as near to `slot_s` as a whole number of them in a day can be.

    Args:
        slot_s: Seconds of a slot, above 0.
        day_s: Length of a day's pattern; a replay or a demo may pass a day in minutes.
        begins_s: How long after a Monday 00:00, in days of that length, moment 0 lies; None: moments are Unix time.
    """
    slots = max(round(day_s / slot_s), 1)
    origin_s = UNIX_MONDAY_S * day_s / DAY_S if begins_s is None else -begins_s
    return Calendar(day_s / slots, slots, origin_s=origin_s)


def of(slot_s: float, *, day_s: float = DAY_S, week_s: float = WEEK_S, origin_s: float = UNIX_MONDAY_S) -> Calendar:
    """Return the calendar whose periods have these lengths.

    Raises:
        ValueError: A day is not whole slots, or a week not whole days.
    """
    slots, days = day_s / slot_s, week_s / day_s
    if not all(count > 0.5 and math.isclose(count, round(count), rel_tol=1e-9) for count in (slots, days)):
        raise ValueError("slot_s must go into day_s, and day_s into week_s, a whole number of times")
    return Calendar(slot_s, round(slots), round(days), origin_s=origin_s)
