"""Which clock now: least watts that keep the SLO; up at once, down after agreeing ticks; blind, no cap of ours.

Safe direction when blind: keep the SLO (full clock). A policy's own power budget still binds: it is the tenant's
wish, and the clock that bounds the worst case under it needs no data.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from capstan.forecast import peak
from capstan.model import plan, power, workload
from capstan.model.reasons import Reason
from capstan.model.workload import Phase, Workload
from capstan.optimize import bias, clock, fleets, inside, mix, raises, sizing
from capstan.optimize.case import Case

EARLY_RATIO = 0.9  # a timer that fires a little early is still a tick
BUSY_RATIO = 0.8  # of capacity: where the share of each degree is worked out, and where it matters
KEEP_WITHIN_RATIO = 0.04  # a clock within 4 % of the least watts is kept: two steps of the grid differ by less

STAYS = 5.0
"""For how many stays a load must have been watched before the count inside says how long engines decode. Lengths are
those of requests that have ended: of lognormal answers three stays end 95 %, and the mean then needs a few more."""

FALL_ROOM_RATIO = 0.05  # a higher rate that a lower clock must carry, at least

REST_S = 600.0
"""Under a calm load a clock falls once in so long: the issue asks for one change in ten minutes, and as the margin is
learnt upwards it would fall by a step every five. What that costs is a step's 5 % of the watts until then."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The cap that was chosen last for a load that lasts (None: full clock), and since when; None: none was yet."""

    cap_mhz: float | None = None
    since_s: float | None = None


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
    settled: Settled = Settled()
    asked_w: float = 0.0  # watts that the clock it wanted takes more than the one in force


def choose(case: Case, fleet: plan.Fleet) -> Choice:
    """Return the clock cap for a fleet under the load of now, or the load that is inside and not in any rate yet."""
    seen = _inside(case, fleet)
    room_ratio = inside.ahead_ratio(case, seen)
    found = _granted(case, fleet, _chosen(case, fleet, room_ratio=room_ratio))
    if case.seen.capped:  # it is the cap that is slow: nothing is learnt of the profile
        memory = case.memory
        kept = Settled(memory.settled_cap_mhz, memory.settled_since_s)
        return dataclasses.replace(
            found, inside_ratio=memory.inside_ratio, decode_ratio=memory.decode_ratio, settled=kept
        )
    return dataclasses.replace(
        found,
        inside_ratio=inside.usual_ratio(case, seen),
        decode_ratio=bias.learnt(
            case.memory.decode_ratio, _decoding_ratio(case, seen), period_s=case.settings.instance_period_s
        ),
        settled=_settled(case, found, room_ratio),
    )


def _granted(case: Case, fleet: plan.Fleet, found: Choice) -> Choice:
    """Return a choice whose clock rises no further than on the watts that power domains grant."""
    full_mhz = case.profiles[0].clocks.max_mhz
    wanted_mhz = found.cap_mhz or full_mhz
    if case.allowance.clock_w == math.inf or wanted_mhz <= (case.memory.clock_cap_mhz or full_mhz):
        return found
    rise = raises.granted(case, fleet, _parts(case, fleet), wanted_mhz)
    cap_mhz = None if rise.clock_mhz >= full_mhz else rise.clock_mhz
    held = cap_mhz != found.cap_mhz
    reason = Reason.POWER_LIMITED if held else found.reason
    return dataclasses.replace(found, cap_mhz=cap_mhz, reason=reason, asked_w=rise.asked_w)


def _decoding_ratio(case: Case, seen: inside.Look | None) -> float | None:
    """Return what a look says of how long engines decode; None: nothing.

    While those that came first may still be inside, lengths are those of short answers alone.
    """
    if seen is None or not seen.settled or case.alarmed:
        return None
    watched_s = case.memory.lengths_cycles * case.settings.instance_period_s
    return None if watched_s < STAYS * seen.stay_s else seen.inside_ratio


def _settled(case: Case, found: Choice, room_ratio: float) -> Settled:
    """Return what was chosen last for a load that lasts: an alarm and what is inside are over in a while."""
    before = Settled(case.memory.settled_cap_mhz, case.memory.settled_since_s)
    moved = before.since_s is None or found.cap_mhz != before.cap_mhz
    lasts = found.reason is Reason.LEAST_ENERGY and room_ratio == 0
    return Settled(found.cap_mhz, case.now_s) if moved and lasts else before


