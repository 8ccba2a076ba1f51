"""A policy's pools by class or by phase: their names, limits, demand, and what was seen of each.

Who calls it: `decide`, `split`, `advice`. Must not know: fleets, clocks.

A *lane* is a pool before anybody said how many replicas it has: a set of request classes, or a phase of all requests,
with the limits and the demand that are its own. Classes share the requests; phases each play all of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from capstan.model import fleet, plan
from capstan.model.classes import Edges, Split
from capstan.model.policy import Policy
from capstan.model.sample import Fresh, Sample
from capstan.model.slo import Slo
from capstan.model.workload import Phase, Short, Workload
from capstan.optimize import smoothing

LONGEST_TOKENS = math.inf
APART = (Phase.PREFILL, Phase.DECODE)


@dataclass(frozen=True, slots=True)
class Lane:
    """A set of classes: the name of their pool, their codes, the limits that bind there, and the phase it plays."""

    name: str
    codes: tuple[int, ...]
    slo: Slo
    phase: Phase = Phase.BOTH


def of(policy: Policy, split: Split) -> tuple[Lane, ...]:
    """Return the lanes of a split; one for everything where it is empty. Phases part the whole, once it is said."""
    edges = policy.pools.edges
    if policy.pools.phases_apart and split:
        (whole,) = edges.whole()
        return tuple(Lane(phase.value, whole, policy.slo.of_phase(phase), phase) for phase in APART)
    return tuple(Lane(edges.pool_name(codes), codes, limits(policy, codes)) for codes in split or edges.whole())


def limits(policy: Policy, codes: tuple[int, ...]) -> Slo:
    """Return the limits of the prompts in these classes."""
    edges = policy.pools.edges
    buckets = [edges.prompt_bucket(code) for code in codes]
    bounds = (0.0, *map(float, edges.prompt_tokens), LONGEST_TOKENS)
    return policy.slo.of_prompts(bounds[min(buckets)], bounds[max(buckets) + 1])


def smoothed(
    before: Sequence[fleet.ClassDemand], seen: Iterable[fleet.ClassDemand], *, age_s: float | None, cycles: int
) -> tuple[fleet.ClassDemand, ...]:
    """Return the demand per class with what was just seen blended in; a class that was not seen fades.

    Args:
        before: As of the last time.
        seen: This cycle's, of one window.
        age_s: How long ago the last time was; None: there was none.
        cycles: How often something was blended in so far.
    """
    now = {demand.code: demand for demand in seen}
    if age_s is None or not before:
        return tuple(now[code] for code in sorted(now))
    rate_rps = sum(demand.arrival_rps for demand in now.values())
    keep = smoothing.kept_ratio(rate_rps * max(age_s, 0.0), cycles, enough=smoothing.ENOUGH_PER_CLASSES)
    known = {demand.code: demand for demand in before}
    found = []
    for code in sorted({*known, *now}):
        blended = _blended(known.get(code), now.get(code), keep)
        if blended.arrival_rps > 0:
            found.append(blended)
    return tuple(found)


def _blended(old: fleet.ClassDemand | None, new: fleet.ClassDemand | None, keep: float) -> fleet.ClassDemand:
    """Return rates blended by time, lengths by requests."""
    if old is None or new is None:
        one = old or new
        if one is None:
            raise ValueError("a class was neither known nor seen")
        return dataclasses.replace(one, arrival_rps=one.arrival_rps * (keep if new is None else 1 - keep))
    rates = keep * old.arrival_rps, (1 - keep) * new.arrival_rps
    total = sum(rates)
    if total <= 0:
        return dataclasses.replace(old, arrival_rps=0.0)
    share = rates[1] / total
    return fleet.ClassDemand(
        old.code,
        total,
        old.prompt_tokens + share * (new.prompt_tokens - old.prompt_tokens),
        old.output_tokens + share * (new.output_tokens - old.output_tokens),
        old.prompt_cv2_ratio + share * (new.prompt_cv2_ratio - old.prompt_cv2_ratio),
    )


def demand(classes: Iterable[fleet.ClassDemand], codes: Iterable[int]) -> Workload | None:
    """Return the demand of some classes together; None where none of them has any.

    Prompt lengths of a mixture: second moments add by requests.
    """
    own = _asked_for(classes, codes)
    if not own:
        return None
    rate_rps = sum(one.arrival_rps for one in own)
    prompt = sum(one.arrival_rps * one.prompt_tokens for one in own) / rate_rps
    squares = sum(one.arrival_rps * (1 + one.prompt_cv2_ratio) * one.prompt_tokens**2 for one in own) / rate_rps
    output = sum(one.arrival_rps * one.output_tokens for one in own) / rate_rps
    return Workload(rate_rps, max(prompt, 1.0), max(output, 1.0), max(squares / prompt**2 - 1, 0.0))


def short_prompts(
    slo: Slo, classes: Iterable[fleet.ClassDemand], codes: Iterable[int], edges: Edges
) -> tuple[Short, ...]:
    """Return how many prompts of some classes each tier of their limits concerns, of tiers that end where classes do.

    Example: a quarter of the requests below 256 tokens, of 100 in the mean, and half of them from there to 1024, of
    500, all of one class: `((256, 0.25, 100, 0.25), (1024, 0.75, 500, 0.5))`.
    """
    own = _asked_for(classes, codes) if slo.tiers else []
    rate_rps = sum(one.arrival_rps for one in own)
    found, first, below_rps = [], 0, 0.0
    for tokens, _ in slo.tiers if own else ():
        if tokens not in edges.prompt_tokens:
            continue
        end = edges.prompt_tokens.index(tokens) + 1
        inside = [one for one in own if first <= edges.prompt_bucket(one.code) < end]
        inside_rps = sum(one.arrival_rps for one in inside)
        mean_tokens = sum(one.arrival_rps * one.prompt_tokens for one in inside) / inside_rps if inside else tokens / 2
        below_rps += inside_rps
        largest_rps = max((one.arrival_rps for one in inside), default=0.0)
        found.append(Short(float(tokens), below_rps / rate_rps, mean_tokens, largest_rps / rate_rps))
        first = end
    return tuple(found)


def _asked_for(classes: Iterable[fleet.ClassDemand], codes: Iterable[int]) -> list[fleet.ClassDemand]:
    """Return those of some classes that anybody asks for."""
    wanted = frozenset(codes)
    return [one for one in classes if one.code in wanted and one.arrival_rps > 0]


def seen_of(
    lane: Lane, seen: fleet.ServiceObserved, classes: tuple[fleet.ClassDemand, ...], edges: Edges
) -> fleet.ServiceObserved:
    """Return what was seen of a lane: its own latencies and queues, its classes' rate now and their usual lengths.

    Where the service is one lane, or where classes are not told apart, that is the service itself.
    """
    if lane.phase is not Phase.BOTH:
        return _seen_of_phase(lane, seen)
    now = demand(seen.classes, lane.codes)
    usual = demand(classes, lane.codes)
    whole = len(lane.codes) == edges.count
    own = seen if whole else seen.of_lane(lane.name)
    if own is None:
        no = fleet.NO_DATA
        own = dataclasses.replace(seen, waiting=no, ttft_s=no, tpot_s=no, stress_ratio=no)
    if usual is None or not isinstance(seen.arrival_rps, Fresh):
        return own if whole else dataclasses.replace(own, arrival_rps=_none(seen), prompt_tokens=fleet.NO_DATA)
    age_s = seen.arrival_rps.age_s
    rate_rps = seen.arrival_rps.value if whole else 0.0 if now is None else now.arrival_rps
    if not whole and not seen.classes:  # the service is asked and nobody says for what: as usual, not nothing
        rate_rps = seen.arrival_rps.value * usual.arrival_rps / sum(one.arrival_rps for one in classes)
    return dataclasses.replace(
        own,
        arrival_rps=Fresh(rate_rps, age_s),
        prompt_tokens=Fresh(usual.prompt_tokens, age_s),
        output_tokens=Fresh(usual.output_tokens, age_s),
        prompt_cv2_ratio=usual.prompt_cv2_ratio,
    )


def _seen_of_phase(lane: Lane, seen: fleet.ServiceObserved) -> fleet.ServiceObserved:
    """Return the service with the queues and latencies of one of its phases.

    Prompts that run are no sequences that decode, so that nothing is concluded from how many there are.
    """
    no = fleet.NO_DATA
    own = seen.of_lane(lane.name) or fleet.ServiceObserved(seen.policy, ())
    return dataclasses.replace(
        seen,
        running=own.running if lane.phase is Phase.DECODE else no,
        waiting=own.waiting,
        ttft_s=own.ttft_s if lane.phase is Phase.PREFILL else no,
        tpot_s=own.tpot_s if lane.phase is Phase.DECODE else no,
        sample_requests=own.sample_requests,
        stress_ratio=own.stress_ratio,
    )


def _none(seen: fleet.ServiceObserved) -> Sample[float]:
    """Return why a lane's rate is not known: for what reason the service's is not, else nobody asked."""
    return Fresh(0.0, seen.arrival_rps.age_s) if isinstance(seen.arrival_rps, Fresh) else seen.arrival_rps


def inherited(
    memory: plan.PolicyMemory, new: Sequence[Lane], needs: Callable[[], Sequence[float]] = tuple
) -> tuple[plan.PoolMemory, ...]:
    """Return the memory of each lane: its own, or under a new split its share of what all had before.

    Rates are shared by requests, replicas by tokens: those that stand serve on, in another pool, and are given up no
    sooner than any others. Each of several phases has all requests, and replicas as it needs them.

    Args:
        memory: As of the last cycle.
        new: The lanes in force now.
        needs: What the lanes of phases need for the same requests, each in proportion to the others; asked only where
            replicas are to be dealt by it.
    """
    if {lane.name for lane in new} == {own.pool for own in memory.pools}:
        return tuple(memory.of(lane.name) for lane in new)
    by_time: dict[float, float] = {}
    counts: dict[int, int] = {}
    for own in memory.pools:
        for t_s, rate_rps in own.rates if own.pool != Phase.DECODE else ():  # what it serves came through prefill
            by_time[t_s] = by_time.get(t_s, 0.0) + rate_rps
        for tp, count in own.fleet or ():
            counts[tp] = counts.get(tp, 0) + count
    requests, work = _parts(memory.classes, new, needs)
    since = [own.fleet_since_s for own in memory.pools if own.fleet_since_s is not None]
    known = bool(memory.pools) and all(own.fleet is not None for own in memory.pools)
    return tuple(
        plan.PoolMemory(
            lane.name,
            rates=tuple((t_s, by_time[t_s] * requests[index]) for t_s in sorted(by_time)),
            fleet=_dealt(counts, work)[index] if known else None,
            fleet_since_s=max(since, default=None) if known else None,
        )
        for index, lane in enumerate(new)
    )


def _parts(
    classes: tuple[fleet.ClassDemand, ...], new: Sequence[Lane], needs: Callable[[], Sequence[float]]
) -> tuple[list[float], list[float]]:
    """Return each lane's share of the requests, and of the work that replicas are dealt by."""
    if new[0].phase is not Phase.BOTH:
        return [1.0] * len(new), _shares(needs())
    loads = [demand(classes, lane.codes) for lane in new]
    requests = [0.0 if load is None else load.arrival_rps for load in loads]
    tokens = [0.0 if load is None else load.arrival_rps * (load.prompt_tokens + load.output_tokens) for load in loads]
    return _shares(requests), _shares(tokens)


def _shares(amounts: Sequence[float]) -> list[float]:
    """Return each amount over their sum; equal ones where there is none."""
    total = sum(amounts)
    return [amount / total if total > 0 else 1 / len(amounts) for amount in amounts]


def _dealt(counts: Mapping[int, int], shares: Sequence[float]) -> list[plan.Fleet]:
    """Return replicas dealt out one by one, to whoever has a share and none first, then least for it; none is lost."""
    dealt: list[dict[int, int]] = [{} for _ in shares]
    held = [0.0] * len(shares)

    def turn(index: int, tp: int) -> tuple[bool, float, int]:
        served = held[index] > 0 or shares[index] <= 0
        return served, (held[index] + tp) / max(shares[index], 1e-9), index

    for tp in sorted(counts, reverse=True):
        for _ in range(counts[tp]):
            _, _, index = min(turn(index, tp) for index in range(len(shares)))
            dealt[index][tp] = dealt[index].get(tp, 0) + 1
            held[index] += tp
    return [tuple(sorted(each.items())) for each in dealt]
