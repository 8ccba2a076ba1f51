"""Whether measurements have left the physics: what is learnt of a profile's error is at its limit, and not enough.

Who calls it: `decide`. Must not know: how the margin is learnt (`case`).

The margin is what the closed forms are held to; it tightens while limits are broken and loosens while there is room,
25 % either way. At the tight end with limits still broken, the profile promises what the engines do not keep. At the
loose end it may be that the engines do better, or only that the load is light: that says nothing of the profile.
"""

from __future__ import annotations

from collections.abc import Iterable

from capstan.model import plan, sample
from capstan.model.reasons import Reason
from capstan.optimize.case import MOST_BIAS_RATIO, Case

SPENT_S = 600.0
"""What is scored is of five minutes, and the first room in it loosens the margin (`case.LOOSER_RATIO`): at the tight
end for twice that long, it has not once found room."""

EXCUSES = (Reason.AT_MAXIMUM, Reason.SLO_INFEASIBLE, Reason.POWER_LIMITED, Reason.REQUESTS_WAITING)
"""Why latencies are bad although the physics may be right: there is less than was asked for."""

_ROUNDING_RATIO = 1e-9


def spent_since_s(case: Case, reason: Reason) -> float | None:
    """Return since when the margin stands at its tight end without another excuse; None: it does not.

    Args:
        case: With the margin of this cycle in its memory.
        reason: Why its replicas are what they are.
    """
    tightest = case.settings.slo_margin_ratio * (1 - MOST_BIAS_RATIO)
    tight = case.memory.margin_ratio is not None and case.memory.margin_ratio <= tightest * (1 + _ROUNDING_RATIO)
    if not tight or case.starting or reason in EXCUSES:
        return None
    before_s = case.memory.bias_spent_since_s
    return case.now_s if before_s is None else before_s


def drifted(cases: Iterable[Case], memories: Iterable[plan.PoolMemory]) -> bool | None:
    """Return whether a pool's margin is spent for longer than it takes to recover; None: no latencies were seen."""
    spent, known = False, False
    for case, memory in zip(cases, memories, strict=True):
        since_s = memory.bias_spent_since_s
        spent = spent or (since_s is not None and case.now_s - since_s > SPENT_S)
        known = known or since_s is not None or isinstance(case.seen.stress_ratio, sample.Fresh)
    return spent if known else None
