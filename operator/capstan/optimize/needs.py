"""How many GPUs a policy needs for the load that is there, and to be ready for what may come.

Who calls it: `decide`, every cycle; what it says is remembered, and GPUs are dealt by it in the next (`share`). Must
not know: other policies, what was dealt. What a plan has beyond both saves joules: more GPUs at lower clocks draw less.
"""

from __future__ import annotations

from collections.abc import Sequence

from capstan.model import plan
from capstan.optimize import fleets, replicas, tune
from capstan.optimize.case import Case


def of(cases: Sequence[Case], before: plan.Needs | None) -> plan.Needs:
    """Return what a policy needs for all its pools: more at once, less once that has lasted for a cluster period.

    That is how long its replicas stand, too: what is taken from others for a while would only be given back.
    """
    now_s, hold_s = cases[0].now_s, cases[0].settings.cluster_period_s
    each = [_fleets(case) for case in cases]
    serving = plan.Need(sum(fleets.gpus(own) for own, _ in each), now_s)
    ready = plan.Need(sum(fleets.gpus(own) for _, own in each), now_s)
    if before is None:
        return plan.Needs(serving, ready)
    return plan.Needs(_lasting(before.serving, serving, hold_s), _lasting(before.ready, ready, hold_s))


def _fleets(case: Case) -> tuple[plan.Fleet, plan.Fleet]:
    """Return the fewest replicas that serve what arrives, by the rate that clocks are chosen for, and the peak."""
    if case.blind is not None:
        return case.standing, case.standing
    serving = replicas.fewest(case, tune.needed_rps(case))
    return replicas.with_alarm(case, serving), replicas.fewest(case, replicas.ready_for_rps(case))


def _lasting(before: plan.Need, now: plan.Need, hold_s: float) -> plan.Need:
    return before if now.gpus < before.gpus and now.at_s - before.at_s < hold_s else now
