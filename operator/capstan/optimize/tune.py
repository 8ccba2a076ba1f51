"""Which clock now: least watts that keep the SLO; up at once, down after agreeing ticks; blind, no cap of ours.

Safe direction when blind: keep the SLO (full clock). A policy's own power budget still binds: it is the tenant's
wish, and the clock that bounds the worst case under it needs no data.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from capstan.forecast import peak
from capstan.model import plan, power, sample
from capstan.model.reasons import Reason
from capstan.model.workload import Phase, Workload
from capstan.optimize import bias, clock, fleets, mix, sizing
from capstan.optimize.case import Case

EARLY_RATIO = 0.9  # a timer that fires a little early is still a tick
BUSY_RATIO = 0.8  # of capacity: where the share of each degree is worked out, and where it matters
KEEP_WITHIN_RATIO = 0.04  # a clock within 4 % of the least watts is kept: two steps of the grid differ by less

FALL_ROOM_RATIO = 0.05  # more load that a lower clock must carry: rate and lengths are each known to 2 % (`coarse`)

INSIDE_SIGMAS = 7.0
"""Of the requests inside, a Poisson count where many serve side by side and a wider one near saturation: three move the
clocks of a constant load every minute and five every five (`rig decide steady`); a burst is far beyond seven."""

ENOUGH_INSIDE = 5.0  # requests: of fewer, nothing is learnt and nothing concluded
USUAL_RATIOS = (0.5, 2.0)  # what is learnt of the usual count: a profile is not off by more, a first look may be
MOST_AHEAD_RATIO = 2.0  # a count of one moment is believed for no more than a doubling
USUAL_S = 300.0
"""Over how long the usual count is learnt: a profile that is off, is so for longer; a burst is over sooner."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A clock cap (None: full clock), why, the votes for a lower one, and what was looked at."""

    cap_mhz: float | None
    reason: Reason
    votes: int = 0
    candidates: tuple[plan.Candidate, ...] = ()
    voted_at_s: float | None = None
    inside_ratio: float | None = None
    decode_ratio: float | None = None


def choose(case: Case, fleet: plan.Fleet) -> Choice:
    """Return the clock cap for a fleet under the load of now, or the load that is inside and not in any rate yet."""
    inside_ratio = _inside_ratio(case, fleet)
    found = _chosen(case, fleet, room_ratio=_ahead_ratio(case, inside_ratio))
    now = None if inside_ratio is None or case.alarmed else inside_ratio[0]
    decode_ratio = bias.learnt(case.memory.decode_ratio, now, period_s=case.settings.instance_period_s)
    return dataclasses.replace(found, inside_ratio=_usual_ratio(case, inside_ratio), decode_ratio=decode_ratio)


def _chosen(case: Case, fleet: plan.Fleet, *, room_ratio: float) -> Choice:
    parts = _parts(case, fleet, room_ratio=room_ratio)
    if not parts:
        waits = case.alarmed and case.blind in (None, Reason.NO_TRAFFIC)
        return _unseen(case, fleet, Reason.REQUESTS_WAITING if waits else case.blind or Reason.STARTING)
    if case.alarmed:
        return _unseen(case, fleet, Reason.REQUESTS_WAITING)
    bounds, margin = case.policy.bounds, case.margin
    standing_mhz = case.memory.clock_cap_mhz or case.profiles[0].clocks.max_mhz
    search = clock.Search(parts, case.slo, min_clock_mhz=bounds.min_clock_mhz, margin=margin)
    affordable = _affordable(case, search.run(standing_mhz=standing_mhz), fleet)
    best = clock.least_power(affordable)
    if best is not None:
        return _moved(case, fleet, affordable, best)
    options = clock.options(parts, case.slo, min_clock_mhz=bounds.min_clock_mhz, margin=margin)
    affordable = _affordable(case, options, fleet)
    best = clock.least_power(affordable)
    return _overcommitted(case, fleet, options, affordable) if best is None else _moved(case, fleet, affordable, best)


