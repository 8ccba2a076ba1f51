"""The watts of a row with more servers, from the watts of the row that there is.

Who calls it: `planned`. Must not know: budgets, laws.

Every server that is added is taken to do what the present ones do. What a row draws is a slow mean, which follows the
day for all servers alike and grows with their number n, and what moves around it. Of the latter, servers that serve
different requests know nothing of each other: variances add up, so it grows with the root of n. Whether that is true of
a row cannot be seen in its sum, so the other end is played, too: all of it grows with n, as if servers rose together.
The truth lies between the two; what is recommended holds under both.
"""

from __future__ import annotations

import math

import numpy as np

from capstan.replay.runs import Floats

SLOW_S = 600
"""Length of the slow mean: some ten requests of a minute, so that no single one shows in it, and a moment of the day.
A rise that is common to all servers and faster than this counts as their own, which the correlated end makes good."""


def grown(watts: Floats, slow_w: Floats, more_ratio: float, *, correlated: bool) -> Floats:
    """Return the watts of a row with `more_ratio` times the servers; NaN stays NaN."""
    if correlated:
        return np.asarray(watts * more_ratio)
    return np.asarray(slow_w * more_ratio + (watts - slow_w) * math.sqrt(more_ratio))


def slow(watts: Floats, window_s: int = SLOW_S) -> Floats:
    """Return the mean of the window around each second, of what was heard in it."""
    known = np.isfinite(watts)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, watts, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    middle = np.arange(len(watts))
    low, high = np.maximum(middle - window_s // 2, 0), np.minimum(middle + window_s // 2 + 1, len(watts))
    heard = counts[high] - counts[low]
    return np.asarray(np.divide(sums[high] - sums[low], heard, out=np.full(len(watts), np.nan), where=heard > 0))
