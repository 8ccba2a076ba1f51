"""The peak arrival rate of the next epoch, from the rates seen so far.

The larger of the recent peak and the recent trend, with a guard for counting noise: all that can be said without a
history, and the burst guard of `forecast.ahead` where there is one.
"""

from __future__ import annotations

import bisect
import itertools
import math
from operator import itemgetter

GUARD_SIGMAS = 2.0
"""A mean rate over a window of w seconds has a Poisson error of sqrt(rate / w); two of them cover 97.5 % of windows."""

PEAK_SIGMAS = 3.0
"""For the peak of an epoch: of its many windows none is to be above, and real arrivals vary more than by chance."""

ENOUGH_ARRIVALS = 100
"""A rate of so many arrivals is known to 10 %. Where one window holds fewer, it is read over more of them."""

CALM_S = (600.0, 300.0)
"""Spans over which a rate may have stood still, longest first: a minute of 12 rps counts to 4 %, ten of them to 1 %."""

BURST_SIGMAS = 3.0
"""What one window must exceed a mean by to be news: of windows that are looked at all day, 1 in 40 exceeds two."""

ALIKE_SIGMAS = 2.0  # of counting noise: two rates that lie closer are one; of a constant load 1 in 20 does not

Rates = tuple[tuple[float, float], ...]

_time_s = itemgetter(0)
_rate_rps = itemgetter(1)


def remembered(rates: Rates, now_s: float, arrival_rps: float, *, lookback_s: float) -> Rates:
    """Return `rates` with the newest appended and everything older than `lookback_s` dropped."""
    first = bisect.bisect_left(rates, now_s - lookback_s, key=_time_s)
    last = bisect.bisect_left(rates, now_s, key=_time_s)
    return (*rates[first:last], (now_s, arrival_rps))


def since(rates: Rates, t_s: float) -> Rates:
    """Return the rates from a moment on."""
    return rates[bisect.bisect_left(rates, t_s, key=_time_s) :]


def span_s(rates: Rates, *, window_s: float) -> float:
    """Return over how long the rate of now must be read to be known to 10 %: one window at least, the memory at most.

    Counted back from now: what was quiet before a service was used says nothing of what its rate is worth.
    """
    newest_s = rates[-1][0]
    arrivals_rps = 0.0
    for count, (t_s, rate_rps) in enumerate(reversed(rates), start=1):
        arrivals_rps += rate_rps
        whole_s = newest_s - t_s + window_s
        if arrivals_rps / count * whole_s >= ENOUGH_ARRIVALS:
            return whole_s
    return newest_s - rates[0][0] + window_s


def level_rps(rates: Rates, *, window_s: float) -> tuple[float, float]:
    """Return the rate of now and over how long it was read; a rise beyond counting noise is believed at once.

    Args:
        rates: `((t_s, arrival_rps), ...)`, oldest first, at least one, each over the last `window_s` seconds.
        window_s: See there.

    Returns:
        Example: 0.5 rps for half an hour, read over 200 s. A last window of 30 s is within three sigmas of noise (0.39)
        up to 0.89 rps; one of 0.9 is the level, read over 30 s.
    """
    newest_rps = rates[-1][1]
    whole_s = span_s(rates, window_s=window_s)
    recent = since(rates, rates[-1][0] - (whole_s - window_s) - 1e-9)
    mean_rps = sum(rate for _, rate in recent) / len(recent)
    noise_rps = BURST_SIGMAS * math.sqrt(mean_rps / window_s)
    return (newest_rps, window_s) if newest_rps > mean_rps + noise_rps else (mean_rps, whole_s)


def calm_rps(rates: Rates, *, now_s: float, window_s: float) -> tuple[float, float] | None:
    """Return the mean rate of the longest span in which nothing but chance moved it, and that span; None: it moved.

    What followed every minute's count would change every half minute under a constant load. A burst is far outside of
    chance, and a slow rise shows between the halves of a span.
    """
    newest_rps = rates[-1][1]
    for whole_s in CALM_S:
        if rates[0][0] > now_s - whole_s:
            continue
        recent = [rate for t_s, rate in rates if t_s > now_s - whole_s]
        if len(recent) < 2:
            continue
        half = len(recent) // 2
        older_rps, newer_rps = sum(recent[:half]) / half, sum(recent[half:]) / (len(recent) - half)
        mean_rps = (older_rps + newer_rps) / 2
        drifted = _apart(older_rps, newer_rps, ALIKE_SIGMAS * math.sqrt(mean_rps * 4 / whole_s))  # the variances add
        if not drifted and not _apart(newest_rps, mean_rps, BURST_SIGMAS * math.sqrt(mean_rps / window_s)):
            return mean_rps, whole_s
    return None


def _apart(one_rps: float, other_rps: float, noise_rps: float) -> bool:
    """Return whether two rates differ by more than noise."""
    return abs(one_rps - other_rps) > noise_rps


