"""How well forecasts came true: pinball loss beside two naive forecasts, coverage of the band, and drift.

Who calls it: `forecast.track` at every slot that closes. Must not know: how a forecast is made.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

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
class Score:
    """Sums over the slots that were forecast at one distance; losses are pinball losses of the median.

    `week_slots` are those whose slot of the week before is known; only they compare with last week.
    """

    slots: int = 0
    inside: int = 0
    above: int = 0
    ours_rps: float = 0.0
    last_value_rps: float = 0.0
    week_slots: int = 0
    ours_then_rps: float = 0.0
    last_week_rps: float = 0.0

    @property
    def covered_ratio(self) -> float | None:
        """Share of slots inside the band, None before the first."""
        return self.inside / self.slots if self.slots else None

    def noted(self, actual_rps: float, told: Told, last_week_rps: float | None) -> Score:
        """Return the sums with one more slot."""
        ours_rps = pinball_rps(actual_rps, told.median_rps, ratio=0.5)
        week = last_week_rps is not None
        return Score(
            slots=self.slots + 1,
            inside=self.inside + (told.low_rps <= actual_rps <= told.high_rps),
            above=self.above + (actual_rps > told.high_rps),
            ours_rps=self.ours_rps + ours_rps,
            last_value_rps=self.last_value_rps + pinball_rps(actual_rps, told.last_rps, ratio=0.5),
            week_slots=self.week_slots + week,
            ours_then_rps=self.ours_then_rps + (ours_rps if week else 0.0),
            last_week_rps=self.last_week_rps
            + (0.0 if last_week_rps is None else pinball_rps(actual_rps, last_week_rps, ratio=0.5)),
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of a slot: median and band, and the last value that was known when it was said."""

    median_rps: float
    low_rps: float
    high_rps: float
    last_rps: float


@dataclass(frozen=True, slots=True)
class Drift:
    """Whether the load has left its pattern: running means over about a day, errors in sigmas of the forecast.

    Attributes:
        drifted: The verdict; it stays until both figures are good again.
        covered_ratio: Share of slots inside the band.
        template_sigmas_ratio: Error of the better of the two views that know the template.
        steady_sigmas_ratio: Error of the view that knows only the last slots.
        slots: Judged so far.
    """

    drifted: bool = False
    covered_ratio: float = 0.9
    template_sigmas_ratio: float = 0.0
    steady_sigmas_ratio: float = 0.0
    slots: int = 0

    def noted(self, *, inside: bool, template_ratio: float | None, steady_ratio: float, weight_ratio: float) -> Drift:
        """Return the means with one more slot, which counts for `weight_ratio` of them; no template, no drift."""
        if template_ratio is None:
            return Drift()
        weight = max(weight_ratio, 1 / (self.slots + 1))  # a plain mean, while there is less than a day
        covered = self.covered_ratio + weight_ratio * (inside - self.covered_ratio)
        template = self.template_sigmas_ratio + weight * (template_ratio - self.template_sigmas_ratio)
        steady = self.steady_sigmas_ratio + weight * (steady_ratio - self.steady_sigmas_ratio)
        now = Drift(self.drifted, covered, template, steady, self.slots + 1)
        return dataclasses.replace(now, drifted=now._verdict())

    def _verdict(self) -> bool:
        if self.drifted:
            return not (
                self.covered_ratio >= CLEAR_COVERED_RATIO
                and self.template_sigmas_ratio <= CLEAR_LOSS_RATIO * self.steady_sigmas_ratio
            )
        lost = self.template_sigmas_ratio > DRIFT_LOSS_RATIO * self.steady_sigmas_ratio
        return self.slots >= MIN_SLOTS and (lost or self.covered_ratio < DRIFT_COVERED_RATIO)
