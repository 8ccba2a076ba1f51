"""The median and the band of a coming slot, and how both learn from the slots that close.

The median is a mean of four simple views, weighed by their errors of late: no view has to be
right always, and a template that is wrong costs little more than none.

The band is measured in sigmas, sigma^2 = median / slot + (spread x median)^2: counting noise and the template's spread.
How many sigmas it reaches, up and down, is learnt: a slot beyond an edge moves that edge out by 19 parts, one inside
moves it in by one part. So in the long run one slot in twenty lies beyond either edge, whatever the distribution (Gibbs
and Candes 2021, "Adaptive conformal inference under distribution shift").

Who calls it: `forecast.track`. Must not know: cycles, memory.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from capstan.forecast import score, views
from capstan.forecast.calendar import Calendar
from capstan.forecast.template import Template
from capstan.model.outlook import Ahead, Drift, Issued, Lead, Views

COVERAGE_RATIO = 0.9
"""Share of slots that the band is to hold: the issue asks for 85 to 95 %."""

TAIL_RATIO = (1 - COVERAGE_RATIO) / 2

STEP_RATIO = 0.06
"""A miss makes the reach larger by 0.95 of this (x 1.06), a slot inside smaller by 0.05 of it (x 0.997). Half an hour
of misses, which teach one lesson six times, makes it x 1.4: a larger step overshoots and plans a higher peak for the
same coverage. A new band learns faster: its steps fall with the root of the slots judged until they are this small,
after a day of 5-minute slots."""

WEIGHT_POWER = -3
"""Weights fall with the third power of the error: between the mean of all views (0) and the best alone; the losses on
the conversation week are the same to 1 % for 2, 3 and 4."""

YOUNG_SLOTS = 40
"""While fewer slots than two to a tail were judged, a surprise is taken at its word: the edge goes there."""

LEAST_SIGMAS, MOST_SIGMAS = 0.2, 30.0
"""A band never closes, nor does it grow for ever: past this it says no more than that anything may come."""

LOSS_DAY_RATIO = 1 / 2
"""Views are weighed by their errors over 12 h of a day: in a quiet night the last value is right, and what the morning
before taught must not be forgotten by it. On the conversation week the loss is the same to 1 % from 3 h to 12 h."""

LEAST_LOSS_RATIO = 0.01
"""A view that was right to a hundredth of a sigma is no surer than that: weights stay finite."""


@dataclass(frozen=True, slots=True)
class Belief:
    """How a distance ahead is told: the weight of each view, and the reach of the band in sigmas."""

    weights: tuple[float, ...]
    low_reach_ratio: float
    high_reach_ratio: float

    def towards(self, other: Belief, share: float) -> Belief:
        """Return the belief `share` of the way to another."""
        stay = 1 - share
        return Belief(
            tuple([stay * a + share * b for a, b in zip(self.weights, other.weights, strict=True)]),
            stay * self.low_reach_ratio + share * other.low_reach_ratio,
            stay * self.high_reach_ratio + share * other.high_reach_ratio,
        )


def belief(lead: Lead, *, widening_ratio: float) -> Belief:
    """Return what a lead has learnt; `widening_ratio` is 1, or more while the load has left its pattern."""
    weights = [max(loss, LEAST_LOSS_RATIO) ** WEIGHT_POWER for loss in lead.losses_ratio]
    whole = sum(weights)
    shares = tuple([weight / whole for weight in weights])
    return Belief(shares, widening_ratio * lead.low_reach_ratio, widening_ratio * lead.high_reach_ratio)


def said(template: Template, seen: Views, slot: int, told: Belief) -> Ahead:
    """Return median and band of a slot; the first of its views is known."""
    total = weight = 0.0
    for share, view in zip(told.weights, seen, strict=True):
        if view is not None:
            total += share * view
            weight += share
    median_rps = total / weight
    sigma_rps = sigma(template, slot, median_rps)
    return Ahead(
        slot=slot,
        median_rps=median_rps,
        low_rps=max(median_rps - told.low_reach_ratio * sigma_rps, 0.0),
        high_rps=median_rps + told.high_reach_ratio * sigma_rps,
        base_rps=max(median_rps, seen[views.SHAPED] or 0.0),
        sigma_rps=sigma_rps,
        source=template.source(slot),
    )


def sigma(template: Template, slot: int, median_rps: float) -> float:
    """Return one sigma of a slot's rate: counting noise (of one request at least) and the template's spread."""
    slot_s = template.calendar.slot_s
    counting = max(median_rps, 1 / slot_s) / slot_s
    return math.sqrt(counting + (template.spread(slot) * median_rps) ** 2)


def judged(lead: Lead, slot: int, actual_rps: float, calendar: Calendar, *, last_week_rps: float | None) -> Lead:
    """Return the lead after a slot closed: what was said of it is scored, learnt from and dropped."""
    told = lead.told(slot)
    waiting = tuple(issued for issued in lead.waiting if issued.ahead.slot > slot)
    if told is None:
        return dataclasses.replace(lead, waiting=waiting)
    weight = 1 / max(LOSS_DAY_RATIO * calendar.slots_per_day, 1.0)
    errors = _errors(told, actual_rps)
    off = (actual_rps - told.ahead.median_rps) / told.ahead.sigma_rps
    ahead, count = told.ahead, lead.score.slots
    words = score.Told(ahead.median_rps, ahead.low_rps, ahead.high_rps, told.last_rps)
    return Lead(
        losses_ratio=tuple(
            loss if error is None else loss + weight * (error - loss)
            for loss, error in zip(lead.losses_ratio, errors, strict=True)
        ),
        low_reach_ratio=moved(lead.low_reach_ratio, -off, beyond=actual_rps < ahead.low_rps, judged_slots=count),
        high_reach_ratio=moved(lead.high_reach_ratio, off, beyond=actual_rps > ahead.high_rps, judged_slots=count),
        waiting=waiting,
        score=score.noted(lead.score, actual_rps, words, last_week_rps),
    )


def drifting(drift: Drift, lead: Lead, slot: int, actual_rps: float, calendar: Calendar) -> Drift:
    """Return the drift after a slot closed of which `lead` said something."""
    told = lead.told(slot)
    if told is None:
        return drift
    _, steady, *shaped = _errors(told, actual_rps)
    known = [error for error in shaped if error is not None]
    return score.drifting(
        drift,
        inside=told.ahead.low_rps <= actual_rps <= told.ahead.high_rps,
        template_ratio=min(known) if known else None,
        steady_ratio=steady or 0.0,
        weight_ratio=1 / calendar.slots_per_day,
    )


def moved(reach: float, off: float, *, beyond: bool, judged_slots: int) -> float:
    """Return a reach, in sigmas, after a slot lay `off` sigmas out on its side.

    `beyond` says whether that was beyond the edge that was told, which need not be today's: several slots are under
    way, and an edge that has moved since did not miss any less.
    """
    if judged_slots < YOUNG_SLOTS and off > reach:
        return min(off, MOST_SIGMAS)
    step = max(STEP_RATIO, (judged_slots + 1) ** -0.5)
    return min(max(reach * math.exp(step * (beyond - TAIL_RATIO)), LEAST_SIGMAS), MOST_SIGMAS)


def _errors(told: Issued, actual_rps: float) -> list[float | None]:
    """Return the error of each view in sigmas of the forecast, None where it had nothing to say."""
    return [None if view is None else abs(actual_rps - view) / told.ahead.sigma_rps for view in told.views_rps]
