"""Loads that come in surges: a rate that more than doubles sooner than a replica can start.

Who calls it: `optimize.foresight`, where no history tells more. Must not know: replicas.

Whoever waits for such a rise is late each time: while it is seen and answered the queue has grown for minutes. What a
load did within the memory of its rates it does again; the quiet between two surges says nothing about the next.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from operator import itemgetter

from capstan.forecast import peak
from capstan.forecast.peak import Rates

RISE_RATIO = 2.0
"""A rise by less is what the trend and its guard are for: `peak.peak_rps` lets no trend more than double a rate."""

SPAN_S = 15.0
"""Over how long a surge is read: three scrapes of 5 s. A window of a minute tells of 40 rps in ten seconds as of 7."""


def ready_rps(rates: Rates, *, lead_s: float, window_s: float) -> float | None:
    """Return the rate to be ready for because of surges: the highest in memory, with room for counting noise.

    Args:
        rates: `((t_s, arrival_rps), ...)`, oldest first, each over the last `window_s` seconds.
        lead_s: From the first request of a rise until a replica that it asked for serves, the window included.
        window_s: See there.

    Returns:
        None where no rate was more than twice one of the `lead_s` before it, three sigmas of counting noise and the
        first window of a service aside.
        Example: 1 rps, and within a minute 9 rps, each over 60 s: 2 x 1 + 3 sqrt(2 x 9 / 60) = 3.64 is exceeded, so
        be ready for 9 + 3 sqrt(9 / 60) = 10.16, or for more if it rose faster than the window can tell.
    """
    if not _surged(rates, lead_s, window_s):
        return None
    highest_rps = max(rate for _, rate in rates)
    guarded_rps = peak.guarded_rps(highest_rps, window_s=window_s, sigmas=peak.PEAK_SIGMAS)
    return max(guarded_rps, _steepest_rps(rates, window_s))


def _surged(rates: Rates, lead_s: float, window_s: float) -> bool:
    """Return whether a rate was more than twice the lowest of the `lead_s` before it."""
    begun = _after_its_start(rates, window_s)
    each_rps = [rate_rps for _, rate_rps in begun]
    if not each_rps or max(each_rps) <= RISE_RATIO * min(each_rps):  # mostly so, and told in a tenth of the time
        return False
    lowest: deque[tuple[float, float]] = deque()  # of the last `lead_s`, rising: the first one is the least
    for t_s, rate_rps in begun:
        while lowest and lowest[-1][1] >= rate_rps:
            lowest.pop()
        lowest.append((t_s, rate_rps))
        while lowest[0][0] < t_s - lead_s:
            lowest.popleft()
        noise_rps = peak.BURST_SIGMAS * math.sqrt(2 * rate_rps / window_s)
        if rate_rps > RISE_RATIO * lowest[0][1] + noise_rps:
            return True
    return False


def _after_its_start(rates: Rates, window_s: float) -> Rates:
    """Return the rates from a window after the first request on: a service that begins to be used does not surge."""
    began_s = next((t_s for t_s, rate_rps in rates if rate_rps > 0), math.inf)
    return rates[bisect.bisect_left(rates, began_s + window_s, key=itemgetter(0)) :]


def _steepest_rps(rates: Rates, window_s: float) -> float:
    """Return the highest rate within a span that the windows give away.

    Two windows that end `d` apart differ by what came in the last `d` less what left: so much came at least.
    """
    highest_rps, first = 0.0, 0
    for t_s, rate_rps in rates:
        while rates[first][0] < t_s - SPAN_S:
            first += 1
        began_s, before_rps = rates[first]
        if t_s > began_s:
            highest_rps = max(highest_rps, (rate_rps - before_rps) * window_s / (t_s - began_s))
    return highest_rps
