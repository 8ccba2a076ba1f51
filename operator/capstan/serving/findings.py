"""Conditions that follow from what was seen and decided: profile, SLO, progress, readiness, pause.

Who calls it: `cycle`. Pure; the conditions of actuation come from `actuate`, those of metrics from `observe`, those
of power from `domains`.
"""

from __future__ import annotations

from collections.abc import Iterable

from capstan import decide
from capstan.model import fleet, sample
from capstan.model.plan import PolicyDecision
from capstan.model.policy import Knob, Policy
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import case, closest
from capstan.serving.conditions import Condition, Type
from capstan.serving.view import View

OUT_OF_ROOM = (Reason.SLO_INFEASIBLE, Reason.AT_MAXIMUM)  # else more replicas are on their way, or held for a while
AT_RISK_RATIO = 0.9  # the decision plans for this share of a limit; above it the plan's own margin is used up
MIN_REQUESTS = case.MIN_SAMPLE_REQUESTS


def profile(view: View, seen: fleet.ServiceObserved, profiles: tuple[Profile, ...], tp: int) -> Condition:
    """Return ProfileReady; where none matches, the nearest and what differs."""
    policy = view.policy
    found = decide.profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=tp)
    if found is not None:
        left_out = _unprofiled(policy, seen, profiles)
        if not left_out:
            return Condition(Type.PROFILE_READY, True, Reason.COVERED, found.name)
        message = f"{found.name}; no ServingProfile for tp {', '.join(map(str, left_out))} of spec.bounds: left out"
        return Condition(Type.PROFILE_READY, True, Reason.TENSOR_PARALLEL_UNPROFILED, message)
    gpu = seen.gpu_product or "any GPU"
    message = f"no ServingProfile for model {policy.llm}, {gpu}, tp {tp}: serving at full clock, replicas held"
    nearest = max(profiles, key=lambda p: _likeness(p, policy.llm, seen.gpu_product, tp), default=None)
    if nearest is not None:
        differs = _differences(nearest, policy.llm, seen.gpu_product, tp)
        message += f"; nearest is {nearest.name}, which differs in {', '.join(differs) or 'its name'}"
    return Condition(Type.PROFILE_READY, False, Reason.PROFILE_MISSING, message)


def slo(view: View, seen: fleet.ServiceObserved) -> Condition:
    """Return SLOMet from the observed percentiles; too few requests to say is Unknown."""
    limits = view.policy.slo
    for value in (seen.ttft_s, seen.tpot_s):
        if isinstance(value, sample.Missing):
            return Condition(Type.SLO_MET, None, value.reason)
        if isinstance(value, sample.Stale):
            return Condition(Type.SLO_MET, None, Reason.STALE_DATA)
    if not isinstance(seen.sample_requests, sample.Fresh) or seen.sample_requests.value < MIN_REQUESTS:
        return Condition(Type.SLO_MET, None, Reason.UNKNOWN, f"fewer than {MIN_REQUESTS:.0f} requests in the window")
    used = max(
        v.value / limit
        for v, limit in ((seen.ttft_s, limits.ttft_s), (seen.tpot_s, limits.tpot_s))
        if isinstance(v, sample.Fresh)
    )
    if used > 1:
        return Condition(Type.SLO_MET, False, Reason.VIOLATED)
    return Condition(Type.SLO_MET, True, Reason.AT_RISK if used > AT_RISK_RATIO else Reason.MET)


def feasible(
    view: View, seen: fleet.ServiceObserved, decision: PolicyDecision, profiles: tuple[Profile, ...], margin: float
) -> Condition:
    """Return SLOFeasible: whether some configuration within the bounds meets the SLO, and if not, the nearest miss."""
    peak_rps, load, slo = decision.forecast_rps, _load(seen), view.policy.slo
    if peak_rps is None:
        return Condition(Type.SLO_FEASIBLE, None, decision.replicas_reason)
    if decision.replicas_reason not in OUT_OF_ROOM or load is None:
        return Condition(Type.SLO_FEASIBLE, True, Reason.FEASIBLE)
    known = _profiles(view.policy, seen, profiles)
    found = closest.of(known, load, slo, view.policy.bounds, peak_rps=peak_rps, margin=margin)
    if found is None or (found.needed is not None and found.needed <= found.allowed):
        return Condition(Type.SLO_FEASIBLE, True, Reason.FEASIBLE)
    return Condition(Type.SLO_FEASIBLE, False, Reason.SLO_INFEASIBLE, _nearest_miss(found, slo, peak_rps))


def drifts(decision: PolicyDecision) -> tuple[Condition, ...]:
    """Return ForecastDrift and ProfileDrift, each once something is known of it."""
    said = (
        (Type.FORECAST_DRIFT, decision.forecast_drifted, "the load has left its pattern: its band is widened"),
        (Type.PROFILE_DRIFT, decision.profile_drifted, "measurements have left the profile: a bias corrects it"),
    )
    return tuple(
        Condition(kind, drifted, Reason.DRIFTED if drifted else Reason.NO_CHANGE_NEEDED, text if drifted else "")
        for kind, drifted, text in said
        if drifted is not None
    )


