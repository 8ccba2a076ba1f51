"""One policy in one cycle, before its pools are looked at one by one: what was seen, what is known, what is remembered.

Who calls it: `decide`, which makes one scene per policy, and who asks which profile speaks for a policy. Must not
know: what is chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from capstan.forecast.known import Known
from capstan.model import fleet, plan
from capstan.model.policy import Knob, Policy
from capstan.model.profile import Profile
from capstan.optimize import bias, foresight, lanes, plausible
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

    @classmethod
    def of(
        cls,
        observed: fleet.Observed,
        policy: Policy,
        profiles: tuple[Profile, ...],
        memory: plan.PolicyMemory,
        settings: Settings,
        histories: Mapping[str, Known],
    ) -> Scene:
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
        kept = cases.remembered(self.now_s, seen, memory, settings, smoothed=bool(self.memory.classes))
        pools = self._replicas(lane, count)
        return cases.Case(
            now_s=self.now_s,
            policy=policy if count == 1 else _narrowed(policy, count, index),
            slo=lane.slo,
            pool=pools[0].pool if count == 1 and pools else lane.name,
            classes=lane.codes if count > 1 else (),
            seen=seen,
            pools=pools,
            profiles=tuple(bias.corrected(profile, memory.decode_ratio) for profile in self.profiles),
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
        return own if count > 1 else (main_pool(self.policy, self.seen, self.profiles),)


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
    return dataclasses.replace(profile, startup_s=max(measured)) if measured else profile


def main_pool(policy: Policy, seen: fleet.ServiceObserved, profiles: tuple[Profile, ...]) -> fleet.PoolObserved:
    """Return the pool that serves most, or an empty one at the smallest tp of the bounds that has a profile."""
    if seen.pools:
        return max(seen.pools, key=lambda pool: (pool.ready, pool.desired, -pool.tp))
    degrees = policy.bounds.tensor_parallel
    known = [tp for tp in degrees if profile_for(policy, profiles, gpu_product=seen.gpu_product, tp=tp)]
    return fleet.PoolObserved(POOL, (known or list(degrees))[0], desired=0, ready=0)