def _inside_ratio(case: Case, fleet: plan.Fleet) -> tuple[float, float] | None:
    """Return the requests inside over those that the rate of now keeps there at the clock in force, and the latter.

    By Little's law more inside at this clock are more that came: running and waiting are of this moment, a rate is of
    its window (throttLL'eM plans by the batch that is there, too).
    """
    running, waiting = case.seen.running, case.seen.waiting
    if case.blind is not None or not (isinstance(running, sample.Fresh) and isinstance(waiting, sample.Fresh)):
        return None
    load = case.load(_level_rps(case)[0])
    parts = () if load is None else shared(case, _serving(case, fleet), load)
    if not parts:
        return None
    mhz = case.memory.clock_cap_mhz or case.profiles[0].clocks.max_mhz
    points = clock.option(parts, case.slo, clock_mhz=mhz, margin=case.margin).points
    usual = sum(point.batch * part.count for point, part in zip(points, parts, strict=True) if point is not None)
    known = usual >= ENOUGH_INSIDE and None not in points
    return ((running.value + waiting.value) / usual, usual) if known else None


def _ahead_ratio(case: Case, inside: tuple[float, float] | None) -> float:
    """Return how much more load to plan for than was counted, as a share of it."""
    usual_ratio = case.memory.inside_ratio
    if inside is None or usual_ratio is None:
        return 0.0
    ratio, count = inside
    expected = max(usual_ratio * count, 1.0)
    more_ratio = ratio / usual_ratio - 1
    return min(more_ratio, MOST_AHEAD_RATIO - 1) if more_ratio > INSIDE_SIGMAS / math.sqrt(expected) else 0.0


def _usual_ratio(case: Case, inside: tuple[float, float] | None) -> float | None:
    """Return the usual ratio with this cycle's: what a profile is off by must not look like a burst for ever."""
    before = case.memory.inside_ratio
    if inside is None or inside[0] <= 0:
        return before
    now_ratio = min(max(inside[0], USUAL_RATIOS[0]), USUAL_RATIOS[1])
    before = 1.0 if before is None else before
    return before + (now_ratio - before) * min(case.settings.instance_period_s / USUAL_S, 1.0)


def _parts(case: Case, fleet: plan.Fleet, *, room_ratio: float = 0.0) -> tuple[clock.Part, ...]:
    """Return what serves now with the load of each, the counting guard included; none while blind.

    Replicas that are planned away serve no more, those that start do not serve yet. `room_ratio`: so much more load.
    """
    if case.blind is not None:
        return ()
    rate_rps, window_s = _level_rps(case)
    load = case.load(peak.guarded_rps(rate_rps, window_s=window_s) * (1 + room_ratio))
    return () if load is None else shared(case, _serving(case, fleet), load)


def _level_rps(case: Case) -> tuple[float, float]:
    """Return the rate of now, and the span whose counting error a clock must carry.

    That is what stood still for the longest of spans, whole; else of any rate two windows at most.
    """
    rates, window_s = case.memory.rates, case.settings.rate_window_s
    calm = peak.calm_rps(rates, now_s=case.now_s, window_s=window_s)
    if calm is not None and calm[1] >= peak.CALM_S[0]:
        return calm
    rate_rps, read_s = calm or peak.level_rps(rates, window_s=window_s)
    return rate_rps, min(read_s, 2 * window_s)


def _serving(case: Case, fleet: plan.Fleet) -> plan.Fleet:
    """Return what serves of a plan; while degrees change hands, the old ones until the first new one is Ready."""
    wanted = dict(fleet)
    serving = fleets.of({pool.tp: min(pool.ready, wanted.get(pool.tp, 0)) for pool in case.pools})
    return serving or fleets.of({pool.tp: pool.ready for pool in case.pools})


