"""While a domain caps replicas: route to where there is headroom, shed low priority, move replicas; only then SLO debt.

Who calls it: `decide`, for each policy that is capped. Must not know: who routes, who answers 429. DESIGN 4.

Capping an open system without shedding is unstable (facts/polca.md, fact 9): the queue grows without end, every request
is late, and what was refused at once would have been served elsewhere. High priority is never shed, and of low priority
nobody while those who wait are in time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capstan.forecast import peak
from capstan.model import headroom, plan, sample, saturated
from capstan.model.headroom import DomainSeen, Place
from capstan.model.policy import Priority
from capstan.model.profile import Profile
from capstan.model.workload import Workload
from capstan.optimize import sizing, watts
from capstan.optimize.case import MIN_SAMPLE_REQUESTS, Case

FULL_RATIO = 0.9  # DESIGN 4: the utilisation of capped replicas that low priority is shed to, and others may owe from
HALF_RATIO = 0.5
"""What utilisation is a share of: the rate at which half of the requests would be late, which is where queues begin to
grow (tests/replay/test_ladder.py: a tenth above it every request is late in the end). Nine tenths of the rate at which
the SLO's own percentile is late would refuse many who could be answered in time."""
HALFWAY_RATIO = 0.5  # of the limit of first tokens: the other half is for those who wait when refusing begins
LEAST_RATIO = 0.1  # of its even share: a capped replica that gets nothing draws its idle watts all the same
SHED_STEP_RATIO = 0.05  # what is shed moves in such steps, and down only by two: a rate wavers by as much as one
WEIGHT_STEPS = 10  # weights in tenths: no router is told of less, nor of one step more or less


@dataclass(frozen=True, slots=True)
class PlannedClock:
    """What a plan caps clocks at (None: nothing), and whether it may be raised where more load comes."""

    cap_mhz: float | None = None
    may_rise: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """Ready replicas of one degree in one domain.

    Attributes:
        x_ratio, carried_rps: Their clock, and what all of them carry inside their limits at it.
        capacity_rps: What they carry at the highest clock that they may have until half of the requests are late.
        roomy: Whether their domain caps them not.
        spare_rps: What more the watts that their domain leaves would carry.
        keeps: Whether they keep the limits at any rate; else their capacity is what they serve at all.
    """

    place: Place
    profile: Profile
    x_ratio: float
    carried_rps: float
    capacity_rps: float
    roomy: bool
    spare_rps: float
    keeps: bool


def power_plan(
    case: Case,
    domains: Mapping[str, DomainSeen],
    memory: plan.PowerMemory,
    *,
    clock: PlannedClock,
    moves: bool,
) -> plan.PowerPlan:
    """Return what is done for a policy of one pool; nothing while no domain caps it, or nothing is known of its load.

    Args:
        case: Its pool.
        domains: Those that act, by name.
        memory: What was done before.
        clock: What its plan caps clocks at.
        moves: Whether a replica may be moved now.
    """
    load = None if case.blind is not None else case.load(_level_rps(case))
    groups = () if load is None else groups_of(case, domains, load, clock)
    if load is None or not groups or all(group.roomy for group in groups):
        return plan.NO_POWER_PLAN
    carried_ratio = sum(group.capacity_rps for group in groups) / max(load.arrival_rps, 1e-9)
    lacking_ratio = 1 - FULL_RATIO * carried_ratio
    low = case.policy.priority is Priority.LOW
    return plan.PowerPlan(
        shares=_settled(shares(case, groups, load), memory.shares),
        shed_ratio=shed_ratio(1 - _full_ratio(case) * carried_ratio, memory.shed_ratio) if low else 0.0,
        moves=_moves(case, groups, domains) if moves and lacking_ratio > 0 else (),
        indebted=not all(group.keeps for group in groups) or (lacking_ratio > 0 and not low),
    )


