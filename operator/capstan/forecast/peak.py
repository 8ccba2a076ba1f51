"""The peak arrival rate of the next epoch, from the rates seen so far.

The larger of the recent peak and the recent trend, with a guard for counting noise: all that can be said without a
history, and the burst guard of `forecast.ahead` where there is one.
"""

from __future__ import annotations

import bisect
import math
from operator import itemgetter

GUARD_SIGMAS = 2.0
"""A mean rate over a window of w seconds has a Poisson error of sqrt(rate / w); two of them cover 97.5 % of windows."""

Rates = tuple[tuple[float, float], ...]

_time_s = itemgetter(0)
_rate_rps = itemgetter(1)


def remembered(rates: Rates, now_s: float, arrival_rps: float, *, lookback_s: float) -> Rates:
    """Return `rates` with the newest appended and everything older than `lookback_s` dropped."""
    first = bisect.bisect_left(rates, now_s - lookback_s, key=_time_s)
    last = bisect.bisect_left(rates, now_s, key=_time_s)
    return (*rates[first:last], (now_s, arrival_rps))


def slope_rps_per_s(rates: Rates) -> float:
    """Return the least-squares slope of the rates; 0 with fewer than three samples."""
    if len(rates) < 3:
        return 0.0
    mean_t = sum(t for t, _ in rates) / len(rates)
    mean_r = sum(r for _, r in rates) / len(rates)
    spread = sum((t - mean_t) ** 2 for t, _ in rates)
    return sum((t - mean_t) * (r - mean_r) for t, r in rates) / spread if spread > 0 else 0.0


def guarded_rps(arrival_rps: float, *, window_s: float) -> float:
    """Return a rate with room for the counting noise of the window it was measured over."""
    return arrival_rps + GUARD_SIGMAS * math.sqrt(arrival_rps / window_s)


def peak_rps(rates: Rates, *, now_s: float, lead_s: float, window_s: float, recent_s: float) -> float:
    """Return the rate to provision for over the next `lead_s` seconds.

    Args:
        rates: `((t_s, arrival_rps), ...)`, oldest first, at least one.
        now_s: The cycle's time.
        lead_s: How far ahead the plan must hold: the period plus a start-up.
        window_s: The window that each rate was measured over.
        recent_s: The trend is taken over this long; a longer one would smooth the rise away.

    Returns:
        The larger of the highest rate in `rates` and the trend carried `lead_s` ahead, but no further than it has
        lasted, and only where it is more than counting noise (a falling trend never lowers the peak); plus the guard.
        Example: a steady 4 rps over 60 s: 4 + 2 sqrt(4/60) = 4.52.
    """
    recent = rates[bisect.bisect_left(rates, now_s - recent_s, key=_time_s) :]
    slope = slope_rps_per_s(recent)
    lasted_s = now_s - recent[0][0] if recent else 0.0
    noise_rps = GUARD_SIGMAS * math.sqrt(2 * rates[-1][1] / window_s)  # of the difference of two counts
    rising = slope * lasted_s > noise_rps
    ahead_rps = rates[-1][1] + (slope * min(lead_s, lasted_s) if rising else 0.0)
    highest_rps = max(rates, key=_rate_rps)[1]
    carried_rps = min(ahead_rps, 2 * highest_rps)  # a trend over minutes does not more than double what was seen
    return guarded_rps(max(highest_rps, carried_rps), window_s=window_s)
