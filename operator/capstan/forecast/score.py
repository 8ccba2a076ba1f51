"""How well forecasts came true: pinball loss beside two naive forecasts, coverage of the band, and drift.

Who calls it: `forecast.track` at every slot that closes. Must not know: how a forecast is made.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from capstan.model.outlook import Drift, Score

DRIFT_LOSS_RATIO = 1.25
"""Drift begins when the template's better view errs by this much more than the last value does, over about a day."""
DRIFT_COVERED_RATIO = 0.8
"""Or when fewer slots than this lay inside the 90 % band: eight misses in a hundred more than there should be is three
standard errors of a day of half-hours."""
CLEAR_COVERED_RATIO = 0.85
CLEAR_LOSS_RATIO = 1.1
"""Drift ends when the band holds what it is asked to (85 to 95 %) and the template errs little more than the last
value: on a flat load it cannot err less."""

MIN_SLOTS = 12
"""Fewer judged slots than an hour of 5-minute ones make no drift."""


def pinball_rps(actual_rps: float, told_rps: float, *, ratio: float) -> float:
    """Return the loss of a quantile forecast: `ratio` per unit above it, `1 - ratio` per unit below it.

    Source: Koenker and Bassett 1978. The median's is half the absolute error.
    """
    short_rps = actual_rps - told_rps
    return ratio * short_rps if short_rps >= 0 else (ratio - 1) * short_rps


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of a slot: median and band, and the last value that was known when it was said."""

    median_rps: float
    low_rps: float
    high_rps: float
    last_rps: float


def noted(sums: Score, actual_rps: float, told: Told, last_week_rps: float | None) -> Score:
    """Return the sums with one more slot."""
    ours_rps = pinball_rps(actual_rps, told.median_rps, ratio=0.5)
    week = last_week_rps is not None
    return Score(
        slots=sums.slots + 1,
        inside=sums.inside + (told.low_rps <= actual_rps <= told.high_rps),
        above=sums.above + (actual_rps > told.high_rps),
        ours_rps=sums.ours_rps + ours_rps,
        last_value_rps=sums.last_value_rps + pinball_rps(actual_rps, told.last_rps, ratio=0.5),
        week_slots=sums.week_slots + week,
        ours_then_rps=sums.ours_then_rps + (ours_rps if week else 0.0),
        last_week_rps=sums.last_week_rps
        + (0.0 if last_week_rps is None else pinball_rps(actual_rps, last_week_rps, ratio=0.5)),
    )


def drifting(
    drift: Drift, *, inside: bool, template_ratio: float | None, steady_ratio: float, weight_ratio: float
) -> Drift:
    """Return the running means with one more slot, which counts for `weight_ratio` of them; no template, no drift."""
    if template_ratio is None:
        return Drift()
    weight = max(weight_ratio, 1 / (drift.slots + 1))  # a plain mean, while there is less than a day
    covered = drift.covered_ratio + weight_ratio * (inside - drift.covered_ratio)
    template = drift.template_sigmas_ratio + weight * (template_ratio - drift.template_sigmas_ratio)
    steady = drift.steady_sigmas_ratio + weight * (steady_ratio - drift.steady_sigmas_ratio)
    now = Drift(drift.drifted, covered, template, steady, drift.slots + 1)
    return dataclasses.replace(now, drifted=_verdict(now))


def _verdict(now: Drift) -> bool:
    if now.drifted:
        return not (
            now.covered_ratio >= CLEAR_COVERED_RATIO
            and now.template_sigmas_ratio <= CLEAR_LOSS_RATIO * now.steady_sigmas_ratio
        )
    lost = now.template_sigmas_ratio > DRIFT_LOSS_RATIO * now.steady_sigmas_ratio
    return now.slots >= MIN_SLOTS and (lost or now.covered_ratio < DRIFT_COVERED_RATIO)
