"""Which replicas now: up at once, down only at a cluster period, another tp only where it pays; blind, nothing goes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from capstan.forecast import peak
from capstan.model import plan, power
from capstan.model.policy import Knob, Policy
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh
from capstan.model.workload import Workload
from capstan.optimize import fleets, mix, sizing, watts
from capstan.optimize.case import Case

BOUND_REASONS = (Reason.AT_MINIMUM, Reason.AT_MAXIMUM, Reason.SLO_INFEASIBLE)

DOWN_ROOM_RATIO = 0.4
"""Capacity falls only to what carries the forecast peak and this much more, or as much more as the load was seen to
rise before a replica would be back: one too few costs the SLO within seconds, one too many its idle watts."""

MOST_FALL_RATIO = 0.5
"""And by half at most, where nobody has watched the load for a look-back and no history tells of it."""

PAYS_RATIO = 1.5
"""A change of degrees must save this many times what it costs (facts/dynamollm.md section 6: k >= 1.5)."""


PHASES, STRIDE = 997, 616
"""Moments of a pool period, a prime; keys that differ in one letter only lie a golden section of it apart."""

WORTH_RATIO = 0.05
"""And it must save this share of the watts: every hand-over is a risk, and the closed form is not better than that."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A fleet, why, since when it stands, the forecast behind it (None while blind), when degrees were looked at.

    `asked` is what it would be if power domains limited nobody; None: the same.
    """

    fleet: plan.Fleet
    reason: Reason
    since_s: float
    forecast_rps: float | None = None
    reshaped_at_s: float | None = None
    asked: plan.Fleet | None = None

    @property
    def count(self) -> int:
        """Replicas of all degrees."""
        return fleets.replicas(self.fleet)


def bounded(policy: Policy, wanted: int, tp: int) -> tuple[int, Reason | None]:
    """Return `wanted` replicas of one degree inside the policy's bounds, and the bound that held it, if any."""
    ceiling = policy.bounds.most_replicas(tp)
    if wanted > ceiling:
        return max(ceiling, policy.bounds.min_replicas), Reason.AT_MAXIMUM
    if wanted < policy.bounds.min_replicas:
        return policy.bounds.min_replicas, Reason.AT_MINIMUM
    return wanted, None


def choose(case: Case) -> Choice:
    """Return the fleet of this cycle, as far as power domains let it grow. Blind, it keeps what stands."""
    found = _chosen(case)
    fleet = watts.fitted(case.allowance, found.fleet, case.standing, tp=case.tp)
    if fleet == found.fleet:
        return found
    fleet, _ = _bounded(case, fleet)
    since_s = _since_s(case, fleet)
    return dataclasses.replace(found, fleet=fleet, reason=Reason.POWER_LIMITED, since_s=since_s, asked=found.fleet)


def _chosen(case: Case) -> Choice:
    """Return the fleet that the load asks for, inside the bounds."""
    standing = case.standing
    kept, _ = _bounded(case, standing)
    if case.blind is Reason.NO_TRAFFIC and case.alarmed and not case.starting:
        # A first burst: requests wait before any has finished, so nothing is known of their lengths yet.
        more = fleets.with_more((), case.tp, max(fleets.replicas(standing), case.ready + 1))
        more, _ = _bounded(case, more)
        return Choice(more, Reason.REQUESTS_WAITING, _since_s(case, more))
    if case.blind is not None:
        return Choice(kept, case.blind, _since_s(case, kept))
    if case.policy.knobs.replicas is Knob.OFF:
        return _kept_gpus(case, kept)
    wanted, why, forecast_rps, looked_s = _wanted(case)
    raised = wanted != standing and _carries_more(case, wanted, standing)
    if raised and case.seen.capped and case.allowance.growth_gpus is None:  # nobody says of other domains
        return Choice(kept, Reason.POWER_LIMITED, _since_s(case, kept), forecast_rps, looked_s)
    hold = None if raised or wanted == standing else _hold_down(case)
    if hold is not None:
        return Choice(kept, hold, _since_s(case, kept), forecast_rps, looked_s)
    if not raised and forecast_rps is not None and wanted != standing:
        wanted = _with_room(case, wanted, standing, forecast_rps)
    if wanted == standing and why not in BOUND_REASONS:
        why = Reason.NO_CHANGE_NEEDED
    return Choice(wanted, why, _since_s(case, wanted), forecast_rps, looked_s)


