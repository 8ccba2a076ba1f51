"""How much longer engines decode than their profile says, learnt from the requests inside (DESIGN 5's bias estimate).

Who calls it: `scene`, which plans with the corrected physics, and `decide`, which remembers what was learnt. Must not
know: plans.

By Little's law the requests inside are those that arrive times how long they stay, and most of that is decoding. More
inside than the steady state at this rate and clock has are engines that decode slower than was believed.
"""

from __future__ import annotations

import dataclasses
import functools
import math

from capstan.model.profile import Profile

MOST_RATIO = 0.25  # DESIGN 5: a profile is corrected by no more than a quarter either way
STEP_RATIO = 0.05  # corrections in whole steps: an answer worked out for one serves the next cycles, too
LEARNT_S = 600.0
"""Over how long a profile's error is learnt: longer than a burst, and twice within the half hour of the goal."""

BELIEVED_RATIOS = (0.7, 1.4)  # what one look may say: more is a burst or a lull, and none of decoding


def corrected(profile: Profile, decode_ratio: float | None) -> Profile:
    """Return a profile whose decode steps take so many times as long."""
    ratio = 1.0 if decode_ratio is None else round(decode_ratio / STEP_RATIO) * STEP_RATIO
    return profile if ratio == 1.0 else _slower(profile, ratio)


@functools.lru_cache(maxsize=1024)  # the same object in every cycle: equal ones would be compared at every look
def _slower(profile: Profile, ratio: float) -> Profile:
    timing = profile.timing
    slower = dataclasses.replace(
        timing,
        host_s=timing.host_s * ratio,
        weights_s=timing.weights_s * ratio,
        per_sequence_s=timing.per_sequence_s * ratio,
        per_context_token_s=timing.per_context_token_s * ratio,
    )
    return dataclasses.replace(profile, timing=slower)


def learnt(before: float | None, inside_ratio: float | None, *, period_s: float) -> float | None:
    """Return how many times as long decoding takes, with one more look.

    Args:
        before: As of the last look; None: never learnt.
        inside_ratio: Requests inside over those that the physics corrected so far has there; None: not known now.
        period_s: Since the last look.
    """
    if inside_ratio is None:
        return before
    low, high = BELIEVED_RATIOS
    now_ratio = min(max(inside_ratio, low), high)
    known = 1.0 if before is None else before
    after = known * math.pow(now_ratio, min(period_s / LEARNT_S, 1.0))
    return min(max(after, 1 - MOST_RATIO), 1 + MOST_RATIO)
