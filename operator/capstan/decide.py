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
from collections.abc import Iterable, Mapping, Sequence

from capstan.forecast import known as histories_of
from capstan.forecast.known import Known
from capstan.model import fleet, plan
from capstan.model.classes import Split
from capstan.model.policy import Knob, Policy
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh
from capstan.optimize import advice, drift, fleets, foresight, lanes, placing, plausible, replicas, share, split, tune
from capstan.optimize import case as cases
from capstan.optimize.case import MIN_SAMPLE_REQUESTS, Settings

__all__ = ["MIN_SAMPLE_REQUESTS", "POOL", "Settings", "decide", "profile_for"]

POOL = "all"  # the one pool of the Single scheme

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
    claims, gpus = [_claim(observed, policy, memory) for policy in policies], dict(observed.gpus)
    most, spare = share.limits(claims, gpus), share.spare(claims, gpus)
    decided = tuple(
        _one(
            _Scene.of(observed, policy, profiles, memory.of(policy.key), settings, past),
            most.get(policy.key),
            spare=spare.get(policy.key),
            advised=policy.key == turn,
        )
        for policy in policies
    )
    return plan.Decision(tuple(d for d, _ in decided), plan.Memory(tuple(m for _, m in decided)))


def profile_for(policy: Policy, profiles: tuple[Profile, ...], *, gpu_product: str | None, tp: int) -> Profile | None:
    """Return the profile that speaks for a policy at `tp`: only the named ones where any is named, else by key."""
    if policy.profile_names:
        named = (p for name in policy.profile_names for p in profiles if p.name == name and p.tp == tp)
        return next(named, None)
    return next((p for p in profiles if p.covers(policy.llm, gpu_product, tp)), None)


def _claim(observed: fleet.Observed, policy: Policy, memory: plan.Memory) -> share.Claim:
    """Return what a policy wanted in the last cycle, at least what it has."""
    seen = observed.of(policy.key)
    held = sum(pool.tp * pool.desired for pool in seen.pools) if seen is not None else 0
    product = None if seen is None else seen.gpu_product
    wanted = memory.of(policy.key).wanted_gpus or held
    return share.Claim(policy.key, product, policy.priority, wanted, 0 if seen is None else _held_gpus(seen))


def _held_gpus(seen: fleet.ServiceObserved) -> int:
    """Return the GPUs that have a pod."""
    return sum(pool.tp * (pool.ready + pool.starting - pool.pending + pool.terminating) for pool in seen.pools)


def horizon_slots(policy: Policy, profiles: tuple[Profile, ...], settings: Settings, *, gpu_product: str | None) -> int:
    """Return how many slots ahead the history of a policy is to be told: far enough for every degree of its bounds."""
    each = (profile_for(policy, profiles, gpu_product=gpu_product, tp=tp) for tp in policy.bounds.tensor_parallel)
    startup_s = max((profile.startup_s for profile in each if profile is not None), default=0.0)
    ahead_s = histories_of.horizon_s(cluster_period_s=settings.cluster_period_s, startup_s=startup_s)
    return histories_of.slots(settings.calendar, ahead_s)


