"""How much of what was known is kept when something new is seen: a running mean that becomes an exponential one.

Who calls it: `case` for a pool's lengths, `lanes` for the demand per class. Must not know: what is smoothed.
"""

from __future__ import annotations

import math

SMOOTHING_S = 300.0
"""Time constant: lengths of a minute's requests vary by a tenth, and a class with a hundredth of them has a few in five
minutes. The mix of a service moves over hours."""


def kept_ratio(age_s: float, cycles: int) -> float:
    """Return the share of the old value.

    The first values say little (only short answers have ended by then), so that at first all count alike.

    Args:
        age_s: How long ago the old value was brought up to date; a clock that ran backwards counts as no time.
        cycles: How often something was blended into it.
    """
    return min(math.exp(-max(age_s, 0.0) / SMOOTHING_S), cycles / (cycles + 1))