def shared(case: Case, fleet: plan.Fleet, load: Workload) -> tuple[clock.Part, ...]:
    """Return a fleet's parts under a load; where no degree keeps the SLO, each GPU takes its share."""
    each_rps = fleets.capacities_rps(case.profiles, load, case.slo, margin=case.margin, replicas=fleets.replicas(fleet))
    if not any(each_rps.get(tp, 0.0) for tp, _ in fleet):
        each_rps = {profile.tp: float(profile.tp) for profile in case.profiles}
    return mix.shares(case.profiles, fleet, load, each_rps)


def weights(case: Case, fleet: plan.Fleet) -> dict[int, float]:
    """Return how many requests a replica of each degree holds beside the others at equal stress, the most 1.

    A router that evens out requests in flight per weight then gives each what its capacity is of all: a slower replica
    holds each of its requests longer.
    """
    load = case.load(0.0)
    if load is None or len(fleet) < 2:
        return {}
    each_rps = fleets.capacities_rps(case.profiles, load, case.slo, margin=case.margin, replicas=fleets.replicas(fleet))
    inside: dict[int, float] = {}
    for tp, _ in fleet:
        profile = case.profile(tp)
        at = None if profile is None else sizing.point(profile, load.at(BUSY_RATIO * each_rps[tp]).coarse(), case.slo)
        if at is not None:
            inside[tp] = max(at.batch, 1.0)
    return {tp: each / max(inside.values()) for tp, each in inside.items()}


def _unseen(case: Case, fleet: plan.Fleet, reason: Reason) -> Choice:
    """Return full clock, or under a power budget the highest clock whose worst case fits it."""
    budget_w = case.policy.power_budget_w
    if budget_w is None or _worst_w(case, fleet, case.profiles[0].clocks.max_mhz) <= budget_w:
        return Choice(None, reason)
    grid = clock.grid_mhz(case.profiles[0], min_clock_mhz=case.policy.bounds.min_clock_mhz)
    fits = (mhz for mhz in grid if _worst_w(case, fleet, mhz) <= budget_w)
    return Choice(next(fits, grid[-1]), Reason.POWER_LIMITED)


def _worst_w(case: Case, fleet: plan.Fleet, clock_mhz: float) -> float:
    """Return the most that a fleet, one replica at least, draws at a clock."""
    counted = fleet or ((case.tp, 1),)
    known = ((case.profile(tp) or case.profiles[0], tp * count) for tp, count in counted)
    return sum(power.worst_case_w(profile, profile.clocks.ratio(clock_mhz)) * gpus for profile, gpus in known)


def _affordable(case: Case, options: tuple[clock.Option, ...], fleet: plan.Fleet) -> tuple[clock.Option, ...]:
    """Return the options whose mean watts fit the policy's power budget; all of them without one."""
    budget_w = case.policy.power_budget_w
    if budget_w is None:
        return options
    return tuple(o for o in options if _scaled_w(case, o, fleet) <= budget_w)


def _scaled_w(case: Case, option: clock.Option, fleet: plan.Fleet) -> float:
    """Return an option's watts, those of GPUs that are planned and do not serve yet as if they did."""
    serving = fleets.gpus(_serving(case, fleet))
    return option.gpus_w * max(fleets.gpus(fleet) / max(serving, 1), 1.0)


def _overcommitted(
    case: Case, fleet: plan.Fleet, options: tuple[clock.Option, ...], affordable: tuple[clock.Option, ...]
) -> Choice:
    """Return full clock where only the SLO is out of reach, else the highest clock that the budget allows."""
    if case.policy.power_budget_w is None or len(affordable) == len(options):
        return Choice(None, Reason.SLO_INFEASIBLE)
    if affordable:
        return Choice(affordable[0].clock_mhz, Reason.POWER_LIMITED)
    return _unseen(case, fleet, Reason.POWER_LIMITED)


