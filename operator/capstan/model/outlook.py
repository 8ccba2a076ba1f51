"""What is believed of a load to come, and how earlier beliefs came true: the running state of one stream of requests.

Who calls it: `forecast` makes and moves it, `plan.PolicyMemory` carries it from cycle to cycle. Frozen, small, and
journalled with the rest of the memory. Must not know: how a forecast is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

VIEWS = 4
"""Simple views of a coming slot that a forecast is made of (`forecast.views`)."""

START_SIGMAS = 1.645
"""Reach of a band that has learnt nothing yet: 90 % of a normal distribution."""

PEAK_START_SIGMAS = 2.5
"""The same for the highest window of an epoch: the 95 % quantile of the largest of ten normals is 2.57."""

DRIFT_WIDENING_RATIO = 1.25
"""When the load leaves its pattern the band is a quarter wider at once: what was learnt was another load. Learning goes
on from there."""

Views = tuple[float | None, ...]
"""What each view says of a slot, in requests a second; None: nothing."""


class Source(StrEnum):
    """What a forecast rests on."""

    TEMPLATE = "Template"  # a week of history or more
    DAY = "Day"  # less than a week: the slots of the days that are known
    REACTIVE = "Reactive"  # less than a day, or nothing fresh: the last rates alone


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is said of one coming slot: median and 90 % band of its mean rate, and what they rest on.

    `base_rps` is what its peak is measured from: the median or, where that is more, what the template says. All night
    the last value is right; whoever believes it at six in the morning has no replicas at eight (DynamoLLM plans for the
    larger of template and recent peak, too).
    """

    slot: int
    median_rps: float
    low_rps: float
    high_rps: float
    base_rps: float
    sigma_rps: float
    source: Source


@dataclass(frozen=True, slots=True)
class Issued:
    """What was said of a slot, kept until it closes; `last_rps` was the last value then."""

    ahead: Ahead
    views_rps: Views
    last_rps: float


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


@dataclass(frozen=True, slots=True)
class Lead:
    """One distance ahead: errors of the views and reach of the band, both in sigmas, and what waits to be judged."""

    losses_ratio: tuple[float, ...] = (1.0,) * VIEWS
    low_reach_ratio: float = START_SIGMAS
    high_reach_ratio: float = START_SIGMAS
    waiting: tuple[Issued, ...] = ()
    score: Score = field(default_factory=Score)

    def told(self, slot: int) -> Issued | None:
        """Return what was said of a slot, None where nothing was."""
        return next((issued for issued in self.waiting if issued.ahead.slot == slot), None)


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest window of an epoch: how many sigmas above the base of its busiest slot it is planned for.

    Attributes:
        reach_ratio: Sigmas; one epoch in twenty has a window beyond.
        waiting: `(last slot, planned peak)` of the epochs under way.
        seen: `(slot, highest window)` of the last slots.
        judged_epochs: Learnt from so far.
    """

    reach_ratio: float = PEAK_START_SIGMAS
    waiting: tuple[tuple[int, float], ...] = ()
    seen: tuple[tuple[int, float], ...] = ()
    judged_epochs: int = 0


@dataclass(frozen=True, slots=True)
class Tracker:
    """The running state of one stream of requests (a class, or a whole service).

    Attributes:
        horizon_slots: The epoch: the far distance that is judged. Forecasts reach one slot further, since an epoch may
            begin within a slot.
        last_slot: The newest slot that closed with a sample; None before the first.
        recent_rps: Rates of the last slots up to it, the newest last; None where nothing was seen.
        day_level_ratio: How many times the template the last hours were.
        near: Errors and band one slot ahead.
        far: The same `horizon_slots` ahead.
        peak: The highest window of the epoch.
        drift: Whether the load has left its pattern.
        ahead: What is said of the slots after `last_slot`.
    """

    horizon_slots: int = 6
    last_slot: int | None = None
    recent_rps: tuple[float | None, ...] = ()
    day_level_ratio: float = 1.0
    near: Lead = field(default_factory=Lead)
    far: Lead = field(default_factory=Lead)
    peak: Peak = Peak()
    drift: Drift = field(default_factory=Drift)
    ahead: tuple[Ahead, ...] = ()

    def __post_init__(self) -> None:
        if self.horizon_slots < 1:
            raise ValueError("horizon_slots is at least 1")

    @property
    def drifted(self) -> bool:
        """Whether the load has left its pattern."""
        return self.drift.drifted

    @property
    def widening_ratio(self) -> float:
        """How much wider than learnt the band is."""
        return DRIFT_WIDENING_RATIO if self.drifted else 1.0

    def peak_rps(self, ahead: Ahead) -> float:
        """Return the highest window to expect in an epoch whose busiest slot is `ahead`."""
        return ahead.base_rps + self.widening_ratio * self.peak.reach_ratio * ahead.sigma_rps
