"""What the knobs that only advise would make of a policy: its pools, their degrees and clocks, where it is worth it.

Who calls it: `decide`, at most once a pool period and policy. Must not know: what was advised before, cycles.

The same code that decides answers: `split.best` chose the pools of the cases, `mix.cheapest` chooses their replicas and
degrees, `clock.searched` their clocks. What stands is not asked: advice is where to go, not how.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from capstan.forecast import peak
from capstan.model import fleet, plan
from capstan.model.policy import Knob, Policy
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh
from capstan.model.workload import Phase
from capstan.optimize import clock, fleets, mix, replicas, tune
from capstan.optimize.case import Case, Settings


def advises(policy: Policy) -> bool:
    """Return whether a knob that shapes pools only advises, and has something to choose from."""
    knobs, bounds = policy.knobs, policy.bounds
    degrees = knobs.tensor_parallel is Knob.ADVISE and len(bounds.tensor_parallel) > 1
    return degrees or (knobs.pools is Knob.ADVISE and policy.pools.several)


def turn(observed: fleet.Observed, policies: Iterable[Policy], memory: plan.Memory, settings: Settings) -> str | None:
    """Return the one policy that is advised in this cycle: the one that waits longest, of those whose period is over.

    One, because to weigh every split takes longer than to decide fifty policies: hundreds of policies are advised less
    often than once a period, and no cycle is long. Who cannot be seen does not take a turn.
    """
    seen = {one.policy for one in observed.services if isinstance(one.arrival_rps, Fresh)}
    advised = {one.policy: one.advised_at_s for one in memory.policies}
    waiting = []
    for policy in policies:
        if advises(policy) and policy.key in seen:
            last_s = advised.get(policy.key)
            if last_s is None or observed.now_s - last_s >= settings.pool_period_s:
                waiting.append((-math.inf if last_s is None else last_s, policy.key))
    return min(waiting)[1] if waiting else None


def of(free: Sequence[Case], acting: Sequence[Case]) -> plan.Advice | None:
    """Return the advice, or None where it saves too little to be worth a hand-over.

    Args:
        free: The pools that there would be if all knobs acted, with the physics of every degree of the bounds.
        acting: The pools in force, with the physics of the degrees that may be used there.
    """
    found = [_answer(case) for case in free]
    answers = [answer for answer in found if answer is not None]
    limit = free[0].most_gpus
    if len(answers) < len(found) or (limit is not None and sum(fleets.gpus(a.fleet) for a in answers) > limit):
        return None
    kept = [_answer(case) for case in acting]
    kept_w = sum(math.inf if answer is None else answer.cost_w for answer in kept)
    advised_w = sum(answer.cost_w for answer in answers)
    if advised_w > kept_w * (1 - replicas.WORTH_RATIO):
        return None
    reason = _why(free, acting)
    caps = [_cap_mhz(case, answer.fleet) for case, answer in zip(free, answers, strict=True)]
    each = list(zip(free, answers, caps, strict=True))
    effects = [tune.expected(case, answer.fleet, cap_mhz) for case, answer, cap_mhz in each]
    tokens_per_s = sum(_tokens_per_s(case) for case in free)
    pools = tuple(entry for case, answer, cap_mhz in each for entry in plans(case, answer.fleet, cap_mhz))
    return plan.Advice(pools, reason, plan.together(effects, tokens_per_s))


def shown(advice: plan.Advice | None, pools: Sequence[plan.PoolPlan]) -> plan.Advice | None:
    """Return the advice where it differs from a plan in its pools or their degrees, else None."""
    if advice is None or _shape(advice.pools) == _shape(pools):
        return None
    return advice


def _shape(pools: Iterable[plan.PoolPlan]) -> set[tuple[tuple[int, ...], Phase, int]]:
    return {(pool.classes, pool.phase, pool.tp) for pool in pools}


def _why(free: Sequence[Case], acting: Sequence[Case]) -> Reason:
    """Return what advised pools have over those in force."""
    if len(free) <= len(acting):
        return Reason.LEAST_ENERGY
    return Reason.CLASSES_APART if free[0].phase is Phase.BOTH else Reason.PHASES_APART


def plans(case: Case, fleet: plan.Fleet, cap_mhz: float | None) -> tuple[plan.PoolPlan, ...]:
    """Return a fleet as entries of a plan, one per degree, with the weight that evens out their stress."""
    weights = tune.weights(case, fleet)
    entries = fleet or ((case.tp, 0),)
    return tuple(
        plan.PoolPlan(case.pool, tp, count, cap_mhz, case.classes, weights.get(tp, 1.0), case.phase)
        for tp, count in entries
    )


def _answer(case: Case) -> mix.Answer | None:
    """Return the cheapest fleet of a pool's degrees for the load of the last pool period; None: none, or blind."""
    load = case.load(0.0)
    if load is None or case.blind is not None:
        return None
    return replicas.cheapest(case, load, replicas.ready_for_rps(case))


def _cap_mhz(case: Case, fleet: plan.Fleet) -> float | None:
    """Return the clock with the least watts for the load of now; None: full clock."""
    level_rps, read_s = peak.level_rps(case.memory.rates, window_s=case.settings.rate_window_s)
    load = case.load(peak.guarded_rps(level_rps, window_s=read_s))
    parts = () if load is None else tune.shared(case, fleet, load)
    if not parts or case.policy.knobs.clock is Knob.OFF:
        return None
    looked = clock.searched(parts, case.slo, min_clock_mhz=case.policy.bounds.min_clock_mhz, margin=case.margin)
    best = clock.least_power(looked)
    full = best is None or best.clock_mhz >= case.profiles[0].clocks.max_mhz
    return None if best is None or full else best.clock_mhz


def _tokens_per_s(case: Case) -> float:
    load = case.load(case.memory.rates[-1][1])
    return 0.0 if load is None else load.arrival_rps * load.made_tokens