def _one(
    scene: _Scene, most_gpus: int | None, *, spare: int | None, advised: bool
) -> tuple[plan.PolicyDecision, plan.PolicyMemory]:
    """Decide for one policy."""
    policy, seen = scene.policy, scene.seen
    if advised:  # whatever comes of it: who cannot be advised does not take the turn of the others
        scene = dataclasses.replace(scene, memory=dataclasses.replace(scene.memory, advised_at_s=scene.now_s))
    if policy.paused:
        return plan.PolicyDecision(policy.key, (), plan.Effect(), Reason.PAUSED, Reason.PAUSED), scene.memory
    known = _usable(policy, seen, scene.profiles)
    if not known:
        return _without_profile(policy, seen, _main_pool(policy, seen, scene.profiles), scene.memory), scene.memory
    memory = _classified(scene.now_s, policy, seen, known, scene.memory, scene.settings)
    acting = dataclasses.replace(scene, profiles=known, memory=memory)
    foreseen = acting.foreseen(most_gpus)
    each = foreseen.cases
    memory = dataclasses.replace(memory, unplaced=placing.noted(memory.unplaced, each))
    found = tuple(_pool(case, memory.unplaced, spare) for case in each)
    wanted = sum(fleets.gpus(one.fleet) for one in found)
    rooms = _rooms(policy, found, acting.limit(most_gpus), smallest_tp=known[0].tp)
    if rooms:
        each = tuple(_held(case, room) for case, room in zip(each, rooms, strict=True))
        found = tuple(_pool(case, memory.unplaced, spare) for case in each)
    memory = dataclasses.replace(
        memory, pools=tuple(one.memory for one in found), wanted_gpus=wanted, tracker=foreseen.tracker
    )
    if not advice.advises(policy):
        memory = dataclasses.replace(memory, advice=None, advised_at_s=None)
    elif advised:
        memory = _advised(scene, acting, each, memory, most_gpus)
    decision = dataclasses.replace(
        _joined(policy, found, memory),
        forecast_drifted=foreseen.drifted,
        profile_drifted=drift.drifted(each, memory.pools),
    )
    return decision, memory


def _advised(
    scene: _Scene, acting: _Scene, each: tuple[cases.Case, ...], memory: plan.PolicyMemory, most_gpus: int | None
) -> plan.PolicyMemory:
    """Return the memory with new advice; blind, the old advice stands until the next turn."""
    if any(case.blind is not None for case in each):
        return memory
    free = _freed(scene, acting.memory).foreseen(most_gpus)
    return dataclasses.replace(memory, advice=advice.of(free.cases, each))


def _freed(scene: _Scene, memory: plan.PolicyMemory) -> _Scene:
    """Return the scene in which the knobs that only advise act, with the split that is best there."""
    knobs = scene.policy.knobs
    tensor_parallel, pools = (
        Knob.ACT if knob is Knob.ADVISE else knob for knob in (knobs.tensor_parallel, knobs.pools)
    )
    freed = dataclasses.replace(knobs, tensor_parallel=tensor_parallel, pools=pools)
    policy = dataclasses.replace(scene.policy, knobs=freed)
    profiles = _usable(policy, scene.seen, scene.profiles)
    if policy.pools.by_class and memory.classes and pools is Knob.ACT:
        memory = dataclasses.replace(memory, split=_best_split(policy, profiles, memory, scene.settings, scene.now_s))
    return dataclasses.replace(scene, policy=policy, profiles=profiles, memory=memory)


def _usable(policy: Policy, seen: fleet.ServiceObserved, profiles: tuple[Profile, ...]) -> tuple[Profile, ...]:
    """Return the physics of every degree that a plan may use: of the one in force alone while tp is not ours to move.

    With the start-up that was measured where one was: the profile's is somebody else's node, image and weights.
    Empty where the degree in force has no profile: nothing is known of what serves.
    """
    main = _main_pool(policy, seen, profiles)
    standing = profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=main.tp)
    if policy.knobs.tensor_parallel is not Knob.ACT or standing is None:
        return () if standing is None else (_as_started(standing, seen),)
    degrees = sorted({*policy.bounds.tensor_parallel, main.tp})
    known = (profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=tp) for tp in degrees)
    return tuple(_as_started(profile, seen) for profile in known if profile is not None)


def _as_started(profile: Profile, seen: fleet.ServiceObserved) -> Profile:
    """Return a profile with the start-up measured at its degree, of the slowest pool; as it is where none was."""
    measured = [p.startup_s for p in seen.pools if p.tp == profile.tp and p.startup_s is not None]
    return dataclasses.replace(profile, startup_s=max(measured)) if measured else profile


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
    if not (due and classes and policy.pools.by_class and policy.knobs.pools is Knob.ACT):
        return memory
    return dataclasses.replace(
        memory, split=_best_split(policy, profiles, memory, settings, now_s), split_since_s=now_s
    )


