"""The serving core as one function: observed, policies, profiles, memory in; plan, memory' and reasons out.

Who calls it: `serving.cycle` live, every instance period, and `replay.engine` on virtual time. Must not know: who
asked, what time it is (`observed.now_s` says), where the numbers came from.

Thin and right: one pool per policy, a fixed tp; replicas from the forecast peak at a cluster period and at once on
alarms; the clock with the least joules per token that keeps the SLO at the instance period. Blind, it never removes
capacity and gives up its own caps (promise P3). Three time scales, class pools and live tp come behind the same
signature.
"""

from __future__ import annotations

import dataclasses

from capstan.model import fleet, plan
from capstan.model.policy import Knob, Policy
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.optimize import case as cases
from capstan.optimize import replicas, tune
from capstan.optimize.case import MIN_SAMPLE_REQUESTS, Settings

__all__ = ["MIN_SAMPLE_REQUESTS", "POOL", "Settings", "decide", "profile_for"]

POOL = "all"  # the one pool of the Single scheme


def decide(
    observed: fleet.Observed,
    policies: tuple[Policy, ...],
    profiles: tuple[Profile, ...],
    memory: plan.Memory,
    settings: Settings,
) -> plan.Decision:
    """Decide one cycle for all policies; the order of policies does not matter to any one of them."""
    decided = tuple(_one(observed, policy, profiles, memory.of(policy.key), settings) for policy in policies)
    return plan.Decision(tuple(d for d, _ in decided), plan.Memory(tuple(m for _, m in decided)))


def profile_for(policy: Policy, profiles: tuple[Profile, ...], *, gpu_product: str | None, tp: int) -> Profile | None:
    """Return the profile that speaks for a policy at `tp`: only the named ones where any is named, else by key."""
    if policy.profile_names:
        named = (p for name in policy.profile_names for p in profiles if p.name == name and p.tp == tp)
        return next(named, None)
    return next((p for p in profiles if p.covers(policy.llm, gpu_product, tp)), None)


def _one(
    observed: fleet.Observed,
    policy: Policy,
    profiles: tuple[Profile, ...],
    memory: plan.PolicyMemory,
    settings: Settings,
) -> tuple[plan.PolicyDecision, plan.PolicyMemory]:
    """Decide for one policy."""
    if policy.paused:
        return plan.PolicyDecision(policy.key, (), plan.Effect(), Reason.PAUSED, Reason.PAUSED), memory
    seen = observed.of(policy.key) or fleet.ServiceObserved(policy.key, ())
    pool = _pool(policy, seen, profiles)
    profile = profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=pool.tp)
    if profile is None:
        return _without_profile(policy, pool), memory
    kept = cases.remembered(observed.now_s, seen, memory, settings.lookback_s)
    case = cases.Case(observed.now_s, policy, seen, pool, profile, kept, settings)
    return _planned(case)


def _planned(case: cases.Case) -> tuple[plan.PolicyDecision, plan.PolicyMemory]:
    """Return the decision of a policy whose physics is known, and what the next cycle must know of it."""
    count = replicas.choose(case)
    tuned = tune.choose(case, count.count)
    knobs = case.policy.knobs
    pool = plan.PoolPlan(case.pool.pool, case.pool.tp, count.count, None if knobs.clock is Knob.OFF else tuned.cap_mhz)
    decision = plan.PolicyDecision(
        policy=case.policy.key,
        pools=(pool,),
        expected=tune.expected(case, pool),
        replicas_reason=Reason.KNOB_OFF if knobs.replicas is Knob.OFF else count.reason,
        clock_reason=Reason.KNOB_OFF if knobs.clock is Knob.OFF else tuned.reason,
        forecast_rps=count.forecast_rps,
        candidates=tuned.candidates,
    )
    memory = dataclasses.replace(
        case.memory,
        replicas=count.count,
        replicas_since_s=count.since_s,
        clock_cap_mhz=tuned.cap_mhz,
        clock_since_s=_clock_since_s(case, tuned.cap_mhz),
        lower_clock_votes=tuned.votes,
        voted_at_s=tuned.voted_at_s,
        planned_at_s=case.now_s,
    )
    return decision, memory


def _clock_since_s(case: cases.Case, cap_mhz: float | None) -> float:
    """Return since when a cap stands."""
    before = case.memory
    stands = before.clock_cap_mhz == cap_mhz and before.clock_since_s is not None
    return before.clock_since_s if stands and before.clock_since_s is not None else case.now_s


def _without_profile(policy: Policy, pool: fleet.PoolObserved) -> plan.PolicyDecision:
    """Keep what serves, inside the bounds, at full clock: without physics nothing may be lowered."""
    count, _ = replicas.bounded(policy, pool.desired, pool.tp)
    pools = (plan.PoolPlan(pool.pool, pool.tp, count),)
    return plan.PolicyDecision(policy.key, pools, plan.Effect(), Reason.PROFILE_MISSING, Reason.PROFILE_MISSING)


def _pool(policy: Policy, seen: fleet.ServiceObserved, profiles: tuple[Profile, ...]) -> fleet.PoolObserved:
    """Return the pool in force, or an empty one at the smallest tp of the bounds that has a profile."""
    if seen.pools:
        return max(seen.pools, key=lambda pool: (pool.ready, pool.desired, -pool.tp))
    degrees = policy.bounds.tensor_parallel
    known = [tp for tp in degrees if profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=tp)]
    return fleet.PoolObserved(POOL, (known or list(degrees))[0], desired=0, ready=0)
