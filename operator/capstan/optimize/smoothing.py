"""How much of what was known is kept when something new is seen: a running mean that becomes an exponential one.

Who calls it: `case` for a pool's lengths, `lanes` for the demand per class. Must not know: what is smoothed.
"""

from __future__ import annotations

import math

ENOUGH_REQUESTS = 400
"""Lengths vary about as much as they are long, so that the mean of 400 is known to 5 %. Counted in requests: a busy
service follows its mix within a minute, a quiet one does not chase noise."""

ENOUGH_ALIKE = 2000
"""The same while each window's mean is within chance of what is known: to 2 %, the grid of `Workload.coarse`. What
followed every clump of long prompts would move the clock of a constant load."""

ENOUGH_PER_CLASSES = 2000
"""The same for all classes together, of which the rare ones have a few in a hundred."""


def kept_ratio(requests: float, cycles: int, *, enough: int) -> float:
    """Return the share of the old value.

    The first values say little (only short answers have ended by then), so that at first all count alike.

    Args:
        requests: How many came since the old value was brought up to date; below zero counts as none.
        cycles: How often something was blended into it.
        enough: Requests that the mean is to rest on.
    """
    return min(math.exp(-max(requests, 0.0) / enough), cycles / (cycles + 1))