def _moved(case: Case, fleet: plan.Fleet, options: tuple[clock.Option, ...], best: clock.Option) -> Choice:
    """Return the best clock, or the one in force while it is good enough or too few ticks agreed."""
    candidates = _candidates(case, fleet, options, best)
    standing_mhz = case.memory.clock_cap_mhz or case.profiles[0].clocks.max_mhz
    if _good_enough(options, standing_mhz, best):
        return Choice(case.memory.clock_cap_mhz, Reason.NO_CHANGE_NEEDED, 0, candidates)
    if best.clock_mhz < standing_mhz:
        best = _roomier(case, fleet, best)
        if best.clock_mhz >= standing_mhz:
            return Choice(case.memory.clock_cap_mhz, Reason.NO_CHANGE_NEEDED, 0, candidates)
    votes, voted_at_s = _votes(case)
    if best.clock_mhz < standing_mhz and votes < case.settings.agreeing_ticks:
        return Choice(case.memory.clock_cap_mhz, Reason.WAITING_FOR_AGREEMENT, votes, candidates, voted_at_s)
    full = best.clock_mhz >= case.profiles[0].clocks.max_mhz
    return Choice(None if full else best.clock_mhz, Reason.LEAST_ENERGY, 0, candidates)


def _roomier(case: Case, fleet: plan.Fleet, lower: clock.Option) -> clock.Option:
    """Return what to fall to: a clock that would still do under a little more load, so that it need not rise at once.

    More load by what lengths are known to, or by twice the counting error of the longest span.
    """
    room_ratio = max(FALL_ROOM_RATIO, 2 / math.sqrt(max(_level_rps(case)[0] * peak.CALM_S[0], 1.0)))
    parts = _parts(case, fleet, room_ratio=room_ratio)
    search = clock.Search(parts, case.slo, min_clock_mhz=case.policy.bounds.min_clock_mhz, margin=case.margin)
    heavier = clock.least_power(_affordable(case, search.run(), fleet))
    if heavier is None:
        return clock.option(parts, case.slo, clock_mhz=case.profiles[0].clocks.max_mhz, margin=case.margin)
    return heavier if heavier.clock_mhz > lower.clock_mhz else lower


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
    if standing is None or not standing.feasible:
        return False
    return standing.gpus_w <= best.gpus_w * (1 + KEEP_WITHIN_RATIO)


def _candidates(
    case: Case, fleet: plan.Fleet, options: tuple[clock.Option, ...], best: clock.Option
) -> tuple[plan.Candidate, ...]:
    """Return what was looked at, for people: the highest clock, the chosen one and its two neighbours."""
    at = options.index(best)
    shown = {0, max(at - 1, 0), at, min(at + 1, len(options) - 1)}
    return tuple(
        plan.Candidate(
            tp=fleets.main_tp(fleet) or case.tp,
            replicas=fleets.replicas(fleet),
            clock_cap_mhz=o.clock_mhz,
            power_w=None if o.gpus_w == math.inf else _scaled_w(case, o, fleet),
            reason=Reason.LEAST_ENERGY if o.feasible else Reason.SLO_INFEASIBLE,
            chosen=o is best,
        )
        for i, o in enumerate(options)
        if i in shown
    )


def expected(case: Case, fleet: plan.Fleet, clock_cap_mhz: float | None) -> plan.Effect:
    """Return what the plan should cost and achieve once it is in force; empty while blind."""
    load = case.load(case.memory.rates[-1][1]) if case.blind is None else None
    parts = () if load is None else shared(case, fleet, load)
    if load is None or not parts:
        return plan.Effect()
    mhz = clock_cap_mhz or case.profiles[0].clocks.max_mhz
    found = clock.option(parts, case.slo, clock_mhz=mhz, margin=1.0)
    points = [point for point in found.points if point is not None]
    if len(points) < len(parts):
        return plan.Effect()
    tokens_per_s = load.arrival_rps * load.made_tokens
    j_per_token = found.gpus_w / tokens_per_s if tokens_per_s > 0 else None
    ttft_s = None if case.phase is Phase.DECODE else max(p.ttft_s for p in points)
    tpot_s = None if case.phase is Phase.PREFILL else max(p.tpot_s for p in points)
    return plan.Effect(found.gpus_w, j_per_token, ttft_s, tpot_s)