def progressing(view: View, decision: PolicyDecision | None) -> Condition:
    """Return Progressing: whether pods that should serve do not yet, and what they wait for."""
    failure = next((p.workload.failure for p in view.pools if p.workload is not None and p.workload.failure), "")
    if failure:
        reason = Reason.QUOTA_EXCEEDED if "quota" in failure else Reason.API_REJECTED
        return Condition(Type.PROGRESSING, True, reason, failure)
    blocked = next((p.blocked for p in view.pods if p.blocked and not p.draining), "")
    if blocked:
        reason = Reason.INSUFFICIENT_GPUS if "Insufficient nvidia.com/gpu" in blocked else Reason.PENDING
        return Condition(Type.PROGRESSING, True, reason, blocked)
    if any(not p.serving for p in view.pods):
        return Condition(Type.PROGRESSING, True, Reason.STARTING)
    if decision is not None and _short(view, decision):
        return Condition(Type.PROGRESSING, True, Reason.PENDING)
    return Condition(Type.PROGRESSING, False, Reason.NO_CHANGE_NEEDED)


def ready(view: View, decision: PolicyDecision | None, others: Iterable[Condition]) -> Condition:
    """Return Ready: pods serve, and what is there is what was planned (promise P8)."""
    wrong = next((c for c in others if c.type in (Type.ENGINE_READY, Type.TARGET_FOUND) and c.holds is False), None)
    if wrong is not None:
        return Condition(Type.READY, False, wrong.reason, wrong.message)
    serving = sum(pool.ready for pool in view.pools)
    if serving == 0:
        return Condition(Type.READY, False, Reason.STARTING, "no pod is Ready")
    if decision is not None and view.policy.knobs.replicas is Knob.ACT and _short(view, decision):
        return Condition(Type.READY, False, Reason.PENDING, f"{serving} pods are Ready, fewer than planned")
    return Condition(Type.READY, True, Reason.PAUSED if view.policy.paused else Reason.APPLIED)


def paused(view: View) -> Condition:
    """Return Paused."""
    if view.policy.paused:
        return Condition(Type.PAUSED, True, Reason.PAUSED, "spec.paused: nothing is changed until it is false")
    return Condition(Type.PAUSED, False, Reason.NO_CHANGE_NEEDED)


def _short(view: View, decision: PolicyDecision) -> bool:
    """Return whether fewer pods are Ready than the plan has (more is a drain, and serves)."""
    if view.policy.knobs.replicas is not Knob.ACT:
        return False
    pools = ((plan, view.pool(plan.pool, plan.tp)) for plan in decision.pools)
    return any((pool.ready if pool is not None else 0) < plan.replicas for plan, pool in pools)


def _nearest_miss(found: closest.Closest, slo: Slo, peak_rps: float) -> str:
    """Return what comes closest to the SLO, and by how much it misses."""
    if found.needed is not None:
        return (
            f"closest is tp {found.tp} at full clock: {peak_rps:.3g} requests a second need {found.needed} replicas, "
            f"the bounds leave {found.allowed}; raise spec.bounds, or relax spec.slo"
        )
    if found.alone is None:
        return f"closest is tp {found.tp}, and not one request of these lengths fits into its memory"
    return (
        f"closest is tp {found.tp} at full clock: TTFT {1000 * found.alone.ttft_s:.0f} of {1000 * slo.ttft_s:.0f} ms, "
        f"TPOT {1000 * found.alone.tpot_s:.0f} of {1000 * slo.tpot_s:.0f} ms for a request that is alone, before any "
        "margin; relax spec.slo, or allow larger degrees"
    )


def _load(seen: fleet.ServiceObserved) -> Workload | None:
    """Return the lengths of what is asked for, None where they are not known."""
    prompt, output = seen.prompt_tokens, seen.output_tokens
    if not (isinstance(prompt, sample.Fresh) and isinstance(output, sample.Fresh)):
        return None
    return Workload(0.0, max(prompt.value, 1.0), max(output.value, 1.0))


def _profiles(policy: Policy, seen: fleet.ServiceObserved, profiles: tuple[Profile, ...]) -> tuple[Profile, ...]:
    """Return the physics of every degree of the bounds that has one."""
    degrees = policy.bounds.tensor_parallel
    known = (decide.profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=tp) for tp in degrees)
    return tuple(found for found in known if found is not None)


def _unprofiled(policy: Policy, seen: fleet.ServiceObserved, profiles: tuple[Profile, ...]) -> tuple[int, ...]:
    """Return the degrees that a plan or its advice would use, and cannot for want of a profile."""
    if policy.knobs.tensor_parallel is Knob.OFF:
        return ()
    known = {profile.tp for profile in _profiles(policy, seen, profiles)}
    return tuple(tp for tp in policy.bounds.tensor_parallel if tp not in known)


def _likeness(profile: Profile, llm: str, gpu_product: str | None, tp: int) -> int:
    return 3 - len(_differences(profile, llm, gpu_product, tp))


def _differences(profile: Profile, llm: str, gpu_product: str | None, tp: int) -> list[str]:
    checks = (
        ("model", llm in profile.models),
        ("GPU", gpu_product is None or gpu_product in profile.gpu_products),
        ("tp", tp == profile.tp),
    )
    return [name for name, same in checks if not same]
