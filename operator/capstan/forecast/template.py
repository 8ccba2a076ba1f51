"""The shape of a week that a history tells: a typical rate for each slot of a workday and of a weekend day.

Who calls it: whoever holds the history, once a day; `forecast.track` reads it at every slot. Must not know: the
present. After DynamoLLM (facts: SmartOClock-style template, 5-minute slots, median across days, weekday and weekend
apart).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from capstan.forecast.calendar import KINDS, Calendar
from capstan.forecast.history import History
from capstan.model.outlook import Source

KEEP_WEEKS = 4
"""Older weeks say less of the next one than they smooth it: a service's load changes over months."""

SMOOTH_SLOTS = 2
"""Slots on either side that a day's value is averaged with: a median of a few days keeps a single minute's noise."""

BLOCKS = 24
"""Parts of a day whose spread is told apart; with a handful of days a finer one is noise."""

SPREAD_RATIO = 0.1
"""How far a slot lies from its forecast where nothing is known of it, as a share of the rate. It only says how the band
widens with the rate; how wide it is, is learnt (`forecast.track`)."""

SPREAD_WEIGHT = 12
"""Observed slots that `SPREAD_RATIO` counts for: an hour of 5-minute slots."""

MOST_LOG_RATIO = math.log(4.0)
"""A slot further than four times from its typical rate counts as four times: one empty night is not a spread."""

KNOWN_RATIO = 0.5
"""A day of which less is known is not counted among the days that a template rests on."""


@dataclass(frozen=True, slots=True)
class Template:
    """A typical week, shapes `[kind of day x slot of the day]` and `[kind of day x block of the day]`.

    Attributes:
        calendar: Its slots.
        typical_rps: Median across days; None where no day is known. A kind of day that was never seen has the other's.
        spread_ratio: Root mean square distance of a slot from `typical_rps`, once its day's level is taken out.
        days: Days behind it, of either kind.
        whole: Whether a week is known, so that both kinds of days are their own.
    """

    calendar: Calendar
    typical_rps: tuple[float | None, ...] = ()
    spread_ratio: tuple[float, ...] = ()
    days: tuple[int, int] = (0, 0)
    whole: bool = False

    def at(self, slot: int) -> float | None:
        """Return the typical rate of a slot, None where nothing is known."""
        return self.typical_rps[self.calendar.place(slot)] if self.typical_rps else None

    def spread(self, slot: int) -> float:
        """Return how far such a slot lies from its typical rate, as a share of it."""
        if not self.spread_ratio:
            return SPREAD_RATIO
        return self.spread_ratio[self.calendar.place(slot) * BLOCKS // self.calendar.slots_per_day]

    def source(self, slot: int) -> Source:
        """Return what a forecast of a slot rests on."""
        if self.at(slot) is None:
            return Source.REACTIVE
        return Source.TEMPLATE if self.whole else Source.DAY


def of(history: History) -> Template:
    """Return the template of the last weeks of a history; an empty one where less than a day is known."""
    calendar = history.calendar
    recent = history.since(history.next_slot - KEEP_WEEKS * calendar.slots_per_week)
    days = _days(recent)
    if not any(days):
        return Template(calendar)
    values = _by_place(calendar, recent.first_slot, _smoothed(recent.rates_rps))
    own = tuple(statistics.median(found) if found else None for found in values)
    typical = _lent(calendar, own)
    spread = _spread(recent, typical)
    whole = all(days) and sum(days) >= calendar.days_per_week
    return Template(calendar, typical, spread, days, whole)


def _days(history: History) -> tuple[int, int]:
    """Return how many days of either kind are known, for the most part."""
    calendar = history.calendar
    known: dict[int, int] = {}
    for slot, rate in enumerate(history.rates_rps, start=history.first_slot):
        known[slot // calendar.slots_per_day] = known.get(slot // calendar.slots_per_day, 0) + (rate is not None)
    kinds = [
        calendar.kind(day * calendar.slots_per_day)
        for day, count in known.items()
        if count >= KNOWN_RATIO * calendar.slots_per_day
    ]
    return kinds.count(0), kinds.count(1)


def _smoothed(rates: tuple[float | None, ...]) -> list[float | None]:
    """Return every known rate averaged with its known neighbours."""
    smooth: list[float | None] = []
    for i, rate in enumerate(rates):
        near = [r for r in rates[max(i - SMOOTH_SLOTS, 0) : i + SMOOTH_SLOTS + 1] if r is not None]
        smooth.append(None if rate is None else sum(near) / len(near))
    return smooth


def _by_place(calendar: Calendar, first_slot: int, rates: list[float | None]) -> list[list[float]]:
    """Return the known rates by their place in a template."""
    values: list[list[float]] = [[] for _ in range(KINDS * calendar.slots_per_day)]
    for slot, rate in enumerate(rates, start=first_slot):
        if rate is not None:
            values[calendar.place(slot)].append(rate)
    return values


def _lent(calendar: Calendar, own: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """Return typical rates in which a slot that is not known of its kind of day has the other kind's."""
    half = calendar.slots_per_day
    other = own[half:] + own[:half]
    return tuple(theirs if mine is None else mine for mine, theirs in zip(own, other, strict=True))


def _spread(history: History, typical: tuple[float | None, ...]) -> tuple[float, ...]:
    """Return the root mean square of log rate over typical rate by kind and block, after each day's own level.

    A median over n days moves with each of them, which hides 1/n of the variance; it is given back. One day says
    nothing of its spread.
    """
    calendar = history.calendar
    squares = [[SPREAD_WEIGHT * SPREAD_RATIO**2, float(SPREAD_WEIGHT)] for _ in range(KINDS * BLOCKS)]
    days = _logs_by_day(history, typical)
    seen = [sum(calendar.kind(day * calendar.slots_per_day) == kind for day in days) for kind in range(KINDS)]
    for logs in days.values():
        level = statistics.fmean(log for _, log in logs)
        for place, log in logs:
            kind, block = place // calendar.slots_per_day, place * BLOCKS // calendar.slots_per_day
            if seen[kind] > 1:
                squares[block][0] += (log - level) ** 2 * seen[kind] / (seen[kind] - 1)
                squares[block][1] += 1
    return tuple(math.sqrt(total / weight) for total, weight in squares)


def _logs_by_day(history: History, typical: tuple[float | None, ...]) -> dict[int, list[tuple[int, float]]]:
    """Return by day the place and log ratio of each slot with a rate and a typical rate above zero."""
    days: dict[int, list[tuple[int, float]]] = {}
    for slot, rate in enumerate(history.rates_rps, start=history.first_slot):
        place = history.calendar.place(slot)
        usual = typical[place]
        if rate and usual:
            days.setdefault(slot // history.calendar.slots_per_day, []).append(
                (place, _held(math.log(rate) - math.log(usual)))
            )
    return days


def _held(log: float) -> float:
    """Return a log ratio held to what counts."""
    return min(max(log, -MOST_LOG_RATIO), MOST_LOG_RATIO)
