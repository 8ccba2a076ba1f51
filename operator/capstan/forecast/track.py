"""What is said of the coming slots, and how well earlier words came true; so the band is as wide as it must be.

Who calls it: `decide`, every cycle (most calls find that no slot closed); `forecast.walk`, over a history. All is in
one frozen value that starts empty after a restart and that a walk over the last days brings back. Must not know: where
the rates came from.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from dataclasses import dataclass
from operator import itemgetter

from capstan.forecast import band, views
from capstan.forecast.peak import Rates
from capstan.forecast.template import Template
from capstan.model.outlook import Issued, Peak, Tracker

LEVEL_DAY_RATIO = 1 / 4
"""The level of the day is a running mean over 6 h: a Monday a fifth above the last is known by noon."""

_time_s = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Closed:
    """A slot that is over: its mean rate and the highest of the windows in it, None where nobody looked."""

    slot: int
    mean_rps: float
    highest_rps: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mean_rps <= (self.mean_rps if self.highest_rps is None else self.highest_rps):
            raise ValueError("a slot's highest window is no lower than its mean, which is not negative")


def after(tracker: Tracker, template: Template, rates: Rates, *, now_s: float) -> Tracker:
    """Return the tracker once every slot that has closed by `now_s` is accounted for.

    It may be called late: a slot is judged and the next ones told when it is, from the same samples. So whoever has
    thousands of streams need not close the slots of all of them in one cycle.

    Args:
        tracker: As of the last cycle.
        template: The typical week; an empty one where there is no history.
        rates: `((t_s, arrival_rps), ...)`, oldest first. A slot's samples must still be there when it closes, so the
            look-back is longer than a slot. A slot without a sample is unknown.
        now_s: The cycle's time; nothing after it is looked at.
    """
    calendar = template.calendar
    current = calendar.slot(now_s)
    first = current - tracker.horizon_slots
    if tracker.last_slot is not None:
        first = max(first, tracker.last_slot + 1)
    for slot in range(first, current):
        inside = _inside(rates, calendar.start_s(slot), min(calendar.start_s(slot + 1), now_s))
        if inside:
            mean_rps = math.fsum(inside) / len(inside)
            tracker = closed(tracker, template, Closed(slot, mean_rps, max(*inside, mean_rps)))
    return tracker


def _inside(rates: Rates, begin_s: float, end_s: float) -> list[float]:
    """Return the rates whose windows ended within a span, at its end, too."""
    begin = bisect.bisect_right(rates, begin_s, key=_time_s)
    return [rate for _, rate in rates[begin : bisect.bisect_right(rates, end_s, key=_time_s)]]


def closed(tracker: Tracker, template: Template, now: Closed, *, last_week_rps: float | None = None) -> Tracker:
    """Return the tracker with one more closed slot: forecasts of it judged, forecasts after it made.

    Args:
        tracker: As of an earlier slot.
        template: The typical week.
        now: The slot; one that is not later than the last changes nothing.
        last_week_rps: The same slot of the week before, where somebody holds the history: only to compare with.
    """
    if tracker.last_slot is not None and now.slot <= tracker.last_slot:
        return tracker
    calendar, slot, actual_rps = template.calendar, now.slot, now.mean_rps
    moved = dataclasses.replace(
        tracker,
        last_slot=slot,
        recent_rps=_recent(tracker, now),
        day_level_ratio=_day_level(tracker, template, now),
        near=band.judged(tracker.near, slot, actual_rps, calendar, last_week_rps=last_week_rps),
        far=band.judged(tracker.far, slot, actual_rps, calendar, last_week_rps=last_week_rps),
        peak=_peak(tracker.peak, now, tracker.horizon_slots),
        drift=band.drifting(tracker.drift, tracker.far, slot, actual_rps, calendar),
    )
    return _told(moved, template, now)


def _recent(tracker: Tracker, now: Closed) -> tuple[float | None, ...]:
    """Return the last rates with the newest; slots that were skipped are unknown."""
    keep = len(views.RECENT_WEIGHTS)
    skipped = 0 if tracker.last_slot is None else min(now.slot - tracker.last_slot - 1, keep)
    return (*tracker.recent_rps, *(None,) * skipped, now.mean_rps)[-keep:]


def _day_level(tracker: Tracker, template: Template, now: Closed) -> float:
    """Return the level of the day with the newest slot's: a geometric mean, since levels are ratios."""
    level = views.level(template, (now.mean_rps,), now.slot)
    if level is None:
        return tracker.day_level_ratio
    weight = 1 / max(LEVEL_DAY_RATIO * template.calendar.slots_per_day, 1.0)
    return float(tracker.day_level_ratio ** (1 - weight) * level**weight)


def _peak(peak: Peak, now: Closed, horizon_slots: int) -> Peak:
    """Return the peak's reach after a slot closed, learnt from the epoch that it ended if every slot of it was seen."""
    seen = tuple(pair for pair in peak.seen if pair[0] > now.slot - horizon_slots)
    if now.highest_rps is not None:
        seen = (*seen, (now.slot, now.highest_rps))
    ended = next((told for told in peak.waiting if told[0] == now.slot), None)
    reach, judged = peak.reach_ratio, peak.judged_epochs
    if ended is not None and len(seen) == horizon_slots:
        beyond = max(highest for _, highest in seen) > ended[1]
        reach = band.moved(reach, reach, beyond=beyond, judged_slots=judged)
        judged += 1
    return Peak(reach, tuple(told for told in peak.waiting if told[0] > now.slot), seen, judged)


def _told(tracker: Tracker, template: Template, now: Closed) -> Tracker:
    """Return the tracker with what it now says of the coming slots."""
    issued = _issued(tracker, template, now)
    near, far = issued[0], issued[tracker.horizon_slots - 1]
    planned_rps = max(tracker.peak_rps(told.ahead) for told in issued[: tracker.horizon_slots])
    epoch = (now.slot + tracker.horizon_slots, planned_rps)
    return dataclasses.replace(
        tracker,
        near=dataclasses.replace(tracker.near, waiting=(near,)),
        far=dataclasses.replace(tracker.far, waiting=(*tracker.far.waiting, far)),
        peak=dataclasses.replace(tracker.peak, waiting=(*tracker.peak.waiting, epoch)),
        ahead=tuple([told.ahead for told in issued]),
    )


def _issued(tracker: Tracker, template: Template, now: Closed) -> list[Issued]:
    """Return what is said of each slot up to one past the horizon, as the one that has just closed leaves it."""
    near, far = (band.belief(lead, widening_ratio=tracker.widening_ratio) for lead in (tracker.near, tracker.far))
    seen = views.seen(template, tracker.recent_rps, now.slot, day_level_ratio=tracker.day_level_ratio)
    between = max(tracker.horizon_slots - 1, 1)
    issued = []
    for lead_slots in range(1, tracker.horizon_slots + 2):
        told = near.towards(far, min(math.sqrt((lead_slots - 1) / between), 1.0))  # errors of a wander grow so
        all_views = views.of(template, seen, lead_slots)
        ahead = band.said(template, all_views, now.slot + lead_slots, told)
        issued.append(Issued(ahead, all_views, now.mean_rps))
    return issued
