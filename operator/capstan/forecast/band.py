"""The median and the band of a coming slot, and how both learn from the slots that close.

The median is a mean of three simple views, weighed by the inverse square of their errors of late: no view has to be
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
from dataclasses import dataclass, field

from capstan.forecast import score, views
from capstan.forecast.calendar import Calendar
from capstan.forecast.template import Source, Template

COVERAGE_RATIO = 0.9
"""Share of slots that the band is to hold: the issue asks for 85 to 95 %."""

TAIL_RATIO = (1 - COVERAGE_RATIO) / 2

START_SIGMAS = 1.645
"""Reach of a band that has learnt nothing yet: 90 % of a normal distribution."""

PEAK_START_SIGMAS = 2.5
"""The same for the highest window of an epoch: the 95 % quantile of the largest of ten normals is 2.57."""

STEP_SIGMAS = 0.15
"""A whole step of the reach; a miss moves it by 0.95 of one, so that a step from 1.6 to 3 sigmas takes ten misses."""

LEAST_SIGMAS = 0.2
"""A band never closes: after a run of quiet slots every next one would be a surprise."""

MOST_SIGMAS = 30.0
"""Nor does it grow for ever: past this it says no more than that anything may come, and takes a day to come back."""

FAST_DAY_RATIO = 1 / 8
"""Views are weighed by their errors over 3 h of a day: a morning's winner may be the evening's loser."""

DRIFT_WIDENING_RATIO = 1.25
"""While the load has left its pattern the band is a quarter wider than learnt: what was learnt was another load."""

LEAST_LOSS_RATIO = 0.01
"""A view that was right to a hundredth of a sigma is no surer than that: weights stay finite."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is said of one coming slot: median and 90 % band of its mean rate, and what they rest on."""

    slot: int
    median_rps: float
    low_rps: float
    high_rps: float
    sigma_rps: float
    source: Source


@dataclass(frozen=True, slots=True)
class Issued:
    """What was said of a slot, kept until it closes; `last_rps` was the last value then."""

    ahead: Ahead
    views_rps: views.Views
    last_rps: float


@dataclass(frozen=True, slots=True)
class Lead:
    """One distance ahead: errors of the views and reach of the band, both in sigmas, and what waits to be judged."""

    losses_ratio: tuple[float, ...] = (1.0,) * views.COUNT
    low_reach_ratio: float = START_SIGMAS
    high_reach_ratio: float = START_SIGMAS
    waiting: tuple[Issued, ...] = ()
    score: score.Score = field(default_factory=score.Score)

    def told(self, slot: int) -> Issued | None:
        """Return what was said of a slot, None where nothing was."""
        return next((issued for issued in self.waiting if issued.ahead.slot == slot), None)


def said(template: Template, seen: views.Views, slot: int, lead: Lead, *, widening_ratio: float) -> Ahead:
    """Return median and band of a slot.

    Args:
        template: For its spread.
        seen: The views of the slot; at least the first is known.
        slot: Which.
        lead: Losses and reach at that distance.
        widening_ratio: 1, or more while the load has left its pattern.
    """
    weights = [max(loss, LEAST_LOSS_RATIO) ** -3 for loss in lead.losses_ratio]
    known = [(weight, view) for weight, view in zip(weights, seen, strict=True) if view is not None]
    median_rps = sum(weight * view for weight, view in known) / sum(weight for weight, _ in known)
    sigma_rps = sigma(template, slot, median_rps)
    return Ahead(
        slot=slot,
        median_rps=median_rps,
        low_rps=max(median_rps - widening_ratio * lead.low_reach_ratio * sigma_rps, 0.0),
        high_rps=median_rps + widening_ratio * lead.high_reach_ratio * sigma_rps,
        sigma_rps=sigma_rps,
        source=template.source(slot),
    )


def sigma(template: Template, slot: int, median_rps: float) -> float:
    """Return one sigma of a slot's rate: counting noise (of one request at least) and the template's spread."""
    slot_s = template.calendar.slot_s
    counting = max(median_rps, 1 / slot_s) / slot_s
    return math.sqrt(counting + (template.spread(slot) * median_rps) ** 2)


def between(near: Lead, far: Lead, share: float) -> Lead:
    """Return losses and reach `share` of the way from one distance to another."""

    def mixed(one: float, other: float) -> float:
        return one + share * (other - one)

    return Lead(
        tuple(mixed(a, b) for a, b in zip(near.losses_ratio, far.losses_ratio, strict=True)),
        mixed(near.low_reach_ratio, far.low_reach_ratio),
        mixed(near.high_reach_ratio, far.high_reach_ratio),
    )


def judged(lead: Lead, slot: int, actual_rps: float, calendar: Calendar, *, last_week_rps: float | None) -> Lead:
    """Return the lead after a slot closed: what was said of it is scored, learnt from and dropped."""
    told = lead.told(slot)
    waiting = tuple(issued for issued in lead.waiting if issued.ahead.slot > slot)
    if told is None:
        return dataclasses.replace(lead, waiting=waiting)
    weight = 1 / max(FAST_DAY_RATIO * calendar.slots_per_day, 1.0)
    errors = _errors(told, actual_rps)
    off = (actual_rps - told.ahead.median_rps) / told.ahead.sigma_rps
    ahead = told.ahead
    words = score.Told(ahead.median_rps, ahead.low_rps, ahead.high_rps, told.last_rps)
    return Lead(
        losses_ratio=tuple(
            loss if error is None else loss + weight * (error - loss)
            for loss, error in zip(lead.losses_ratio, errors, strict=True)
        ),
        low_reach_ratio=moved(lead.low_reach_ratio, -off),
        high_reach_ratio=moved(lead.high_reach_ratio, off),
        waiting=waiting,
        score=lead.score.noted(actual_rps, words, last_week_rps),
    )


def drifting(drift: score.Drift, lead: Lead, slot: int, actual_rps: float, calendar: Calendar) -> score.Drift:
    """Return the drift after a slot closed of which `lead` said something."""
    told = lead.told(slot)
    if told is None:
        return drift
    _, steady, *shaped = _errors(told, actual_rps)
    known = [error for error in shaped if error is not None]
    return drift.noted(
        inside=told.ahead.low_rps <= actual_rps <= told.ahead.high_rps,
        template_ratio=min(known) if known else None,
        steady_ratio=steady or 0.0,
        weight_ratio=1 / calendar.slots_per_day,
    )


def moved(reach: float, off: float) -> float:
    """Return a reach after a slot lay `off` sigmas out on its side."""
    step = STEP_SIGMAS * ((off > reach) - TAIL_RATIO)
    return min(max(reach + step, LEAST_SIGMAS), MOST_SIGMAS)


def _errors(told: Issued, actual_rps: float) -> list[float | None]:
    """Return the error of each view in sigmas of the forecast, None where it had nothing to say."""
    return [None if view is None else abs(actual_rps - view) / told.ahead.sigma_rps for view in told.views_rps]