def _full_ratio(case: Case) -> float:
    """Return the utilisation up to which nobody is refused: `FULL_RATIO` once latencies near their limits, or unknown.

    Above 1 a queue grows, and the wait in it, by what is above 1 in every second. While first tokens come in less than
    half of their limit it may: by so much that the wait is at that half when the next window has shown it.
    Example: first tokens after 2 s of 10 s, latencies of the last 60 s: 1 + (5 - 2) / 60 = 1.05.
    """
    ttft, tpot, counted = case.seen.ttft_s, case.seen.tpot_s, case.seen.sample_requests
    if not (isinstance(ttft, sample.Fresh) and isinstance(tpot, sample.Fresh) and isinstance(counted, sample.Fresh)):
        return FULL_RATIO
    if counted.value < MIN_SAMPLE_REQUESTS or tpot.value > case.margin * case.slo.tpot_s:
        return FULL_RATIO
    room_s = HALFWAY_RATIO * case.slo.ttft_s - ttft.value
    return 1 + room_s / case.settings.rate_window_s if room_s > 0 else FULL_RATIO


def _level_rps(case: Case) -> float:
    """Return the rate that a share is shed of: of the longest span that it stood still for, else of the last window."""
    rates, window_s = case.memory.rates, case.settings.rate_window_s
    calm = peak.calm_rps(rates, now_s=case.now_s, window_s=window_s)
    return rates[-1][1] if calm is None else calm[0]


def remembered(
    now_s: float, capped: bool, before: plan.PowerMemory, found: plan.PowerPlan, asked: plan.PowerMemory
) -> plan.PowerMemory:
    """Return what the next cycle must know; `asked` holds what this plan asked for."""
    since_s = now_s if before.capped_since_s is None else before.capped_since_s
    return dataclasses.replace(
        asked,
        shed_ratio=found.shed_ratio,
        shares=found.shares,
        capped_since_s=since_s if capped else None,
        moved_at_s=now_s if found.moves else before.moved_at_s,
    )


def groups_of(case: Case, domains: Mapping[str, DomainSeen], load: Workload, clock: PlannedClock) -> tuple[Group, ...]:
    """Return the Ready replicas of a pool by domain and degree."""
    places = [place for place in case.seen.places if place.ready > 0 and case.profile(place.tp) is not None]
    count = sum(place.ready for place in places)
    return tuple(_group(case, place, domains, load, clock, count=count) for place in places)


def _group(
    case: Case, place: Place, domains: Mapping[str, DomainSeen], load: Workload, clock: PlannedClock, *, count: int
) -> Group:
    profile = case.profile(place.tp) or case.profiles[0]
    priority = case.policy.priority
    cap_mhz = headroom.cap_mhz(place.domain, priority, domains)
    highest = profile.clocks.ratio(cap_mhz)
    x = min(highest, profile.clocks.ratio(clock.cap_mhz))
    ratios = (x, highest if clock.may_rise else x)
    half = dataclasses.replace(case.slo, percentile_ratio=HALF_RATIO)
    at, kept, most = (
        sizing.capacity_rps(profile, load.coarse_lengths(), slo, x=ratio, margin=1.0, replicas=sizing.pooled(count))
        for ratio, slo in ((ratios[0], case.slo), (ratios[1], case.slo), (ratios[1], half))
    )
    return Group(
        place,
        profile,
        x,
        carried_rps=place.ready * (at or _served_rps(profile, load, x)),
        capacity_rps=place.ready * (most or _served_rps(profile, load, ratios[1])),
        roomy=cap_mhz is None,
        spare_rps=_spare_rps(case, place, profile, domains, place.ready * kept) if cap_mhz is None else 0.0,
        keeps=kept > 0,
    )


def _spare_rps(
    case: Case, place: Place, profile: Profile, domains: Mapping[str, DomainSeen], capacity_rps: float
) -> float:
    """Return what more the watts that a domain leaves would carry, at what busy replicas draw."""
    if place.domain not in domains:
        return math.inf
    subject = watts.Subject(case.policy, case.seen, profile, case.load(0.0), plan.NO_POWER_MEMORY)
    busy_w = max(subject.busy_w(), 1.0) * place.tp * place.ready / domains[place.domain].supply_efficiency_ratio
    return capacity_rps * watts.growth_left_w(place.domain, domains, case.policy.priority) / busy_w


def _served_rps(profile: Profile, load: Workload, x: float) -> float:
    """Return what one replica answers when it never runs dry, whatever the latencies."""
    full = saturated.Load(profile.max_num_seqs, load.prompt_tokens, load.output_tokens, profile.chunk_tokens)
    return saturated.steady(profile, full, x, profile.tp).tokens_per_s / load.output_tokens


