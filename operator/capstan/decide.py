"""The serving core as one function: observed, policies, profiles, memory in; plan, memory' and reasons out.

Who calls it: `serving.cycle` live, every instance period, and `replay.engine` on virtual time. Must not know: who
asked, what time it is (`observed.now_s` says), where the numbers came from.

Three time scales, each a knob of its own (DESIGN 4): at the cluster period which classes share a pool, and how far
replicas may fall; at the pool period the mix of tensor-parallel degrees; at the instance period the clock, and
replicas up whenever the forecast or an alarm asks. Blind, it never removes capacity and gives up its own caps (P3).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping

from capstan.forecast import known as histories_of
from capstan.forecast.known import Known
from capstan.model import fleet, headroom, plan
from capstan.model.classes import Split
from capstan.model.headroom import DomainSeen
from capstan.model.policy import Knob, Policy, Priority
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh
from capstan.model.workload import Phase
from capstan.optimize import (
    advice,
    drift,
    fleets,
    ladder,
    lanes,
    needs,
    placing,
    replicas,
    rooms,
    share,
    split,
    tune,
    watts,
)
from capstan.optimize import case as cases
from capstan.optimize import scene as scenes
from capstan.optimize.case import MIN_SAMPLE_REQUESTS, Settings
from capstan.optimize.scene import POOL, Scene, profile_for
from capstan.powercap import allocate

__all__ = ["MIN_SAMPLE_REQUESTS", "POOL", "Settings", "decide", "profile_for"]

QUIET = (Reason.NO_CHANGE_NEEDED, Reason.COOLING_DOWN)  # reasons that say nothing while another pool has news


def decide(
    observed: fleet.Observed,
    policies: tuple[Policy, ...],
    profiles: tuple[Profile, ...],
    memory: plan.Memory,
    settings: Settings,
    histories: Iterable[Known] = (),
) -> plan.Decision:
    """Decide one cycle for all policies; the order of policies does not matter to any one of them.

    Args:
        observed: What is seen now.
        policies: What is wanted.
        profiles: The physics that is believed.
        memory: What the last cycle left.
        settings: Periods and margins.
        histories: What the past of some policies says (`forecast.known`); one without decides by its last rates.
    """
    past = {one.policy: one for one in histories}
    turn = advice.turn(observed, policies, memory, settings)
    each = scenes.of(observed, policies, profiles, memory, settings, past)
    claims, gpus = [scene.claim() for scene in each], dict(observed.gpus)
    most, spare = share.limits(claims, gpus), share.spare(claims, gpus)
    powered = _powered(observed, each)
    decided = tuple(
        _one(scene, most.get(scene.policy.key), spare=spare.get(scene.policy.key), advised=scene.policy.key == turn)
        for scene in powered
    )
    return plan.Decision(tuple(d for d, _ in decided), plan.Memory(tuple(m for _, m in decided)))


def _powered(observed: fleet.Observed, each: tuple[Scene, ...]) -> tuple[Scene, ...]:
    """Return the scenes with what the headroom of the power domains lets each of them draw more."""
    if not observed.domains:
        return each
    grounds = {priority: watts.ground(observed.domains, priority) for priority in Priority}
    subjects = {scene.policy.key: subject for scene in each if (subject := scene.subject()) is not None}
    claims = [c for one in subjects.values() for c in watts.claims(one, grounds[one.policy.priority])]
    grants: dict[str, list[headroom.Grant]] = {}
    for grant in allocate.allocate(observed.domains, claims):
        grants.setdefault(grant.policy, []).append(grant)
    return tuple(
        scene
        if (subject := subjects.get(scene.policy.key)) is None
        else dataclasses.replace(
            scene,
            domains=grounds[Priority.LOW].domains,
            allowance=watts.allowance(subject, grounds[scene.policy.priority], grants.get(scene.policy.key, ())),
        )
        for scene in each
    )


def horizon_slots(policy: Policy, profiles: tuple[Profile, ...], settings: Settings, *, gpu_product: str | None) -> int:
    """Return how many slots ahead the history of a policy is to be told: far enough for every degree of its bounds."""
    each = (profile_for(policy, profiles, gpu_product=gpu_product, tp=tp) for tp in policy.bounds.tensor_parallel)
    startup_s = max((profile.startup_s for profile in each if profile is not None), default=0.0)
    ahead_s = histories_of.horizon_s(cluster_period_s=settings.cluster_period_s, startup_s=startup_s)
    return histories_of.slots(settings.calendar, ahead_s)


def _one(
    scene: Scene, most_gpus: int | None, *, spare: int | None, advised: bool
) -> tuple[plan.PolicyDecision, plan.PolicyMemory]:
    """Decide for one policy."""
    policy, seen = scene.policy, scene.seen
    if advised:  # whatever comes of it: who cannot be advised does not take the turn of the others
        scene = dataclasses.replace(scene, memory=dataclasses.replace(scene.memory, advised_at_s=scene.now_s))
    if policy.paused:
        return plan.PolicyDecision(policy.key, (), plan.Effect(), Reason.PAUSED, Reason.PAUSED), scene.memory
    known = scenes.usable(policy, seen, scene.profiles)
    if not known:
        main = scenes.main_pool(policy, seen, scene.profiles)
        return _without_profile(policy, seen, main, scene.memory), scene.memory
    memory = _classified(scene.now_s, policy, seen, known, scene.memory, scene.settings)
    acting = dataclasses.replace(scene, profiles=known, memory=memory)
    foreseen = acting.foreseen(most_gpus)
    each = foreseen.cases
    unplaced = placing.noted(memory.unplaced, each)
    found = tuple(_pool(case, unplaced, spare) for case in each)
    wanted = sum(fleets.gpus(one.fleet) for one in found)
    limited = rooms.of(
        policy,
        [one.fleet for one in found],
        [case.standing for case in each],
        acting.limit(most_gpus),
        smallest_tp=known[0].tp,
    )
    if limited:
        each = tuple(rooms.held(case, room) for case, room in zip(each, limited, strict=True))
        found = tuple(_pool(case, unplaced, spare) for case in each)
    advises = advice.advises(policy)
    memory = dataclasses.replace(
        memory,
        pools=tuple(one.memory for one in found),
        wanted_gpus=wanted,
        needs=needs.of(foreseen.cases, memory.needs),
        tracker=foreseen.tracker,
        unplaced=unplaced,
        advice=memory.advice if advises else None,
        advised_at_s=memory.advised_at_s if advises else None,
    )
    if advises and advised:
        memory = _advised(scene, acting, each, memory, most_gpus)
    before = memory.power or plan.NO_POWER_MEMORY
    power = _power_plan(scene.domains, each, found, before)
    asked = plan.PowerMemory(sum(one.asked_gpus for one in found), sum(one.tuned.asked_w for one in found))
    kept = ladder.remembered(scene.now_s, seen.capped, before, power, asked) if scene.domains else None
    memory = dataclasses.replace(memory, power=kept)
    decision = dataclasses.replace(
        _joined(policy, found, memory),
        forecast_drifted=foreseen.drifted,
        profile_drifted=drift.drifted(each, memory.pools),
        power=power,
    )
    return decision, memory


def _power_plan(
    domains: Mapping[str, DomainSeen],
    each: tuple[cases.Case, ...],
    found: tuple[_Pool, ...],
    memory: plan.PowerMemory,
) -> plan.PowerPlan:
    """Return what is done while a domain caps a policy of one pool; of several pools none has replicas to choose from.

    A replica moves once caps have lasted for a start-up, when none starts or grows, once a pool period at most.
    """
    if len(each) > 1 or not each[0].seen.capped or not domains:
        return plan.NO_POWER_PLAN
    case, one = each[0], found[0]
    now_s, settings = case.now_s, case.settings
    lasts = memory.capped_since_s is not None and now_s - memory.capped_since_s >= case.startup_s
    rested = memory.moved_at_s is None or now_s - memory.moved_at_s >= settings.pool_period_s
    still = case.starting == 0 and one.asked_gpus == 0
    clock = ladder.PlannedClock(one.tuned.cap_mhz, may_rise=one.tuned.reason is not Reason.POWER_LIMITED)
    return ladder.power_plan(case, domains, memory, clock=clock, moves=lasts and rested and still)


def _advised(
    scene: Scene, acting: Scene, each: tuple[cases.Case, ...], memory: plan.PolicyMemory, most_gpus: int | None
) -> plan.PolicyMemory:
    """Return the memory with new advice; blind, the old advice stands until the next turn."""
    if any(case.blind is not None for case in each):
        return memory
    free = _freed(scene, acting.memory).foreseen(most_gpus)
    return dataclasses.replace(memory, advice=advice.of(free.cases, each))


def _freed(scene: Scene, memory: plan.PolicyMemory) -> Scene:
    """Return the scene in which the knobs that only advise act, with the split that is best there."""
    knobs = scene.policy.knobs
    tensor_parallel, pools = (
        Knob.ACT if knob is Knob.ADVISE else knob for knob in (knobs.tensor_parallel, knobs.pools)
    )
    freed = dataclasses.replace(knobs, tensor_parallel=tensor_parallel, pools=pools)
    policy = dataclasses.replace(scene.policy, knobs=freed)
    profiles = scenes.usable(policy, scene.seen, scene.profiles)
    if pools is Knob.ACT and _parted(policy, memory):
        memory = dataclasses.replace(memory, split=_best_split(policy, profiles, memory, scene.settings, scene.now_s))
    return dataclasses.replace(scene, policy=policy, profiles=profiles, memory=memory)


def _classified(
    now_s: float,
    policy: Policy,
    seen: fleet.ServiceObserved,
    profiles: tuple[Profile, ...],
    memory: plan.PolicyMemory,
    settings: Settings,
) -> plan.PolicyMemory:
    """Return the memory with this cycle's demand per class, and at a cluster period with the split that is best."""
    if memory.split and sorted(itertools.chain(*memory.split)) != list(range(policy.pools.edges.count)):
        # Somebody edited the class edges: old codes mean nothing. Replicas and rates are handed on by `inherited`.
        memory = dataclasses.replace(memory, split=(), split_since_s=None, classes=(), seen_at_s=None, seen_cycles=0)
    classes = memory.classes
    if isinstance(seen.arrival_rps, Fresh) and seen.classes:
        age_s = None if memory.seen_at_s is None else now_s - memory.seen_at_s
        cycles = memory.seen_cycles
        classes = lanes.smoothed(memory.classes, seen.classes, age_s=age_s, cycles=cycles)
        memory = dataclasses.replace(memory, classes=classes, seen_at_s=now_s, seen_cycles=cycles + 1)
    since_s = memory.split_since_s
    due = since_s is None or now_s - since_s >= settings.cluster_period_s
    if not (due and policy.knobs.pools is Knob.ACT and _parted(policy, memory)):
        return memory
    return dataclasses.replace(
        memory, split=_best_split(policy, profiles, memory, settings, now_s), split_since_s=now_s
    )


