"""A walk over a history as if it were the present: what would have been said, and how it came true.

Who calls it: `capstan forecast`, to judge; whoever starts the operator, so that it knows after a restart what it knew
before. Every slot is forecast from what lies before it, and the template is made anew at every midnight of it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

from capstan.forecast import ahead, history, score, template, track
from capstan.forecast.history import History
from capstan.forecast.peak import Rates
from capstan.forecast.template import Template
from capstan.forecast.track import Closed
from capstan.model.outlook import Score, Tracker

WARM_DAYS = 3
"""The longest memory of a tracker is that of its reach, some 330 slots (1 / (0.06 x 0.05)), a day and a bit of 5-minute
slots; a walk over three finds it nearly as it was."""

_time_s = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Step:
    """One slot that has closed, with what was said then: tracker and forecast of the epoch after it."""

    slot: int
    tracker: Tracker
    told: ahead.Forecast


@dataclass(frozen=True, slots=True)
class Found:
    """How the slots at one distance came true, in sums, and the epochs of that length.

    `epochs` counts one per slot, so that they overlap; `exceeded` those with a window above the planned peak, and
    `outlasted` those with a slot above the sustained rate.
    """

    lead_slots: int
    score: Score
    epochs: int
    exceeded: int
    outlasted: int


@dataclass(frozen=True, slots=True)
class Course:
    """How a walk goes: `horizon_slots` to an epoch, samples over `window_s`, kept for `lookback_s`."""

    horizon_slots: int = 6
    window_s: float = 60.0
    lookback_s: float = 1800.0


def warmed(known: History, *, horizon_slots: int) -> tuple[Template, Tracker]:
    """Return the template of a history, and the tracker of one who watched its last days.

    The walked days are forecast by templates of what came before them, so that the band is not flattered by days that
    the template has already seen.
    """
    calendar = known.calendar
    begin = max(known.next_slot - WARM_DAYS * calendar.slots_per_day, known.first_slot)
    tracker, typical = Tracker(horizon_slots), template.of(known.until(begin))
    for slot in range(begin, known.next_slot):
        if slot % calendar.slots_per_day == 0:
            typical = template.of(known.until(slot))
        rate_rps = known.at(slot)
        if rate_rps is not None:
            tracker = track.closed(tracker, typical, Closed(slot, rate_rps, known.highest(slot)))
    return template.of(known), tracker


def over(samples: Rates, before: History, course: Course) -> Iterator[Step]:
    """Yield what is said at the end of each slot of a history, told from what lies before it.

    Args:
        samples: `((t_s, arrival_rps), ...)`, oldest first, each over `course.window_s`.
        before: The history that came before the first sample; its calendar is used.
        course: How the walk goes.
    """
    calendar = before.calendar
    whole = before.then(history.of_rates(calendar, samples))
    first = calendar.slot_before(samples[0][0])
    typical, tracker = warmed(before, horizon_slots=course.horizon_slots)
    for slot in range(first, whole.next_slot):
        now_s = calendar.start_s(slot + 1)
        begin = bisect.bisect_left(samples, now_s - course.lookback_s, key=_time_s)
        recent = samples[begin : bisect.bisect_right(samples, now_s, key=_time_s)]
        if slot % calendar.slots_per_day == 0:
            typical = template.of(whole.until(slot))
        tracker = track.after(tracker, typical, recent, now_s=now_s)
        if recent:
            horizon_s = course.horizon_slots * calendar.slot_s
            told = ahead.forecast(typical, tracker, recent, now_s=now_s, horizon_s=horizon_s, window_s=course.window_s)
            yield Step(slot, tracker, told)


def judged(steps: Iterable[Step], whole: History, *, lead_slots: int) -> Found:
    """Return how what was said `lead_slots` ahead came true; a slot that is not known is not judged.

    Args:
        steps: Of `over`.
        whole: The history that holds what then happened, and the weeks before.
        lead_slots: Up to the horizon of the walk, which is the length of the epochs whose peaks are judged.
    """
    week = whole.calendar.slots_per_week
    total, epochs, exceeded, outlasted = Score(), 0, 0, 0
    for step in steps:
        slot = step.slot + lead_slots
        actual_rps, last_rps = whole.at(slot), whole.at(step.slot)
        coming = next((said for said in step.tracker.ahead if said.slot == slot), None)
        if actual_rps is not None and last_rps is not None and coming is not None:
            words = score.Told(coming.median_rps, coming.low_rps, coming.high_rps, last_rps)
            total = score.noted(total, actual_rps, words, whole.at(slot - week))
        epoch = range(step.slot + 1, step.slot + step.tracker.horizon_slots + 1)
        peak_rps, slot_rps = _most(whole.highest(slot) for slot in epoch), _most(whole.at(slot) for slot in epoch)
        if peak_rps is not None and slot_rps is not None:
            epochs += 1
            exceeded += peak_rps > step.told.peak_rps
            outlasted += slot_rps > step.told.sustained_rps
    return Found(lead_slots, total, epochs, exceeded, outlasted)


def _most(rates: Iterable[float | None]) -> float | None:
    """Return the highest of an epoch's rates, None where one of them is not known."""
    seen = list(rates)
    known = [rate for rate in seen if rate is not None]
    return max(known) if known and len(known) == len(seen) else None
