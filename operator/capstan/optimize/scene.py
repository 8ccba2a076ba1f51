"""One policy in one cycle, before its pools are looked at one by one: what was seen, what is known, what is remembered.

Who calls it: `decide`, which makes one scene per policy, and who asks which profile speaks for a policy. Must not
know: what is chosen.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping

from capstan.forecast.known import Known
from capstan.model import fleet, plan
from capstan.model.headroom import DomainSeen
from capstan.model.policy import Knob, Policy
from capstan.model.profile import Profile
from capstan.model.workload import Phase, Workload
from capstan.optimize import bias, fleets, foresight, lanes, plausible, share, sizing, watts
from capstan.optimize import case as cases
from capstan.optimize.case import Settings

POOL = "all"  # the one pool of the Single scheme


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """One policy in one cycle, before its pools are looked at one by one."""

    now_s: float
    policy: Policy
    seen: fleet.ServiceObserved
    profiles: tuple[Profile, ...]
    memory: plan.PolicyMemory
    settings: Settings
    history: Known | None = None
    domains: Mapping[str, DomainSeen] = dataclasses.field(default_factory=dict)
    allowance: watts.Allowance = watts.UNLIMITED

    def subject(self) -> watts.Subject | None:
        """Return whose watts are asked for; None where no profile tells of any."""
        known = usable(self.policy, self.seen, self.profiles)
        if not known:
            return None
        tp = main_pool(self.policy, self.seen, self.profiles).tp
        profile = next((profile for profile in known if profile.tp == tp), known[0])
        lengths = next((pool.lengths for pool in self.memory.pools if pool.lengths is not None), None)
        load = None if lengths is None else Workload(0.0, *lengths)
        return watts.Subject(self.policy, self.seen, profile, load, self.memory.power or plan.NO_POWER_MEMORY)

    def claim(self) -> share.Claim:
        """Return what it asked for in the last cycle; who is new, or paused, asks for what it has."""
        pools = self.seen.pools
        memory = plan.PolicyMemory(self.policy.key) if self.policy.paused else self.memory
        needs, planned = memory.needs, memory.wanted_gpus or sum(pool.tp * pool.desired for pool in pools)
        needed, ready = (planned, planned) if needs is None else (needs.serving.gpus, needs.ready.gpus)
        held = sum(pool.tp * (pool.ready + pool.starting - pool.pending + pool.terminating) for pool in pools)
        tp = main_pool(self.policy, self.seen, self.profiles).tp
        priority, product = self.policy.priority, self.seen.gpu_product
        return share.Claim(self.policy.key, product, priority, planned, needed, ready, held, step=tp)

    def limit(self, most_gpus: int | None) -> int | None:
        """Return the GPUs of all pools together."""
        limits = [gpus for gpus in (self.policy.bounds.max_gpus, most_gpus) if gpus is not None]
        return min(limits, default=None)

    def foreseen(self, most_gpus: int | None) -> foresight.Foresight:
        """Return a case per pool, with what history says of it."""
        return foresight.of(self._cases(most_gpus), self.memory.classes, self.history, self.memory.tracker)

    def _cases(self, most_gpus: int | None) -> tuple[cases.Case, ...]:
        acts = self.policy.pools.several and self.policy.knobs.pools is Knob.ACT
        own = lanes.of(self.policy, self.memory.split if acts else ())
        known = lanes.inherited(self.memory, own, lambda: self._needs(own))
        limit = self.limit(most_gpus)
        both = enumerate(zip(own, known, strict=True))
        found = tuple(self._case(each, (index, len(own)), memory, limit) for index, (each, memory) in both)
        if len(found) == 1:
            return found
        gpus = [fleets.gpus(case.standing) for case in found]
        return tuple(
            dataclasses.replace(case, beside_gpus=sum(gpus) - held) for case, held in zip(found, gpus, strict=True)
        )

    def _needs(self, own: tuple[lanes.Lane, ...]) -> list[float]:
        """Return the replicas that each phase needs for a request a second; alike where that is not known of one."""
        lengths = next((pool.lengths for pool in self.memory.pools if pool.lengths is not None), None)
        tp = main_pool(self.policy, self.seen, self.profiles).tp
        profile = next((profile for profile in self.profiles if profile.tp == tp), None)
        if lengths is None or profile is None:
            return [1.0] * len(own)
        load, margin = Workload(0.0, *lengths), self.settings.slo_margin_ratio
        each = [
            sizing.capacity_rps(profile, load.of_phase(lane.phase).coarse(), lane.slo, margin=margin) for lane in own
        ]
        return [1 / one_rps for one_rps in each] if min(each) > 0 else [1.0] * len(own)

    def _case(
        self, lane: lanes.Lane, at: tuple[int, int], memory: plan.PoolMemory, most_gpus: int | None
    ) -> cases.Case:
        index, count = at
        policy, settings = self.policy, self.settings
        apart = self.memory.classes if policy.pools.by_class else ()
        seen = lanes.seen_of(lane, self.seen, apart, policy.pools.edges)
        kept = cases.remembered(self.now_s, seen, memory, settings, smoothed=bool(apart))
        pools = self._replicas(lane, count)
        return cases.Case(
            now_s=self.now_s,
            policy=policy if count == 1 else _narrowed(policy, count, index),
            slo=lane.slo,
            pool=pools[0].pool if count == 1 and pools else lane.name,
            classes=lane.codes if count > 1 and lane.phase is Phase.BOTH else (),
            seen=seen,
            pools=pools,
            profiles=tuple(bias.corrected(profile, memory.decode_ratio) for profile in self.profiles),
            memory=kept,
            settings=settings,
            most_gpus=most_gpus,
            phase=lane.phase,
            short_prompts=lanes.short_prompts(lane.slo, self.memory.classes, lane.codes, policy.pools.edges),
            allowance=self.allowance.part(count),
        )

    def _replicas(self, lane: lanes.Lane, count: int) -> tuple[fleet.PoolObserved, ...]:
        """Return what stands of a lane; where degrees are not ours to move, that of the degree in force alone."""
        every = tuple(pool for pool in self.seen.pools if pool.pool == lane.name or count == 1)
        if self.policy.knobs.tensor_parallel is Knob.ACT:
            return every
        own = tuple(pool for pool in every if pool.tp == self.profiles[0].tp)
        return own if count > 1 else (main_pool(self.policy, self.seen, self.profiles),)


def of(
    observed: fleet.Observed,
    policies: Iterable[Policy],
    profiles: tuple[Profile, ...],
    memory: plan.Memory,
    settings: Settings,
    histories: Mapping[str, Known],
) -> tuple[Scene, ...]:
    """Return a scene per policy: of what was seen and is remembered of all, what concerns it."""
    now_s = observed.now_s
    seen = {one.policy: plausible.service(one) for one in observed.services}
    remembered = {one.policy: one for one in memory.policies}
    return tuple(
        Scene(
            now_s,
            policy,
            seen.get(policy.key) or fleet.ServiceObserved(policy.key, ()),
            profiles,
            remembered.get(policy.key) or plan.PolicyMemory(policy.key),
            settings,
            histories.get(policy.key),
        )
        for policy in policies
    )


def _narrowed(policy: Policy, pools: int, index: int) -> Policy:
    """Return the policy as one of several pools is bound by it: one replica each at least, room for the others."""
    bounds = policy.bounds
    share = bounds.min_replicas // pools + (index < bounds.min_replicas % pools)
    least = max(share, 1 if bounds.min_replicas else 0)
    most = max(bounds.max_replicas - (pools - 1), least, 1)
    return dataclasses.replace(policy, bounds=dataclasses.replace(bounds, min_replicas=least, max_replicas=most))


def profile_for(policy: Policy, profiles: tuple[Profile, ...], *, gpu_product: str | None, tp: int) -> Profile | None:
    """Return the profile that speaks for a policy at `tp`: only the named ones where any is named, else by key."""
    if policy.profile_names:
        named = (p for name in policy.profile_names for p in profiles if p.name == name and p.tp == tp)
        return next(named, None)
    return next((p for p in profiles if p.covers(policy.llm, gpu_product, tp)), None)


def usable(policy: Policy, seen: fleet.ServiceObserved, profiles: tuple[Profile, ...]) -> tuple[Profile, ...]:
    """Return the physics of every degree that a plan may use: of the one in force alone while tp is not ours to move.

    With the start-up that was measured where one was: the profile's is somebody else's node, image and weights.
    Empty where the degree in force has no profile: nothing is known of what serves.
    """
    main = main_pool(policy, seen, profiles)
    standing = profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=main.tp)
    if policy.knobs.tensor_parallel is not Knob.ACT or standing is None:
        return () if standing is None else (_as_started(standing, seen),)
    degrees = sorted({*policy.bounds.tensor_parallel, main.tp})
    known = (profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=tp) for tp in degrees)
    return tuple(_as_started(profile, seen) for profile in known if profile is not None)


def _as_started(profile: Profile, seen: fleet.ServiceObserved) -> Profile:
    """Return a profile with the start-up measured at its degree, of the slowest pool; as it is where none was."""
    measured = [p.startup_s for p in seen.pools if p.tp == profile.tp and p.startup_s is not None]
    return _with_startup(profile, max(measured)) if measured else profile


@functools.lru_cache(maxsize=1024)  # the same object in every cycle: equal ones would be compared at every look
def _with_startup(profile: Profile, startup_s: float) -> Profile:
    return dataclasses.replace(profile, startup_s=startup_s)


def main_pool(policy: Policy, seen: fleet.ServiceObserved, profiles: tuple[Profile, ...]) -> fleet.PoolObserved:
    """Return the pool that serves most, or an empty one at the smallest tp of the bounds that has a profile."""
    if seen.pools:
        return max(seen.pools, key=lambda pool: (pool.ready, pool.desired, -pool.tp))
    degrees = policy.bounds.tensor_parallel
    known = [tp for tp in degrees if profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=tp)]
    return fleet.PoolObserved(POOL, (known or list(degrees))[0], desired=0, ready=0)