def _with_room(case: Case, wanted: plan.Fleet, standing: plan.Fleet, forecast_rps: float) -> plan.Fleet:
    """Return what capacity may fall to: more than would be kept, so that what is given up is not asked for again."""
    load = case.load(0.0)
    roomier = None if load is None else _resized(case, load, forecast_rps * (1 + _room_ratio(case)))
    same_degrees = {tp for tp, _ in wanted} == {tp for tp, _ in standing}
    if not same_degrees or roomier is None:
        return wanted
    lowered = standing if fleets.covers(roomier, standing) else roomier
    missing = math.ceil(fleets.replicas(standing) * MOST_FALL_RATIO) - fleets.replicas(lowered)
    if missing > 0 and _unknown(case):
        lowered = fleets.with_more(lowered, case.tp, missing)
    return _bounded(case, lowered)[0]


def _unknown(case: Case) -> bool:
    """Return whether the load has not been watched for a look-back, and no history tells of it."""
    watched_s = case.now_s - case.memory.rates[0][0] + case.settings.instance_period_s
    return case.foreseen_rps is None and watched_s < case.settings.lookback_s


def _room_ratio(case: Case) -> float:
    """Return how much more than the peak must be carried after a fall: what the load has risen within a start-up."""
    settings = case.settings
    rise_ratio = peak.rise_ratio(case.memory.rates, lead_s=case.back_s, window_s=settings.rate_window_s)
    return max(DOWN_ROOM_RATIO, rise_ratio)