def _parted(policy: Policy, memory: plan.PolicyMemory) -> bool:
    """Return whether enough is known to part pools: of classes their demand, of phases the lengths of requests.

    Phases share the replicas that were planned for both, so that a plan comes first.
    """
    if policy.pools.phases_apart:
        return bool(memory.pools) and all(own.lengths is not None and own.fleet is not None for own in memory.pools)
    return policy.pools.by_class and bool(memory.classes)


def _best_split(
    policy: Policy, profiles: tuple[Profile, ...], memory: plan.PolicyMemory, settings: Settings, now_s: float
) -> Split:
    """Return which classes share a pool, at the usual demand of each; all where phases are apart."""
    cost = split.cost_of(
        policy,
        profiles,
        memory.classes,
        margin=settings.slo_margin_ratio,
        window_s=settings.rate_window_s,
        per_gpu_w=settings.gpu_w(policy.objective, now_s),
    )
    return split.best(policy, memory.classes, memory.split, cost)


@dataclasses.dataclass(frozen=True, slots=True)
class _Pool:
    """What was decided for one pool."""

    fleet: plan.Fleet
    plans: tuple[plan.PoolPlan, ...]
    sized: replicas.Choice
    tuned: tune.Choice
    expected: plan.Effect
    tokens_rps: float
    memory: plan.PoolMemory
    reshaped: bool
    asked_gpus: int  # more than stood, whether domains granted them or not