def slope_rps_per_s(rates: Rates) -> float:
    """Return the least-squares slope of the rates; 0 with fewer than three samples."""
    if len(rates) < 3:
        return 0.0
    mean_t = sum(t for t, _ in rates) / len(rates)
    mean_r = sum(r for _, r in rates) / len(rates)
    spread = sum((t - mean_t) ** 2 for t, _ in rates)
    return sum((t - mean_t) * (r - mean_r) for t, r in rates) / spread if spread > 0 else 0.0


def guarded_rps(arrival_rps: float, *, window_s: float, sigmas: float = GUARD_SIGMAS) -> float:
    """Return a rate with room for the counting noise of the window it was measured over."""
    return arrival_rps + sigmas * math.sqrt(arrival_rps / window_s)


def rise_ratio(rates: Rates, *, lead_s: float, window_s: float) -> float:
    """Return the largest share by which the rate was seen to rise within `lead_s`, counting noise aside.

    Args:
        rates: `((t_s, arrival_rps), ...)`, oldest first, each over the last `window_s` seconds.
        lead_s: Within how long.
        window_s: See there.

    Returns:
        0 for a load that never rose. Example: 4 rps, then 8 rps, each read over 60 s: one sigma of the difference of
        two counts of 4 rps is sqrt(2 x 4 / 60) = 0.37 rps, so that (8 - 4 - 0.37) / 4 = 0.91 is left.
    """
    whole_s = span_s(rates, window_s=window_s)
    levels = _stretched(rates, whole_s - window_s)
    most_ratio = 0.0
    for first, (t_s, rate_rps) in enumerate(levels):
        if rate_rps > 0:
            last = bisect.bisect_right(levels, t_s + lead_s, lo=first, key=_time_s)
            highest_rps = max(levels[first:last], key=_rate_rps)[1]
            noise_rps = math.sqrt(2 * rate_rps / whole_s)
            most_ratio = max(most_ratio, (highest_rps - rate_rps - noise_rps) / rate_rps)
    return most_ratio


def _stretched(rates: Rates, stretch_s: float) -> Rates:
    """Return the rates, each the mean of those of the last `stretch_s` seconds; none for which there are not enough."""
    sums = tuple(itertools.accumulate((rate for _, rate in rates), initial=0.0))
    levels: list[tuple[float, float]] = []
    for last, (t_s, _) in enumerate(rates, start=1):
        if t_s - stretch_s >= rates[0][0] - 1e-9:
            first = bisect.bisect_left(rates, t_s - stretch_s - 1e-9, key=_time_s)
            levels.append((t_s, (sums[last] - sums[first]) / (last - first)))
    return tuple(levels)


def peak_rps(
    rates: Rates, *, now_s: float, lead_s: float, window_s: float, recent_s: float, epoch_s: float = math.inf
) -> float:
    """Return the rate to provision for over the next `lead_s` seconds.

    Args:
        rates: `((t_s, arrival_rps), ...)`, oldest first, at least one.
        now_s: The cycle's time.
        lead_s: How far ahead the plan must hold: the period plus a start-up.
        window_s: The window that each rate was measured over.
        recent_s: The trend is taken over this long; a longer one would smooth the rise away.
        epoch_s: The highest rate is that of the last so many seconds; older ones only tell how much is noise.

    Returns:
        Of a load that stood still for minutes its mean. Else the larger of the highest rate of the epoch and the trend
        carried `lead_s` ahead, but no further than it has lasted, and only where it is more than counting noise (a
        falling trend never lowers the peak). Plus the guard.
        Example: a steady 4 rps over 60 s: 4 + 3 sqrt(4/60) = 4.77.
    """
    calm = calm_rps(rates, now_s=now_s, window_s=window_s)
    if calm is not None:
        return guarded_rps(calm[0], window_s=calm[1], sigmas=PEAK_SIGMAS)
    recent = since(rates, now_s - recent_s)
    slope = slope_rps_per_s(recent)
    lasted_s = now_s - recent[0][0] if recent else 0.0
    noise_rps = GUARD_SIGMAS * math.sqrt(2 * rates[-1][1] / window_s)  # of the difference of two counts
    rising = slope * lasted_s > noise_rps
    ahead_rps = rates[-1][1] + (slope * min(lead_s, lasted_s) if rising else 0.0)
    highest_rps, read_s = _highest_rps(rates, window_s, now_s - epoch_s)
    carried_rps = min(ahead_rps, 2 * highest_rps)  # a trend over minutes does not more than double what was seen
    return guarded_rps(max(highest_rps, carried_rps), window_s=read_s, sigmas=PEAK_SIGMAS)


def _highest_rps(rates: Rates, window_s: float, since_s: float) -> tuple[float, float]:
    """Return the highest rate since a moment, and over how long it was read.

    Of few arrivals a window, the highest of many windows is mostly noise: then it is the highest of longer stretches,
    unless the newest window is news.
    """
    whole_s = span_s(rates, window_s=window_s)
    newest_rps, _ = level_rps(rates, window_s=window_s)
    recent = (rate for t_s, rate in _stretched(rates, whole_s - window_s) if t_s >= since_s)
    return max([newest_rps, *recent]), whole_s
