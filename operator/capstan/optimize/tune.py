"""Which clock now: least watts that keep the SLO; up at once, down after agreeing ticks; blind, no cap of ours.

Safe direction when blind: keep the SLO (full clock). A policy's own power budget still binds: it is the tenant's
wish, and the clock that bounds the worst case under it needs no data.
"""

from __future__ import annotations

from dataclasses import dataclass

from capstan.forecast import peak
from capstan.model import plan, power
from capstan.model.reasons import Reason
from capstan.model.workload import Workload
from capstan.optimize import clock, sizing
from capstan.optimize.case import Case

EARLY_RATIO = 0.9  # a timer that fires a little early is still a tick
KEEP_WITHIN_RATIO = 0.02  # a clock within 2 % of the least watts is kept: the physics is not better than that


@dataclass(frozen=True, slots=True)
class Choice:
    """A clock cap (None: full clock), why, the votes for a lower one, and what was looked at."""

    cap_mhz: float | None
    reason: Reason
    votes: int = 0
    candidates: tuple[plan.Candidate, ...] = ()
    voted_at_s: float | None = None


def choose(case: Case, count: int) -> Choice:
    """Return the clock cap for `count` replicas under the load of now."""
    load = _replica_load(case, count)
    if load is None:
        waits = case.alarmed and case.blind in (None, Reason.NO_TRAFFIC)
        return _unseen(case, count, Reason.REQUESTS_WAITING if waits else case.blind or Reason.STARTING)
    if case.alarmed:
        return _unseen(case, count, Reason.REQUESTS_WAITING)
    question = (case.profile, load, case.policy.slo)
    bounds, margin = case.policy.bounds, case.settings.slo_margin_ratio
    standing_mhz = case.memory.clock_cap_mhz or case.profile.clocks.max_mhz
    search = clock.Search(*question, min_clock_mhz=bounds.min_clock_mhz, margin=margin)
    affordable = _affordable(case, search.run(standing_mhz=standing_mhz), count)
    best = clock.least_power(affordable)
    if best is not None:
        return _moved(case, count, affordable, best)
    options = clock.options(*question, min_clock_mhz=bounds.min_clock_mhz, margin=margin)
    affordable = _affordable(case, options, count)
    best = clock.least_power(affordable)
    return _overcommitted(case, count, options, affordable) if best is None else _moved(case, count, affordable, best)


def _replica_load(case: Case, count: int) -> Workload | None:
    """Return the load that one ready replica carries now, with the counting guard; None while blind."""
    serving = min(case.pool.ready, count)
    if case.blind is not None or serving < 1:
        return None
    rate_rps = peak.guarded_rps(case.memory.rates[-1][1], window_s=case.settings.rate_window_s)
    load = case.load(rate_rps / serving)
    return None if load is None else load.coarse()


def _unseen(case: Case, count: int, reason: Reason) -> Choice:
    """Return full clock, or under a power budget the highest clock whose worst case fits it."""
    budget_w = case.policy.power_budget_w
    gpus = case.pool.tp * max(count, 1)
    if budget_w is None or power.worst_case_w(case.profile, 1.0) * gpus <= budget_w:
        return Choice(None, reason)
    grid = clock.grid_mhz(case.profile, min_clock_mhz=case.policy.bounds.min_clock_mhz)
    fits = (mhz for mhz in grid if power.worst_case_w(case.profile, case.profile.clocks.ratio(mhz)) * gpus <= budget_w)
    return Choice(next(fits, grid[-1]), Reason.POWER_LIMITED)


def _affordable(case: Case, options: tuple[clock.Option, ...], count: int) -> tuple[clock.Option, ...]:
    """Return the options whose mean watts fit the policy's power budget; all of them without one."""
    budget_w = case.policy.power_budget_w
    if budget_w is None:
        return options
    gpus = case.pool.tp * max(count, 1)
    return tuple(o for o in options if o.point is not None and o.point.gpu_w * gpus <= budget_w)