def _pool(case: cases.Case, unplaced: placing.Unplaced, spare: int | None) -> _Pool:
    """Decide for one pool whose physics is known."""
    sized = placing.chosen(case, replicas.choose(case), unplaced, spare)
    tuned = tune.choose(case, sized.fleet)
    cap_mhz = None if case.policy.knobs.clock is Knob.OFF else tuned.cap_mhz
    plans = advice.plans(case, sized.fleet, cap_mhz)
    load = case.load(case.memory.rates[-1][1]) if case.blind is None else None
    memory = dataclasses.replace(
        case.memory,
        fleet=sized.fleet,
        fleet_since_s=sized.since_s,
        reshaped_at_s=sized.reshaped_at_s if sized.reshaped_at_s is not None else case.memory.reshaped_at_s,
        clock_cap_mhz=tuned.cap_mhz,
        clock_since_s=_clock_since_s(case, tuned.cap_mhz),
        settled_cap_mhz=tuned.settled.cap_mhz,
        settled_since_s=tuned.settled.since_s,
        lower_clock_votes=tuned.votes,
        voted_at_s=tuned.voted_at_s,
        bias_spent_since_s=drift.spent_since_s(case, sized.reason),
        inside_ratio=tuned.inside_ratio,
        decode_ratio=tuned.decode_ratio,
    )
    moved = {tp for tp, _ in sized.fleet} != {tp for tp, _ in case.standing}
    tokens_rps = 0.0 if load is None else load.arrival_rps * load.made_tokens
    expected = tune.expected(case, sized.fleet, cap_mhz)
    asked_gpus = max(fleets.gpus(sized.fleet if sized.asked is None else sized.asked) - fleets.gpus(case.standing), 0)
    return _Pool(sized.fleet, plans, sized, tuned, expected, tokens_rps, memory, reshaped=moved, asked_gpus=asked_gpus)


