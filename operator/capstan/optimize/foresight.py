"""What a policy's past says of each of its pools: the peak of the next epoch, from the forecast of the whole.

Who calls it: `decide`, every cycle, and `advice`. Must not know: how a forecast is made, replicas.

One forecast per policy, not one per pool: pools change with the split, and the classes of a service rise and fall
together. A pool has its share of the peak, and room for its share being drawn by chance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from capstan.forecast import ahead, known, peak, surge, track
from capstan.forecast.calendar import Calendar
from capstan.forecast.known import Known
from capstan.forecast.peak import Rates
from capstan.model import fleet
from capstan.model.outlook import Tracker
from capstan.model.workload import Phase
from capstan.optimize import lanes
from capstan.optimize.case import Case


@dataclass(frozen=True, slots=True)
class Foresight:
    """The pools with the peak that each is to be ready for, what is believed from now on, and whether it drifts."""

    cases: tuple[Case, ...]
    tracker: Tracker | None
    drifted: bool | None = None


def of(
    cases: tuple[Case, ...], classes: Sequence[fleet.ClassDemand], history: Known | None, tracker: Tracker | None
) -> Foresight:
    """Return the pools of a policy with what its history says of them; without one they are as they were.

    Args:
        cases: One per pool, with this cycle's rate in its memory.
        classes: The usual demand of the policy per class; empty where requests are not told apart.
        history: The template; None, or one of less than a day: there is nothing to forecast from.
        tracker: As of the last cycle; None, or one of another horizon: the history's own takes its place.

    Where nothing is forecast, a load that was seen to come in surges is expected to do so again.
    """
    if history is None or not history.tells:
        return Foresight(tuple(_surging(case) for case in cases), tracker)
    typical = history.template
    if tracker is None or tracker.horizon_slots != history.tracker.horizon_slots:
        tracker = history.tracker
    now_s, settings = cases[0].now_s, cases[0].settings
    rates = _whole(cases, _since_s(typical.calendar, now_s, settings.rate_window_s))
    tracker = track.after(tracker, typical, rates, now_s=now_s)
    if not rates or rates[-1][0] < now_s:  # blind: what is not seen now is not forecast
        return Foresight(cases, tracker, tracker.drifted)
    startup_s = max(case.startup_s for case in cases)
    horizon_s = known.horizon_s(cluster_period_s=settings.cluster_period_s, startup_s=startup_s)
    window_s = settings.rate_window_s
    told = ahead.forecast(typical, tracker, rates, now_s=now_s, horizon_s=horizon_s, window_s=window_s)
    shares = _shares(cases, classes)
    foreseen = tuple(
        dataclasses.replace(case, foreseen_rps=_own_rps(case, told.peak_rps, share, horizon_s))
        for case, share in zip(cases, shares, strict=True)
    )
    return Foresight(foreseen, tracker, tracker.drifted)


def _surging(case: Case) -> Case:
    """Return a pool with the rate of its surges to be ready for and no clock cap, where it had any.

    A clock is chosen for the rate of a minute, and a surge is over before that moves. A cap that is not there costs
    little: between surges the replicas are idle, and idle watts do not follow the cap. A power budget has the last
    word on clocks: under one they stay as they are chosen.
    """
    if not case.memory.rates:
        return case
    policy = case.policy
    surge_rps = surge.ready_rps(case.memory.rates, lead_s=case.back_s, window_s=case.settings.rate_window_s)
    if surge_rps is None:
        return case
    if policy.power_budget_w is None:
        bounds = dataclasses.replace(policy.bounds, min_clock_mhz=case.profiles[0].clocks.max_mhz)
        policy = dataclasses.replace(policy, bounds=bounds)
    return dataclasses.replace(case, policy=policy, foreseen_rps=surge_rps)


def _since_s(calendar: Calendar, now_s: float, window_s: float) -> float:
    """Return since when rates are wanted: of the slot that closed last, and for the burst guard."""
    return min(calendar.start_s(calendar.slot(now_s) - 1), now_s - ahead.RECENT_WINDOWS * window_s)


def _whole(cases: Sequence[Case], since_s: float) -> Rates:
    """Return the arrival rates of all pools together; each phase has all of them."""
    recent = [peak.since(case.memory.rates, since_s) for case in cases]
    if len(recent) == 1 or cases[0].phase is not Phase.BOTH:
        return recent[0]
    by_time: dict[float, float] = {}
    for t_s, rate_rps in (pair for rates in recent for pair in rates):
        by_time[t_s] = by_time.get(t_s, 0.0) + rate_rps
    return tuple(sorted(by_time.items()))


def _shares(cases: Sequence[Case], classes: Iterable[fleet.ClassDemand]) -> list[float]:
    """Return each pool's share of the requests; where classes have no demand, that of its last rate."""
    if len(cases) == 1 or cases[0].phase is not Phase.BOTH:
        return [1.0] * len(cases)
    known_classes = tuple(classes)
    loads = [lanes.demand(known_classes, case.classes) for case in cases]
    rates = [0.0 if load is None else load.arrival_rps for load in loads]
    if sum(rates) <= 0:
        rates = [case.memory.rates[-1][1] if case.memory.rates else 0.0 for case in cases]
    total_rps = sum(rates)
    return [rate / total_rps if total_rps > 0 else 1 / len(cases) for rate in rates]


def _own_rps(case: Case, peak_rps: float, share: float, horizon_s: float) -> float:
    """Return a pool's part of a peak, at least what its own last rates ask for.

    Of the n requests of a window each comes to the pool with chance p: n p (1 - p) is the variance of those that do.
    """
    window_s = case.settings.rate_window_s
    drawn_rps = peak.GUARD_SIGMAS * math.sqrt(peak_rps * share * (1 - share) / window_s)
    part_rps = share * peak_rps + drawn_rps
    recent = peak.since(case.memory.rates, case.now_s - ahead.RECENT_WINDOWS * window_s)
    if share >= 1 or not recent:
        return part_rps
    recent_s = ahead.RECENT_WINDOWS * window_s
    own_rps = peak.peak_rps(recent, now_s=case.now_s, lead_s=horizon_s, window_s=window_s, recent_s=recent_s)
    return max(part_rps, own_rps)