def shed_ratio(lacking_ratio: float, before_ratio: float) -> float:
    """Return the share of requests to refuse: up at once to the next step, down once two steps less would do.

    Example: capacity for 10 rps, 12 rps arrive: 1 - 0.9 x 10 / 12 = 0.25.
    """
    wanted = math.ceil(max(lacking_ratio, 0.0) / SHED_STEP_RATIO - 1e-9) * SHED_STEP_RATIO
    stands = before_ratio - 2 * SHED_STEP_RATIO <= lacking_ratio <= before_ratio
    return before_ratio if stands else round(min(wanted, 1.0), 4)


def shares(case: Case, groups: Sequence[Group], load: Workload) -> tuple[plan.Share, ...]:
    """Return where requests go: evenly by what each carries, from capped groups as much as the others have room for.

    The weight of a replica is what it then has inside, beside the fullest: a router that evens out requests in flight
    per weight gives each its rate. Nothing is said where all are alike.
    """
    total_rps = sum(group.carried_rps for group in groups)
    if total_rps <= 0 or len({(group.roomy, group.x_ratio) for group in groups}) == 1:
        return ()
    even = [load.arrival_rps * group.carried_rps / total_rps for group in groups]
    room = [
        min(max(FULL_RATIO * g.carried_rps - rate, 0.0), g.spare_rps) if g.roomy else 0.0
        for g, rate in zip(groups, even, strict=True)
    ]
    movable_rps = (1 - LEAST_RATIO) * sum(rate for g, rate in zip(groups, even, strict=True) if not g.roomy)
    moved_rps = min(movable_rps, sum(room))
    kept = 1 - (1 - LEAST_RATIO) * moved_rps / movable_rps if movable_rps > 0 else 1.0
    rates = [
        rate + moved_rps * own / max(sum(room), 1e-9) if g.roomy else rate * kept
        for g, rate, own in zip(groups, even, room, strict=True)
    ]
    inside = [_inside(case, group, load, rate / group.place.ready) for group, rate in zip(groups, rates, strict=True)]
    most = max(inside)
    return tuple(
        plan.Share(g.place.domain, g.place.tp, max(round(each / most * WEIGHT_STEPS), 1) / WEIGHT_STEPS)
        for g, each in zip(groups, inside, strict=True)
    )


def _settled(found: tuple[plan.Share, ...], before: tuple[plan.Share, ...]) -> tuple[plan.Share, ...]:
    """Return the shares in force while none of them is more than a step off: watts waver, and every one is a push."""
    weights = {(share.domain, share.tp): share.weight_ratio for share in before}
    if {(share.domain, share.tp) for share in found} != weights.keys():
        return found
    off = (abs(share.weight_ratio - weights[share.domain, share.tp]) * WEIGHT_STEPS for share in found)
    return before if all(round(steps) <= 1 for steps in off) else found


def _inside(case: Case, group: Group, load: Workload, rate_rps: float) -> float:
    """Return the requests that are inside one replica of a group at a rate (its share of capacity where none last)."""
    most_rps = FULL_RATIO * group.carried_rps / group.place.ready
    at = sizing.point(group.profile, load.at(min(rate_rps, most_rps)).coarse(), case.slo, x=group.x_ratio)
    return max(rate_rps, 1e-9) if at is None else max(at.batch, 1e-9)


def _moves(case: Case, groups: Sequence[Group], domains: Mapping[str, DomainSeen]) -> tuple[plan.Move, ...]:
    """Return the replica that leaves a capped domain for the roomiest one, where watts for both are granted."""
    capped = [group for group in groups if not group.roomy]
    worst = min(capped, key=lambda group: (group.x_ratio, group.place.domain, group.place.tp))
    targets = watts.roomiest(domains, case.policy.priority)
    room_gpus = case.allowance.growth_gpus
    fits = room_gpus is None or room_gpus >= worst.place.tp
    for name in targets if fits else ():
        free = domains[name].free_gpus
        if free is None or free >= worst.place.tp:
            return (plan.Move(worst.place.domain, name, worst.place.tp),)
    return ()