def _joined(policy: Policy, pools: tuple[_Pool, ...], memory: plan.PolicyMemory) -> plan.PolicyDecision:
    """Return the decision of a policy from those of its pools, and the advice in memory where it says otherwise."""
    forecasts = [one.sized.forecast_rps for one in pools if one.sized.forecast_rps is not None]
    knobs = policy.knobs
    plans = tuple(entry for one in pools for entry in one.plans)
    advised = advice.shown(memory.advice, plans)
    return plan.PolicyDecision(
        policy=policy.key,
        pools=plans,
        expected=plan.together([one.expected for one in pools], sum(one.tokens_rps for one in pools)),
        replicas_reason=Reason.KNOB_OFF if knobs.replicas is Knob.OFF else _telling(one.sized.reason for one in pools),
        clock_reason=Reason.KNOB_OFF if knobs.clock is Knob.OFF else _telling(one.tuned.reason for one in pools),
        forecast_rps=_together_rps(policy, forecasts) if forecasts else None,
        candidates=tuple(candidate for one in pools for candidate in one.tuned.candidates),
        advice=() if advised is None else advised.pools,
        advice_reason=None if advised is None else advised.reason,
        advice_expected=plan.Effect() if advised is None else advised.expected,
        tp_reason=_tp_reason(policy, pools, advised),
    )


def _together_rps(policy: Policy, rates_rps: list[float]) -> float:
    """Return the requests that pools have together: classes share them, phases each have all."""
    return max(rates_rps) if policy.pools.phases_apart else sum(rates_rps)


def _tp_reason(policy: Policy, pools: tuple[_Pool, ...], advised: plan.Advice | None) -> Reason:
    """Return why the degrees are what they are."""
    knob = policy.knobs.tensor_parallel
    if knob is Knob.OFF:
        return Reason.KNOB_OFF
    if knob is Knob.ACT:
        return Reason.LEAST_ENERGY if any(one.reshaped for one in pools) else Reason.NO_CHANGE_NEEDED
    degrees = {entry.tp for one in pools for entry in one.plans}
    moves = advised is not None and {entry.tp for entry in advised.pools} != degrees
    return Reason.ADVISE_ONLY if moves else Reason.NO_CHANGE_NEEDED


def _telling(reasons: Iterable[Reason]) -> Reason:
    """Return the first reason that says more than that nothing changes."""
    known = tuple(reasons)
    return next((reason for reason in known if reason not in QUIET), known[0])


def _clock_since_s(case: cases.Case, cap_mhz: float | None) -> float:
    """Return since when a cap stands."""
    before = case.memory
    stands = before.clock_cap_mhz == cap_mhz and before.clock_since_s is not None
    return before.clock_since_s if stands and before.clock_since_s is not None else case.now_s


def _without_profile(
    policy: Policy, seen: fleet.ServiceObserved, main: fleet.PoolObserved, memory: plan.PolicyMemory
) -> plan.PolicyDecision:
    """Keep what serves, inside the bounds, at full clock: without physics nothing may be lowered."""
    if len(seen.pools) > 1:
        own = lanes.of(policy, memory.split)
        classes = {lane.name: lane.codes for lane in own} if len(memory.split) > 1 else {}
        phase = {lane.name: lane.phase for lane in own}
        pools = tuple(
            plan.PoolPlan(p.pool, p.tp, p.desired, None, classes.get(p.pool, ()), phase=phase.get(p.pool, Phase.BOTH))
            for p in seen.pools
        )
    else:
        count, _ = replicas.bounded(policy, main.desired, main.tp)
        pools = (plan.PoolPlan(main.pool, main.tp, count),)
    return plan.PolicyDecision(policy.key, pools, plan.Effect(), Reason.PROFILE_MISSING, Reason.PROFILE_MISSING)
