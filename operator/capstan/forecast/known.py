"""What a policy's past says of its load: the template, and the tracker of one who watched its last days.

Who calls it: whoever holds a past (live that of Prometheus, in replay the trace's history) makes one, at most once a
day; `decide` reads it every cycle. Must not know: where the past came from. It is a pure function of the past, the
calendar and the horizon, so that a recorded decision can be decided again from the past that it rested on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from capstan.forecast import history, walk
from capstan.forecast.calendar import Calendar
from capstan.forecast.history import History
from capstan.forecast.template import Template
from capstan.model.outlook import Tracker
from capstan.model.past import Past


@dataclass(frozen=True, slots=True)
class Known:
    """One policy's typical week, and the tracker to begin with where memory holds none.

    A template of less than a day is no template: such a past is known of, and nothing is forecast from it.
    """

    policy: str
    template: Template
    tracker: Tracker

    @property
    def tells(self) -> bool:
        """Whether there is a template to forecast from."""
        return bool(self.template.typical_rps)


def horizon_s(*, cluster_period_s: float, startup_s: float) -> float:
    """Return how far ahead replicas are planned: an epoch, and twice a start-up at least.

    Twice, so that what is asked for when a rise comes into sight is Ready a whole start-up before the rise.
    """
    return max(cluster_period_s, 2 * startup_s)


def slots(calendar: Calendar, ahead_s: float) -> int:
    """Return the slots of a horizon, at least one."""
    return max(math.ceil(ahead_s / calendar.slot_s - 1e-9), 1)


def of(policy: str, past: History, *, horizon_slots: int) -> Known:
    """Return what a history says."""
    typical, tracker = walk.warmed(past, horizon_slots=horizon_slots)
    return Known(policy, typical, tracker)


def of_past(past: Past, calendar: Calendar, *, horizon_slots: int) -> Known:
    """Return what Prometheus' memory says. Its steps are means: of the highest window in a slot nothing is known."""
    found = history.of_rates(calendar, past.samples())
    return of(past.policy, History(calendar, found.first_slot, found.rates_rps), horizon_slots=horizon_slots)
