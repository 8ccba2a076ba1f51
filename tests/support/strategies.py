"""Builders and Hypothesis strategies of what a decision sees: services with classes, and a loop that decides again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from capstan import decide
from capstan.model import fleet, plan
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.model.sample import Fresh, Sample
from support import builders
from support.planned import with_tp

TP4 = builders.profile(startup_s=15)
TP8 = with_tp(TP4, 8)
BOTH = (TP4, TP8)
QUICK = decide.Settings(cluster_period_s=60, pool_period_s=30, instance_period_s=5, lookback_s=120, rate_window_s=30)

LENGTHS = {0: (120.0, 60.0), 1: (120.0, 200.0), 3: (500.0, 60.0), 4: (600.0, 200.0), 7: (2500.0, 200.0)}
"""Mean prompt and output tokens of a class, by its code under the default edges."""


def demand(code: int, rate_rps: float) -> fleet.ClassDemand:
    """One class at its usual lengths."""
    prompt, output = LENGTHS.get(code, (600.0, 200.0))
    return fleet.ClassDemand(code, rate_rps, prompt, output, 0.3)


def pools_of(decided: plan.PolicyDecision) -> tuple[fleet.PoolObserved, ...]:
    """What stands once everything that was planned is Ready."""
    return tuple(fleet.PoolObserved(p.pool, p.tp, p.replicas, p.replicas) for p in decided.pools)


def service(
    classes: Sequence[fleet.ClassDemand] = (),
    *,
    rate: Sample[float] | float | None = None,
    pools: tuple[fleet.PoolObserved, ...] = (fleet.PoolObserved("all", 4, 2, 2),),
    policy: str = builders.CHAT,
    **more: Any,
) -> fleet.ServiceObserved:
    """A service that is seen in full: the rate is the sum of its classes unless it is said otherwise."""
    total = sum(one.arrival_rps for one in classes)
    rate = total if rate is None else rate
    share = [one.arrival_rps / total if total else 0.0 for one in classes]
    base = fleet.ServiceObserved(
        policy=policy,
        pools=pools,
        arrival_rps=Fresh(float(rate), 1.0) if isinstance(rate, float | int) else rate,
        prompt_tokens=Fresh(sum(s * c.prompt_tokens for s, c in zip(share, classes, strict=True)) or 1155.0, 1.0),
        output_tokens=Fresh(sum(s * c.output_tokens for s, c in zip(share, classes, strict=True)) or 211.0, 1.0),
        waiting=Fresh(0.0, 1.0),
        gpu_product=builders.H100,
        classes=tuple(classes),
    )
    return dataclasses.replace(base, **more)


class Loop:
    """Decides again and again for one policy; what was planned stands Ready at the next cycle."""

    def __init__(
        self,
        policy: Policy,
        profiles: tuple[Profile, ...] = BOTH,
        *,
        settings: decide.Settings = QUICK,
        gpus: tuple[tuple[str, int], ...] = (),
    ) -> None:
        self.policy, self.profiles, self.settings, self.gpus = policy, profiles, settings, gpus
        self.memory = plan.Memory()
        self.now_s = 1000.0
        self.standing: tuple[fleet.PoolObserved, ...] | None = None

    def cycle(self, seen: fleet.ServiceObserved, times: int = 1, *, keep: bool = False) -> plan.PolicyDecision:
        """Decide `times` cycles on what is seen; `keep`: with the pools that it names, whatever was planned."""
        for _ in range(times):
            own = seen if keep or self.standing is None else dataclasses.replace(seen, pools=self.standing)
            observed = fleet.Observed(self.now_s, (own,), self.gpus)
            decision = decide.decide(observed, (self.policy,), self.profiles, self.memory, self.settings)
            self.memory = decision.memory
            self.now_s += self.settings.instance_period_s
            decided = decision.policies[0]
            self.standing = pools_of(decided) if decided.pools else self.standing
        return decided


def mixes(most_rps: float = 12.0) -> st.SearchStrategy[tuple[fleet.ClassDemand, ...]]:
    """Demand of some classes, each with its usual lengths."""
    rates = st.dictionaries(st.sampled_from(sorted(LENGTHS)), st.floats(0.05, most_rps), min_size=1)
    return rates.map(lambda found: tuple(demand(code, rate) for code, rate in sorted(found.items())))