def _best_split(
    policy: Policy, profiles: tuple[Profile, ...], memory: plan.PolicyMemory, settings: Settings, now_s: float
) -> Split:
    """Return which classes share a pool, at the usual demand of each."""
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
class _Room:
    """What one of several pools may have of what its policy has."""

    gpus: int | None
    replicas: int
    power_w: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Scene:
    """One policy in one cycle, before its pools are looked at one by one."""

    now_s: float
    policy: Policy
    seen: fleet.ServiceObserved
    profiles: tuple[Profile, ...]
    memory: plan.PolicyMemory
    settings: Settings
    history: Known | None = None

    @classmethod
    def of(
        cls,
        observed: fleet.Observed,
        policy: Policy,
        profiles: tuple[Profile, ...],
        memory: plan.PolicyMemory,
        settings: Settings,
        histories: Mapping[str, Known],
    ) -> _Scene:
        """Return what concerns one policy."""
        seen = plausible.service(observed.of(policy.key) or fleet.ServiceObserved(policy.key, ()))
        return cls(observed.now_s, policy, seen, profiles, memory, settings, histories.get(policy.key))

    def limit(self, most_gpus: int | None) -> int | None:
        """Return the GPUs of all pools together."""
        limits = [gpus for gpus in (self.policy.bounds.max_gpus, most_gpus) if gpus is not None]
        return min(limits, default=None)

    def foreseen(self, most_gpus: int | None) -> foresight.Foresight:
        """Return a case per pool, with what history says of it."""
        return foresight.of(self._cases(most_gpus), self.memory.classes, self.history, self.memory.tracker)

    def _cases(self, most_gpus: int | None) -> tuple[cases.Case, ...]:
        acts = self.policy.pools.by_class and self.policy.knobs.pools is Knob.ACT
        own = lanes.of(self.policy, self.memory.split if acts else ())
        known = lanes.inherited(self.memory, own)
        limit = self.limit(most_gpus)
        both = enumerate(zip(own, known, strict=True))
        return tuple(self._case(each, (index, len(own)), memory, limit) for index, (each, memory) in both)

    def _case(
        self, lane: lanes.Lane, at: tuple[int, int], memory: plan.PoolMemory, most_gpus: int | None
    ) -> cases.Case:
        index, count = at
        policy, settings = self.policy, self.settings
        seen = lanes.seen_of(lane, self.seen, self.memory.classes, policy.pools.edges)
        kept = cases.remembered(self.now_s, seen, memory, settings)
        pools = self._replicas(lane, count)
        return cases.Case(
            now_s=self.now_s,
            policy=policy if count == 1 else _narrowed(policy, count, index),
            slo=lane.slo,
            pool=pools[0].pool if count == 1 and pools else lane.name,
            classes=lane.codes if count > 1 else (),
            seen=seen,
            pools=pools,
            profiles=self.profiles,
            memory=kept,
            settings=settings,
            most_gpus=most_gpus,
        )

    def _replicas(self, lane: lanes.Lane, count: int) -> tuple[fleet.PoolObserved, ...]:
        """Return what stands of a lane; where degrees are not ours to move, that of the degree in force alone."""
        every = tuple(pool for pool in self.seen.pools if pool.pool == lane.name or count == 1)
        if self.policy.knobs.tensor_parallel is Knob.ACT:
            return every
        own = tuple(pool for pool in every if pool.tp == self.profiles[0].tp)
        return own if count > 1 else (_main_pool(self.policy, self.seen, self.profiles),)


