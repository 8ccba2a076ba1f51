"""How odd a figure is beside what came before, and joules per request watched over time.

Who calls it: `app.meter` live, `replay.scores.routes`. Must not know: where figures come from, who is told.

What is odd is no fault yet: fewer requests share the same idle watts at night, and longer answers cost more. It says
where to look.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

WINDOW_S = 300.0
"""Joules per request are compared over 5 minutes: DESIGN 7.1's window, and a hundred requests at a third of a rps."""

MIN_REQUESTS = 10
"""A window with fewer of a route says nothing: the mean of ten exponential lengths is known to a third."""

MIN_PAST = 12
"""Windows that must have been seen before one can be odd: an hour."""

MOST_PAST = 288
"""Windows remembered: a day, so that an ordinary night is no news."""

ODD_RATIO = 3.5
"""Scores beyond this are odd (Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers)."""

SIGMAS_PER_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation: 1 / 0.6745."""

LEAST_SPREAD_RATIO = 0.02
"""A spread below 2 % of the median is taken for 2 %: boards' sensors agree no better (NVML: +-5 W of some 300 W)."""


def anomaly_ratio(value: float, past: Sequence[float]) -> float | None:
    """Return how far a figure is from the median of those before it, in robust standard deviations.

    Args:
        value: Of the window in question.
        past: Of windows before it, oldest first; the last `MOST_PAST` count.

    Returns:
        None with fewer than `MIN_PAST` windows. Beyond +-`ODD_RATIO` it is odd. Odd windows among the past move the
        median and its deviation little, a mean they would move. Example: six windows at 980 J and six at 1,020: the
        median is 1,000, the median deviation 20, so 1,200 J are 200 / (1.4826 x 20) = 6.7 off.
    """
    known = past[-MOST_PAST:]
    if len(known) < MIN_PAST:
        return None
    middle = statistics.median(known)
    spread = SIGMAS_PER_MAD * statistics.median(abs(other - middle) for other in known)
    least = LEAST_SPREAD_RATIO * abs(middle)
    return (value - middle) / max(spread, least, 1e-9)


@dataclass(frozen=True, slots=True)
class Watched:
    """One route's joules per request, window by window.

    Attributes:
        since_s: When the running window began.
        energy_j, sample_requests: Of the running window, where both are known.
        past_j: Joules per request of whole windows, oldest first, a day of them.
        request_j: Of the last window, None where it told nothing.
        odd_ratio: Its anomaly score, None where it told nothing or too little came before.
    """

    since_s: float
    energy_j: float = 0.0
    sample_requests: float = 0.0
    past_j: tuple[float, ...] = ()
    request_j: float | None = None
    odd_ratio: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.energy_j) and self.energy_j >= 0 and self.sample_requests >= 0):
            raise ValueError("joules and requests of a window are 0 or more")

    def noted(self, now_s: float, *, energy_j: float = 0.0, sample_requests: float = 0.0) -> Watched:
        """Return this with what was drawn and served since it was noted last; a window that is over is judged."""
        held = replace(self, energy_j=self.energy_j + energy_j, sample_requests=self.sample_requests + sample_requests)
        return held if now_s - self.since_s < WINDOW_S else held._judged(now_s)

    def _judged(self, now_s: float) -> Watched:
        if self.sample_requests < MIN_REQUESTS:
            return Watched(now_s, past_j=self.past_j)
        request_j = self.energy_j / self.sample_requests
        return Watched(
            now_s,
            past_j=(*self.past_j, request_j)[-MOST_PAST:],
            request_j=request_j,
            odd_ratio=anomaly_ratio(request_j, self.past_j),
        )