def _overcommitted(
    case: Case, count: int, options: tuple[clock.Option, ...], affordable: tuple[clock.Option, ...]
) -> Choice:
    """Return full clock where only the SLO is out of reach, else the highest clock that the budget allows."""
    if case.policy.power_budget_w is None or len(affordable) == len(options):
        return Choice(None, Reason.SLO_INFEASIBLE)
    if affordable:
        return Choice(affordable[0].clock_mhz, Reason.POWER_LIMITED)
    return _unseen(case, count, Reason.POWER_LIMITED)


def _moved(case: Case, count: int, options: tuple[clock.Option, ...], best: clock.Option) -> Choice:
    """Return the best clock, or the one in force while it is good enough or too few ticks agreed."""
    candidates = _candidates(case, count, options, best)
    standing_mhz = case.memory.clock_cap_mhz or case.profile.clocks.max_mhz
    if _good_enough(options, standing_mhz, best):
        return Choice(case.memory.clock_cap_mhz, Reason.NO_CHANGE_NEEDED, 0, candidates)
    votes, voted_at_s = _votes(case)
    if best.clock_mhz < standing_mhz and votes < case.settings.agreeing_ticks:
        return Choice(case.memory.clock_cap_mhz, Reason.WAITING_FOR_AGREEMENT, votes, candidates, voted_at_s)
    full = best.clock_mhz >= case.profile.clocks.max_mhz
    return Choice(None if full else best.clock_mhz, Reason.LEAST_ENERGY, 0, candidates)


def _votes(case: Case) -> tuple[int, float]:
    """Return the votes for a lower clock with this tick's, and when the last one was cast: at most one a period.

    A cycle that an event woke comes early and is no tick: three pods that become Ready are not three looks at the load.
    """
    before_s = case.memory.voted_at_s
    if before_s is not None and case.now_s - before_s < EARLY_RATIO * case.settings.instance_period_s:
        return case.memory.lower_clock_votes, before_s
    return case.memory.lower_clock_votes + 1, case.now_s


def _good_enough(options: tuple[clock.Option, ...], standing_mhz: float, best: clock.Option) -> bool:
    """Return whether the clock in force keeps the SLO at no more than 2 % above the least watts."""
    standing = next((o for o in options if o.clock_mhz == standing_mhz), None)
    if standing is None or not standing.feasible or standing.point is None or best.point is None:
        return False
    return standing.point.gpu_w <= best.point.gpu_w * (1 + KEEP_WITHIN_RATIO)


def _candidates(
    case: Case, count: int, options: tuple[clock.Option, ...], best: clock.Option
) -> tuple[plan.Candidate, ...]:
    """Return what was looked at, for people: the highest clock, the chosen one and its two neighbours."""
    at = options.index(best)
    shown = {0, max(at - 1, 0), at, min(at + 1, len(options) - 1)}
    gpus = case.pool.tp * count
    return tuple(
        plan.Candidate(
            tp=case.pool.tp,
            replicas=count,
            clock_cap_mhz=o.clock_mhz,
            power_w=None if o.point is None else o.point.gpu_w * gpus,
            reason=Reason.LEAST_ENERGY if o.feasible else Reason.SLO_INFEASIBLE,
            chosen=o is best,
        )
        for i, o in enumerate(options)
        if i in shown
    )


def expected(case: Case, pool: plan.PoolPlan) -> plan.Effect:
    """Return what the plan should cost and achieve once it is in force; empty while blind."""
    load = case.load(case.memory.rates[-1][1] / pool.replicas) if case.blind is None and pool.replicas else None
    if load is None:
        return plan.Effect()
    x = case.profile.clocks.ratio(pool.clock_cap_mhz)
    point = sizing.point(case.profile, load, case.policy.slo, x=x)
    if point is None:
        return plan.Effect()
    power_w = point.gpu_w * pool.gpus
    tokens_per_s = load.arrival_rps * pool.replicas * load.output_tokens
    j_per_token = power_w / tokens_per_s if tokens_per_s > 0 else None
    return plan.Effect(power_w, j_per_token, point.ttft_s, point.tpot_s)
