"""Which classes share a pool: the split with the least watts, changed only where it clearly pays.

Who calls it: `decide`, once per cluster period. Must not know: what stands; moving a replica to another pool is a
label on its pod, nothing starts or stops.

Short prompts have tight limits on the time to first token, and a long prompt before them breaks those limits; apart,
each pool runs as hot as its own limits allow. But every pool rounds its replicas up, so thin classes share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from capstan.forecast import peak
from capstan.model import power
from capstan.model.classes import Edges, Split
from capstan.model.fleet import ClassDemand
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.optimize import lanes, mix

WORTH_RATIO = 0.05
"""A split replaces another only where it saves this share of the watts: the closed form is not better than that."""

Cost = Callable[[tuple[int, ...]], float]


def candidates(edges: Edges, count: int | None) -> Iterator[Split]:
    """Yield splits into neighbouring prompt buckets: all of them, or those of `count` pools."""
    buckets = [tuple(b * edges.outputs + o for o in range(edges.outputs)) for b in range(edges.prompts)]
    for cuts in range(1 << (edges.prompts - 1)):
        split: list[tuple[int, ...]] = [buckets[0]]
        for bucket in range(1, edges.prompts):
            if cuts >> (bucket - 1) & 1:
                split.append(buckets[bucket])
            else:
                split[-1] += buckets[bucket]
        if count in (None, len(split)):
            yield tuple(split)


def best(policy: Policy, classes: tuple[ClassDemand, ...], standing: Split, cost: Cost) -> Split:
    """Return the split with the least watts, the standing one where nothing is clearly better.

    More pools than prompt buckets split by answers, too: from one pool per class on, the neighbours whose union costs
    least more are joined until as many are left as were asked for.
    """
    edges, count = policy.pools.edges, policy.pools.count
    if not policy.pools.by_class:
        return edges.whole()
    if not classes:
        return standing or edges.whole()
    if count is not None and count > edges.prompts:
        return _joined(edges, count, cost)
    ranked = [(sum(map(cost, split)), len(split), split) for split in candidates(edges, count)]
    least_w, _, found = min(ranked)
    stands = standing or edges.whole()
    stands_w = next((watts for watts, _, split in ranked if split == stands), None)
    return stands if stands_w is not None and stands_w * (1 - WORTH_RATIO) <= least_w else found


def _joined(edges: Edges, count: int, cost: Cost) -> Split:
    """Return `count` pools: neighbours in the order of classes are joined while there are more."""
    split: list[tuple[int, ...]] = [(code,) for code in range(edges.count)]
    while len(split) > count:
        extra = [cost(split[i] + split[i + 1]) - cost(split[i]) - cost(split[i + 1]) for i in range(len(split) - 1)]
        at = extra.index(min(extra))
        split[at : at + 2] = [split[at] + split[at + 1]]
    return tuple(split)


def cost_of(
    policy: Policy,
    profiles: tuple[Profile, ...],
    classes: tuple[ClassDemand, ...],
    *,
    margin: float,
    window_s: float,
    per_gpu_w: float = 0.0,
) -> Cost:
    """Return what a set of classes costs in a pool of its own: watts, infinite where no fleet carries it.

    An assigned GPU counts as `per_gpu_w` more than it draws (`model.objective`).
    """
    known: dict[tuple[int, ...], float] = {}
    bounds = policy.bounds

    def cost(codes: tuple[int, ...]) -> float:
        if codes not in known:
            load = lanes.demand(classes, codes)
            if load is None:  # a pool that nobody asks stands idle all the same
                known[codes] = min(profile.tp * (power.idle_w(profile) + per_gpu_w) for profile in profiles)
                return known[codes]
            slo = lanes.limits(policy, codes)
            load = replace(load, short_prompts=lanes.short_prompts(slo, classes, codes, policy.pools.edges)).coarse()
            question = mix.Question(
                profiles=profiles,
                load=load,
                slo=slo,
                peak_rps=peak.guarded_rps(load.arrival_rps, window_s=window_s),
                most_replicas=bounds.max_replicas,
                most_gpus=bounds.max_gpus,
                margin_ratio=margin,
                min_clock_mhz=bounds.min_clock_mhz,
                per_gpu_w=per_gpu_w,
            )
            found = mix.cheapest(question)
            known[codes] = float("inf") if found is None else found.cost_w
        return known[codes]

    return cost