def _kept_gpus(case: Case, standing: plan.Fleet) -> Choice:
    """Return the GPUs that stand, in the one degree that draws least where degrees are ours to move."""
    load = case.load(0.0)
    if not case.reshapes or load is None or case.starting or not _due(case):
        return Choice(standing, Reason.KNOB_OFF, _since_s(case, standing))
    forecast_rps = ready_for_rps(case)
    question, each_rps = question_of(case, load, forecast_rps), _each_rps(case)
    gpus = fleets.gpus(standing)
    options = [fleets.of({profile.tp: gpus // profile.tp}) for profile in case.profiles]
    carrying = [fleet for fleet in options if fleet and fleets.capacity_rps(fleet, each_rps) >= forecast_rps]
    best = min(carrying, key=lambda fleet: mix.cost_w(question, fleet, each_rps), default=standing)
    return Choice(best, Reason.KNOB_OFF, _since_s(case, best), forecast_rps, case.now_s)


def _bounded(case: Case, fleet: plan.Fleet) -> tuple[plan.Fleet, Reason | None]:
    """Return a fleet with its main degree moved inside the bounds and the GPUs of the pool."""
    tp = fleets.main_tp(fleet) or case.tp
    others = fleets.of({other: count for other, count in fleet if other != tp})
    own = fleets.replicas(fleet) - fleets.replicas(others)
    bounds = case.policy.bounds
    gpus = min((limit for limit in (bounds.max_gpus, case.most_gpus) if limit is not None), default=None)
    room = bounds.max_replicas - fleets.replicas(others)
    room = room if gpus is None else min(room, max(gpus - fleets.gpus(others), 0) // tp)
    least = bounds.min_replicas - fleets.replicas(others)
    if own > room:
        return fleets.with_more(others, tp, max(room, least)), Reason.AT_MAXIMUM
    if own < least:
        return fleets.with_more(others, tp, least), Reason.AT_MINIMUM
    return fleet, None


def _since_s(case: Case, fleet: plan.Fleet) -> float:
    """Return since when `fleet` stands."""
    before_s = case.memory.fleet_since_s
    return before_s if before_s is not None and case.memory.fleet == fleet else case.now_s


def _carries_more(case: Case, fleet: plan.Fleet, other: plan.Fleet) -> bool:
    each_rps = _each_rps(case)
    return fleets.capacity_rps(fleet, each_rps) > fleets.capacity_rps(other, each_rps)


def _each_rps(case: Case) -> Mapping[int, float]:
    load = case.load(0.0)
    count = fleets.replicas(case.standing)
    if load is None:
        return {}
    return fleets.capacities_rps(case.profiles, load, case.slo, margin=case.margin, replicas=count)


def _hold_down(case: Case) -> Reason | None:
    """Return why capacity may not fall yet, or None."""
    if case.starting:
        return Reason.STARTING
    # A restarted operator has not planned yet: one look at the load is no reason to remove what somebody runs.
    since_s = case.memory.fleet_since_s if case.memory.fleet is not None else case.memory.rates[0][0]
    young = since_s is None or case.now_s - since_s < case.settings.cluster_period_s
    return Reason.COOLING_DOWN if young else None


def _wanted(case: Case) -> tuple[plan.Fleet, Reason, float, float | None]:
    """Return the fleet that the forecast peak or an alarm asks for, inside the bounds; reason, forecast, when looked.

    Replicas that start are not shaped again before they are Ready.
    """
    load = case.load(0.0)
    if load is None:
        raise ValueError("a blind case has no wanted fleet")
    forecast_rps = ready_for_rps(case)
    standing = case.standing
    looked_s = case.memory.reshaped_at_s
    why = Reason.FORECAST_PEAK
    reshaped = None
    if case.reshapes and not case.starting and _due(case):
        looked_s = case.now_s
        reshaped = _reshaped(case, load, forecast_rps)
    wanted = reshaped or _resized(case, load, forecast_rps)
    if wanted is None:
        return _bounded(case, standing)[0], Reason.SLO_INFEASIBLE, forecast_rps, looked_s
    alarmed = with_alarm(case, wanted)
    fleet, bound = _bounded(case, alarmed)
    return fleet, bound or (why if alarmed is wanted else Reason.REQUESTS_WAITING), forecast_rps, looked_s


def with_alarm(case: Case, fleet: plan.Fleet) -> plan.Fleet:
    """Return a fleet, or one replica more than serve where these are short of it and no more would come."""
    if not case.short or case.starting or fleets.replicas(fleet) > case.ready:
        return fleet
    return fleets.with_more(case.standing, case.tp, max(case.ready + 1 - fleets.replicas(case.standing), 0))


def fewest(case: Case, arrival_rps: float) -> plan.Fleet:
    """Return the fewest replicas of the main degree that carry a rate at full clock, whatever GPUs the pool may have.

    What stands where nobody may change it or no count does.
    """
    load = case.load(0.0)
    if load is None or case.policy.knobs.replicas is Knob.OFF:
        return case.standing
    free = dataclasses.replace(case, most_gpus=None)
    found = _resized(free, load, arrival_rps)
    return _bounded(free, case.standing if found is None else found)[0]


def ready_for_rps(case: Case) -> float:
    """Return the rate to be ready for: the peak of the next epoch, and what waits, to be worked off within a start-up.

    Without a history the peak is that of the last rates of a cluster period and their trend; with one it is the
    forecast's, and at least that of the last pool period (DynamoLLM's blend of template and recent peak).
    """
    settings = case.settings
    waiting = case.seen.waiting
    foreseen_rps = case.foreseen_rps
    recent_rps = peak.peak_rps(
        case.memory.rates,
        now_s=case.now_s,
        lead_s=min(settings.cluster_period_s, max(2 * case.startup_s, case.back_s)),
        window_s=settings.rate_window_s,
        recent_s=2 * settings.rate_window_s,
        epoch_s=settings.cluster_period_s if foreseen_rps is None else settings.pool_period_s,
    )
    ahead_rps = max(recent_rps, foreseen_rps or 0.0)
    queued = waiting.value if case.queued and isinstance(waiting, Fresh) and not case.seen.capped else 0.0
    return ahead_rps + queued / max(case.startup_s, settings.rate_window_s)


def _due(case: Case) -> bool:
    """Return whether degrees are to be looked at: at the first look, then once a pool period.

    Each policy at its own moment within the period: a look costs ten times the rest, and all at once would be late.
    """
    before_s, period_s = case.memory.reshaped_at_s, case.settings.pool_period_s
    if before_s is None:
        return True
    own_s = int.from_bytes(case.policy.key.encode(), "big") * STRIDE % PHASES / PHASES * period_s
    return (case.now_s - own_s + 1e-6) // period_s > (before_s - own_s + 1e-6) // period_s


def _resized(case: Case, load: Workload, forecast_rps: float) -> plan.Fleet | None:
    """Return the standing fleet with as many replicas of its main degree as the peak asks for; None: no count does."""
    standing, tp = case.standing, case.tp
    others = fleets.of({other: count for other, count in standing if other != tp})
    profile = case.profile(tp)
    if profile is None:
        return None
    each_rps = _each_rps(case)
    left_rps = forecast_rps - fleets.capacity_rps(others, each_rps)
    if left_rps <= 0:
        return others
    near = dict(standing).get(tp, 0)
    lengths = load.coarse_lengths()
    count = sizing.smallest(profile, lengths, case.slo, peak_rps=left_rps, near=near, margin=case.margin)
    return None if count is None else fleets.with_more(others, tp, count)


def _reshaped(case: Case, load: Workload, forecast_rps: float) -> plan.Fleet | None:
    """Return the cheapest mix of degrees where moving to it pays, else None.

    Where too few of what stands find room, it moves whatever it costs, but never through a time without replicas.
    """
    question = question_of(case, load, forecast_rps)
    found = cheapest(case, load, forecast_rps)
    if found is None or found.fleet == case.standing:
        return None if found is None else found.fleet
    each_rps = _each_rps(case)
    kept = _resized(case, load, forecast_rps)
    bridged = _bridged(case, found.fleet, forecast_rps, each_rps)
    if kept is None or not mix.allowed(question, kept):
        return found.fleet if bridged else None
    if not fleets.covers(kept, case.standing):
        kept = _with_room(case, kept, case.standing, forecast_rps)
    kept_w = mix.cost_w(question, kept, each_rps)
    saved_w = kept_w - found.cost_w
    if not bridged:
        return kept
    pays = saved_w * _stay_s(case) > PAYS_RATIO * _moving_j(case, found.fleet)
    return found.fleet if pays and saved_w >= WORTH_RATIO * kept_w else kept


def cheapest(case: Case, load: Workload, forecast_rps: float) -> mix.Answer | None:
    """Return the cheapest fleet of any degrees that carries the peak and, where one does, the room beside it."""
    roomy_rps = forecast_rps * (1 + _room_ratio(case))
    return mix.cheapest(question_of(case, load, roomy_rps)) or mix.cheapest(question_of(case, load, forecast_rps))


def _stay_s(case: Case) -> float:
    """Return for how long a fleet is expected to stand: as long as the load has stood still, one period at least."""
    calm = peak.calm_rps(case.memory.rates, now_s=case.now_s, window_s=case.settings.rate_window_s)
    return max(case.settings.cluster_period_s, 0.0 if calm is None else calm[1])


def _bridged(case: Case, fleet: plan.Fleet, forecast_rps: float, each_rps: Mapping[int, float]) -> bool:
    """Return whether the load is carried while degrees change hands: new replicas fit beside the old ones.

    Where they do not, some old ones have to go first: those that stay must carry the load (promise P4: a
    reconfiguration makes before it breaks).
    """
    standing = case.standing
    counts = dict(standing)
    new = fleets.of({tp: max(count - counts.get(tp, 0), 0) for tp, count in fleet})
    asked = fleets.gpus(standing) + fleets.gpus(new) + case.beside_gpus
    if case.most_gpus is None or asked <= case.most_gpus:
        return True
    lacking = asked - case.most_gpus
    left = dict(standing)
    for tp in sorted(left):
        while left[tp] > dict(fleet).get(tp, 0) and lacking > 0:
            left[tp] -= 1
            lacking -= tp
    return lacking <= 0 and fleets.capacity_rps(fleets.of(left), each_rps) >= forecast_rps


def question_of(case: Case, load: Workload, peak_rps: float) -> mix.Question:
    """Return what the tp mix of this pool is chosen by: the mean rate of the last period or calm, and the peak."""
    rates, window_s = case.memory.rates, case.settings.rate_window_s
    calm = peak.calm_rps(rates, now_s=case.now_s, window_s=window_s)
    recent = [rate for t_s, rate in rates if t_s >= case.now_s - case.settings.pool_period_s]
    mean_rps = calm[0] if calm is not None else sum(recent) / len(recent) if recent else 0.0
    bounds = case.policy.bounds
    return mix.Question(
        profiles=case.profiles,
        load=load.at(mean_rps),
        slo=case.slo,
        peak_rps=max(peak_rps, mean_rps),
        most_replicas=bounds.max_replicas,
        most_gpus=min((gpus for gpus in (bounds.max_gpus, case.most_gpus) if gpus is not None), default=None),
        margin_ratio=case.margin,
        min_clock_mhz=bounds.min_clock_mhz,
        per_gpu_w=case.gpu_w,
    )


def _moving_j(case: Case, fleet: plan.Fleet) -> float:
    """Return the joules of starting what a fleet has more than stands, beside what serves meanwhile.

    Its GPUs are assigned meanwhile: they count as many joules more as the objective says.
    """
    counts = dict(case.standing)
    gpu_w = case.gpu_w
    joules = 0.0
    for profile in case.profiles:
        new = max(dict(fleet).get(profile.tp, 0) - counts.get(profile.tp, 0), 0)
        joules += new * profile.tp * (power.idle_w(profile) + gpu_w) * profile.startup_s
    return joules