def _chosen(case: Case, fleet: plan.Fleet, *, room_ratio: float) -> Choice:
    parts = _parts(case, fleet, room_ratio=room_ratio)
    if not parts:
        waits = case.alarmed and case.blind in (None, Reason.NO_TRAFFIC)
        return _unseen(case, fleet, Reason.REQUESTS_WAITING if waits else case.blind or Reason.STARTING)
    if case.alarmed:
        return _unseen(case, fleet, Reason.REQUESTS_WAITING)
    floor_mhz, margin = case.policy.bounds.min_clock_mhz, case.margin
    standing_mhz = case.memory.clock_cap_mhz or case.profiles[0].clocks.max_mhz
    looked = clock.searched(parts, case.slo, min_clock_mhz=floor_mhz, margin=margin, standing_mhz=standing_mhz)
    affordable = _affordable(case, looked, fleet)
    best = clock.least_power(affordable)
    if best is not None:
        return _moved(case, fleet, affordable, best)
    options = clock.options(parts, case.slo, min_clock_mhz=floor_mhz, margin=margin)
    affordable = _affordable(case, options, fleet)
    best = clock.least_power(affordable)
    return _overcommitted(case, fleet, options, affordable) if best is None else _moved(case, fleet, affordable, best)


def _inside(case: Case, fleet: plan.Fleet) -> inside.Look | None:
    """Return what is inside of the replicas that serve, against what the load as counted keeps there."""
    load = None if case.blind is not None else case.load(_level_rps(case)[0])
    return None if load is None else inside.look(case, shared(case, _serving(case, fleet), load))


def _parts(
    case: Case, fleet: plan.Fleet, *, room_ratio: float = 0.0, longer_ratio: float = 1.0
) -> tuple[clock.Part, ...]:
    """Return what serves now with the load of each, the counting guard included; none while blind.

    Replicas that are planned away serve no more, those that start do not serve yet. `room_ratio`: so much more load;
    `longer_ratio`: of requests so many times as long.
    """
    if case.blind is not None:
        return ()
    load = case.load(needed_rps(case) * (1 + room_ratio))
    return () if load is None else shared(case, _serving(case, fleet), load.longer(longer_ratio))


def needed_rps(case: Case) -> float:
    """Return the rate that a clock must carry: that of now, and its counting error."""
    rate_rps, window_s = _level_rps(case)
    return peak.guarded_rps(rate_rps, window_s=window_s)


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
    held: dict[int, float] = {}
    for tp, _ in fleet:
        profile = case.profile(tp)
        at = None if profile is None else sizing.point(profile, load.at(BUSY_RATIO * each_rps[tp]).coarse(), case.slo)
        if at is not None:
            held[tp] = max(at.batch, 1.0)
    return {tp: each / max(held.values()) for tp, each in held.items()}


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
    mhz = best.clock_mhz
    if mhz < standing_mhz:
        mhz = _resting_mhz(case)
        if mhz < standing_mhz:  # else nothing lower is asked for
            mhz = max(_roomier(case, fleet, best).clock_mhz, mhz)
        if mhz >= standing_mhz:
            return Choice(case.memory.clock_cap_mhz, Reason.NO_CHANGE_NEEDED, 0, candidates)
    votes, voted_at_s = _votes(case)
    if mhz < standing_mhz and votes < case.settings.agreeing_ticks:
        return Choice(case.memory.clock_cap_mhz, Reason.WAITING_FOR_AGREEMENT, votes, candidates, voted_at_s)
    full = mhz >= case.profiles[0].clocks.max_mhz
    return Choice(None if full else mhz, Reason.LEAST_ENERGY, 0, candidates)


def _roomier(case: Case, fleet: plan.Fleet, lower: clock.Option) -> clock.Option:
    """Return what to fall to: a clock that would still do under a little more load, so that it need not rise at once.

    A higher rate, by twice the counting error of the longest span, and longer requests, by what lengths are known to.
    """
    room_ratio = max(FALL_ROOM_RATIO, 2 / math.sqrt(max(_level_rps(case)[0] * peak.CALM_S[0], 1.0)))
    parts = _parts(case, fleet, room_ratio=room_ratio, longer_ratio=workload.GRID_RATIO)
    looked = clock.searched(parts, case.slo, min_clock_mhz=case.policy.bounds.min_clock_mhz, margin=case.margin)
    heavier = clock.least_power(_affordable(case, looked, fleet))
    if heavier is None:
        return looked[0]
    return heavier if heavier.clock_mhz > lower.clock_mhz else lower


def _resting_mhz(case: Case) -> float:
    """Return the clock below which none falls yet: where it settled, while it rests there; 0: none.

    Back to there at once, below it once it has rested. Only under a load that stands still, and on one fleet.
    """
    memory, now_s = case.memory, case.now_s
    since_s = memory.settled_since_s
    if since_s is None or now_s - since_s >= REST_S or since_s < (memory.fleet_since_s or 0.0):
        return 0.0
    calm = peak.calm_rps(memory.rates, now_s=now_s, window_s=case.settings.rate_window_s)
    return 0.0 if calm is None else memory.settled_cap_mhz or case.profiles[0].clocks.max_mhz


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