def _narrowed(policy: Policy, pools: int, index: int) -> Policy:
    """Return the policy as one of several pools is bound by it: one replica each at least, room for the others."""
    bounds = policy.bounds
    share = bounds.min_replicas // pools + (index < bounds.min_replicas % pools)
    least = max(share, 1 if bounds.min_replicas else 0)
    most = max(bounds.max_replicas - (pools - 1), least, 1)
    return dataclasses.replace(policy, bounds=dataclasses.replace(bounds, min_replicas=least, max_replicas=most))


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
        lower_clock_votes=tuned.votes,
        voted_at_s=tuned.voted_at_s,
        bias_spent_since_s=drift.spent_since_s(case, sized.reason),
        inside_ratio=tuned.inside_ratio,
    )
    moved = {tp for tp, _ in sized.fleet} != {tp for tp, _ in case.standing}
    tokens_rps = 0.0 if load is None else load.arrival_rps * load.output_tokens
    expected = tune.expected(case, sized.fleet, cap_mhz)
    return _Pool(sized.fleet, plans, sized, tuned, expected, tokens_rps, memory, reshaped=moved)


def _held(case: cases.Case, room: _Room) -> cases.Case:
    """Return a case of one of several pools with what it may have of all."""
    bounds = dataclasses.replace(case.policy.bounds, max_replicas=max(room.replicas, case.policy.bounds.min_replicas))
    policy = dataclasses.replace(case.policy, bounds=bounds, power_budget_w=room.power_w)
    return dataclasses.replace(case, policy=policy, most_gpus=room.gpus)


def _rooms(policy: Policy, found: Sequence[_Pool], limit: int | None, *, smallest_tp: int) -> tuple[_Room, ...]:
    """Return what each pool may have where all together have more than there is; nothing where all of it fits."""
    gpus = [fleets.gpus(one.fleet) for one in found]
    counts = [fleets.replicas(one.fleet) for one in found]
    most, budget_w = policy.bounds.max_replicas, policy.power_budget_w
    fits = (limit is None or sum(gpus) <= limit) and sum(counts) <= most
    if len(found) == 1 or (fits and budget_w is None):
        return ()
    allowed: list[int | None] = [limit] * len(found) if limit is None else [*_dealt(gpus, limit, smallest_tp)]
    watts = [None if budget_w is None else budget_w * own / max(sum(gpus), 1) for own in gpus]
    return tuple(_Room(*room) for room in zip(allowed, _dealt(counts, most, 1), watts, strict=True))


def _dealt(wanted: Sequence[int], most: int, least: int) -> list[int]:
    """Return `most` in proportion to what is wanted, `least` each first; what is wanted where it fits."""
    if sum(wanted) <= most:
        return [max(own, least) for own in wanted]
    over = [max(own - least, 0) for own in wanted]
    free = max(most - least * len(wanted), 0)
    return [least + free * own // max(sum(over), 1) for own in over]


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
        forecast_rps=sum(forecasts) if forecasts else None,
        candidates=tuple(candidate for one in pools for candidate in one.tuned.candidates),
        advice=() if advised is None else advised.pools,
        advice_reason=None if advised is None else advised.reason,
        advice_expected=plan.Effect() if advised is None else advised.expected,
        tp_reason=_tp_reason(policy, pools, advised),
    )


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
        classes = {lane.name: lane.codes for lane in lanes.of(policy, memory.split)} if len(memory.split) > 1 else {}
        pools = tuple(plan.PoolPlan(p.pool, p.tp, p.desired, None, classes.get(p.pool, ())) for p in seen.pools)
    else:
        count, _ = replicas.bounded(policy, main.desired, main.tp)
        pools = (plan.PoolPlan(main.pool, main.tp, count),)
    return plan.PolicyDecision(policy.key, pools, plan.Effect(), Reason.PROFILE_MISSING, Reason.PROFILE_MISSING)


def _main_pool(policy: Policy, seen: fleet.ServiceObserved, profiles: tuple[Profile, ...]) -> fleet.PoolObserved:
    """Return the pool that serves most, or an empty one at the smallest tp of the bounds that has a profile."""
    if seen.pools:
        return max(seen.pools, key=lambda pool: (pool.ready, pool.desired, -pool.tp))
    degrees = policy.bounds.tensor_parallel
    known = [tp for tp in degrees if profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=tp)]
    return fleet.PoolObserved(POOL, (known or list(degrees))[0], desired=0, ready=0)
