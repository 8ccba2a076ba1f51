"""How many replicas now: up at once, down only at a cluster period, never down while blind or starting."""

from __future__ import annotations

from dataclasses import dataclass

from capstan.forecast import peak
from capstan.model.policy import Policy
from capstan.model.reasons import Reason
from capstan.optimize import sizing
from capstan.optimize.case import Case

BOUND_REASONS = (Reason.AT_MINIMUM, Reason.AT_MAXIMUM, Reason.SLO_INFEASIBLE)


@dataclass(frozen=True, slots=True)
class Choice:
    """A replica count, why, since when it stands, and the forecast behind it (None while blind)."""

    count: int
    reason: Reason
    since_s: float
    forecast_rps: float | None = None


def bounded(policy: Policy, wanted: int, tp: int) -> tuple[int, Reason | None]:
    """Return `wanted` inside the policy's bounds, and the bound that held it, if any."""
    ceiling = policy.bounds.most_replicas(tp)
    if wanted > ceiling:
        return max(ceiling, policy.bounds.min_replicas), Reason.AT_MAXIMUM
    if wanted < policy.bounds.min_replicas:
        return policy.bounds.min_replicas, Reason.AT_MINIMUM
    return wanted, None


def choose(case: Case) -> Choice:
    """Return the replica count of this cycle. Blind, it keeps what stands (inside the bounds)."""
    standing = _standing(case)
    kept, _ = bounded(case.policy, standing, case.pool.tp)
    if case.blind is Reason.NO_TRAFFIC and case.alarmed and not case.pool.starting:
        # A first burst: requests wait before any has finished, so nothing is known of their lengths yet.
        more, _ = bounded(case.policy, max(standing, case.pool.ready + 1), case.pool.tp)
        return Choice(more, Reason.REQUESTS_WAITING, _since_s(case, more))
    if case.blind is not None:
        return Choice(kept, case.blind, _since_s(case, kept))
    wanted, why, forecast_rps = _wanted(case)
    if wanted > standing and case.seen.capped:
        return Choice(kept, Reason.POWER_LIMITED, _since_s(case, kept), forecast_rps)
    hold = _hold_down(case) if wanted < standing else None
    if hold is not None:
        return Choice(kept, hold, _since_s(case, kept), forecast_rps)
    if wanted == standing and why not in BOUND_REASONS:
        why = Reason.NO_CHANGE_NEEDED
    return Choice(wanted, why, _since_s(case, wanted), forecast_rps)


def _standing(case: Case) -> int:
    """Return the replica count in force: what we planned last, else what the workload asks for."""
    return case.memory.replicas if case.memory.replicas is not None else case.pool.desired


def _since_s(case: Case, count: int) -> float:
    """Return since when `count` stands."""
    stands = case.memory.replicas == count and case.memory.replicas_since_s is not None
    return case.memory.replicas_since_s if stands and case.memory.replicas_since_s is not None else case.now_s


def _hold_down(case: Case) -> Reason | None:
    """Return why the count may not fall yet, or None."""
    if case.pool.starting:
        return Reason.STARTING
    # A restarted operator has not planned yet: one look at the load is no reason to remove what somebody runs.
    since_s = case.memory.replicas_since_s if case.memory.replicas is not None else case.memory.rates[0][0]
    young = since_s is None or case.now_s - since_s < case.settings.cluster_period_s
    return Reason.COOLING_DOWN if young else None


def _wanted(case: Case) -> tuple[int, Reason, float]:
    """Return the count that the forecast peak or an alarm asks for, inside the bounds, with reason and forecast."""
    load = case.load(0.0)
    if load is None:
        raise ValueError("a blind case has no wanted count")
    forecast_rps = peak.peak_rps(
        case.memory.rates,
        now_s=case.now_s,
        lead_s=min(case.settings.cluster_period_s, 2 * case.profile.startup_s),
        window_s=case.settings.rate_window_s,
        recent_s=2 * case.settings.rate_window_s,
    )
    wanted = sizing.smallest(
        case.profile,
        load.coarse(),
        case.policy.slo,
        peak_rps=forecast_rps,
        near=_standing(case),
        margin=case.settings.slo_margin_ratio,
    )
    if wanted is None:
        return max(_standing(case), case.policy.bounds.min_replicas), Reason.SLO_INFEASIBLE, forecast_rps
    why = Reason.FORECAST_PEAK
    if case.short and not case.pool.starting and wanted <= case.pool.ready:
        wanted, why = case.pool.ready + 1, Reason.REQUESTS_WAITING
    count, bound = bounded(case.policy, wanted, case.pool.tp)
    return count, bound or why, forecast_rps
