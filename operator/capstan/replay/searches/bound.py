"""The least joules that any schedule in this world can serve a trace with and meet the SLO: a fluid relaxation.

Who calls it: `app.replay` for the row `bound`, `searches.honesty`. Must not know: systems, runs.

Why no run that meets the SLO can be cheaper. A run is a set of steps; step k decodes B_k sequences, prefills N_k
prompt tokens, reads C_k tokens of context and Q_k pairs, at one clock of one profile, and costs e_k joules in d_k
seconds. Its joules are the sum of e_k, plus idle watts on every GPU that exists while no step runs.
1. *Work.* Sums of B, N, C and Q over all steps are at least the trace's (`demand`; preemption only adds).
2. *Crowd.* A request that keeps its limits is inside from its arrival to at most TTFT + TPOT x (out - 1) later. So
   at any moment a step holds at most W such requests, W = how many of those windows overlap there, and each of them
   has a crowd (the most such overlap in its own window) of at least W: its prices, which fall with the crowd, are
   no higher than those of level W. Late requests, at most (1 - percentile) of all, pay the lowest prices of all and
   their own one for decode tokens, whatever crowd they decode in.
3. *Pace.* Requests that keep their limits spend at most TPOT x tokens decoding, so for any mu >= 0 the sum over
   steps of mu x (their number in the step) x (d_k - TPOT) is <= 0 and may be added to the steps' joules.
4. *Idle.* If at least G GPU seconds exist anyway, idle joules are at least idle_w x (G - GPU seconds in steps), so
   for any share s <= 1 of it: s x idle_w x G may be booked, and s x idle_w x gpus x d_k taken off each step.
5. *Prices.* Let prices be such that every step that an engine can make, whatever the level, costs at least what the
   tokens it makes are worth after 3 and 4 (`prices.certify` walks all of them). Then the run costs at least the
   worth of the work plus what 4 booked. The late requests are chosen against us: those on which it loses most.

What is relaxed, all in the favourable direction: work may wait and be spread over engines at will, TTFT binds only
through the crowd, tp and clock change at every step for nothing, start-up and draining are free, prompts of a step
read the least KV they can. What is assumed: every request that fits an engine is finished (the world drains).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from capstan.model import power
from capstan.model.policy import Bounds
from capstan.model.profile import Profile
from capstan.replay.runs import Floats, Ints, Requests
from capstan.replay.searches import demand, prices, steps

CROWD_GROWTH_RATIO = 1.5  # levels of crowd grow by half: between two levels a step's joules per token change by < 1/5
ROUNDS = 6  # programmes, each with the worst steps of the certificate before it
GOOD_ENOUGH_RATIO = 0.99  # a certificate that takes less than 1 % off is not worth another programme
FIRST_CLOCKS = 12  # clocks per profile that the first programme sees; the certificate sees all of them
FIRST_SIDES = 7  # halvings of the ranges of sequences and of prompt tokens that it sees


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound of a trace's joules (released boundary: GPUs without a pod draw nothing).

    Attributes:
        energy_j: `work_j` + `idle_j`.
        work_j: Cheapest joules of the work, late requests at their best.
        idle_j: Idle watts of GPUs that stand whatever is done.
        request_j: What each request is worth at least while it keeps its limits, shape `[request]`.
        certificate_ratio: What the certificate left of the programme's prices; 1 would be a perfect programme.
    """

    energy_j: float
    work_j: float
    idle_j: float
    request_j: Floats
    certificate_ratio: float


def of(requests: Requests, limits: demand.Limits, profiles: tuple[Profile, ...], bounds: Bounds) -> Bound:
    """Return the bound of a trace on the engines of `profiles` (one per tp that a plan may use).

    Args:
        requests: The trace. Those that do not fit every engine may be refused, and so cost nothing here.
        limits: The SLO that the compared runs are scored by.
        profiles: The world's physics, not what a decision believes.
        bounds: Only `min_replicas` and `tensor_parallel` count: replicas that always stand.
    """
    usable = tuple(p for p in profiles if p.tp in bounds.tensor_parallel) or profiles
    kept = requests.prompt_tokens + requests.output_tokens <= min(p.kv_tokens for p in usable)
    served = Requests(requests.arrival_s[kept], requests.prompt_tokens[kept], requests.output_tokens[kept])
    if not len(served):
        return Bound(0.0, 0.0, 0.0, np.zeros(len(requests)), 1.0)
    own = demand.Limits(limits.ttft_s[kept], limits.tpot_s, limits.percentile_ratio)
    work = demand.of(served, own, chunk_tokens=max(p.chunk_tokens for p in usable))
    prized = market(work, own, usable, standing_gpu_s=_standing_gpu_s(served, usable, bounds))
    found, ratio = certified(prized, usable, reach(served))
    good_j = _worth(found, work, prices.level_of(work.crowd, prized.crowd))
    spared_j = np.maximum(good_j - _worth(found, work, None), 0.0)
    most = min(limits.most_bad(), len(spared_j))
    spared_j = np.partition(spared_j, len(spared_j) - most)[len(spared_j) - most :] if most else spared_j[:0]
    work_j = float(good_j.sum() - spared_j.sum())
    idle_j = found.idle_ratio * prized.idle_w * prized.standing_gpu_s
    request_j = np.zeros(len(requests))
    request_j[kept] = good_j
    return Bound(work_j + idle_j, work_j, idle_j, request_j, ratio)


def _levels(seats: int, crowd: int) -> Floats:
    """Return the crowds that are priced apart: 1, 2, 3, 5, 8 … up to the seats of an engine or the largest crowd."""
    edges, most = [1.0], float(min(seats, crowd))
    while edges[-1] < most:
        edges.append(min(math.ceil(edges[-1] * CROWD_GROWTH_RATIO), most))
    return np.array(edges)


def reach(requests: Requests) -> steps.Reach:
    """Return the contexts that a trace brings about."""
    total = requests.prompt_tokens + requests.output_tokens
    return steps.Reach(int(requests.prompt_tokens.min()) + 1, int(total.max()), int(total.max()))


def _standing_gpu_s(requests: Requests, profiles: tuple[Profile, ...], bounds: Bounds) -> float:
    """Return the GPU seconds of the replicas that the bounds never let go, first to last arrival."""
    span_s = float(requests.arrival_s[-1] - requests.arrival_s[0])
    return bounds.min_replicas * min(p.tp for p in profiles) * span_s


def market(
    work: demand.Demand, limits: demand.Limits, profiles: tuple[Profile, ...], *, standing_gpu_s: float
) -> prices.Market:
    """Return the amounts that the prices are fitted to; the longest answers stand in for the late requests."""
    edges = _levels(max(p.max_num_seqs for p in profiles), int(work.crowd.max()))
    late = limits.most_bad()
    level = prices.level_of(work.crowd, edges)
    longest = np.argsort(-work.decode_tokens, kind="stable")[:late]
    good = work.decode_tokens.copy()
    good[longest] = 0.0
    columns = (good, work.prompt_tokens, work.context_tokens, work.pair_tokens2)
    amounts = np.stack([np.bincount(level, weights=column, minlength=len(edges)) for column in columns], axis=1).astype(
        np.float64
    )
    idle_w = min(power.idle_w(p) for p in profiles)
    return prices.Market(
        crowd=edges,
        amounts=amounts,
        late_decode_tokens=float(work.decode_tokens[longest].sum()),
        tpot_s=limits.tpot_s,
        standing_gpu_s=standing_gpu_s,
        idle_w=idle_w,
        most_idle_ratio=min(1.0, _floor_w(profiles) / idle_w),
    )


def _floor_w(profiles: tuple[Profile, ...]) -> float:
    """Return the watts that every step draws however little it does: as much idle power as may be taken off it."""
    return min(
        p.draw.static_w + p.draw.dynamic_w * x * power.voltage_ratio(p, x) ** 2 for p, x in steps.settings(profiles)
    )


def certified(
    prized: prices.Market, profiles: tuple[Profile, ...], contexts: steps.Reach
) -> tuple[prices.Prices, float]:
    """Return certified prices and what the certificate left of them: programme, worst steps, programme again."""
    space = steps.Space(steps.settings(profiles), contexts)
    known = _first_steps(profiles, contexts)
    best: tuple[prices.Prices, float] | None = None
    for _ in range(ROUNDS):
        found = prices.fit(known, prized)
        ratio, worst = prices.certify(found, prized, space)
        if best is None or ratio > best[1]:
            best = found, ratio
        if ratio >= GOOD_ENOUGH_RATIO:
            break
        known = steps.joined((known, worst))
    if best is None or best[1] <= 0:
        raise ArithmeticError("no price is below every step; look at the profile's power parameters")
    return best[0].scaled(best[1]), best[1]


def _first_steps(profiles: tuple[Profile, ...], contexts: steps.Reach) -> steps.Costs:
    """Return a coarse grid of steps: some clocks, and the corners of boxes halved a few times over."""
    every = [steps.settings((p,)) for p in profiles]
    space = steps.Space(tuple(s for own in every for s in own[:: -max(len(own) // FIRST_CLOCKS, 1)]), contexts)
    boxes = steps.fitting(steps.whole(space.pairs), space.pairs)
    for _ in range(FIRST_SIDES):
        boxes = steps.fitting(steps.split(boxes), space.pairs)
    costs = space.corners(boxes)
    return costs.where(costs.context_tokens <= costs.batch * contexts.most_context)


def _worth(found: prices.Prices, work: demand.Demand, level: Ints | None) -> Floats:
    """Return what each request is worth at its level's prices; None: if it is late, at the lowest there are.

    Column by column: a week has 27 million rows.
    """
    columns = (work.decode_tokens, work.prompt_tokens, work.context_tokens, work.pair_tokens2)
    lowest = (found.late_j, *found.each[-1, 1:].tolist())
    total_j = np.zeros(len(work.crowd))
    for i, column in enumerate(columns):
        total_j += column * (lowest[i] if level is None else found.each[level, i])
    return total_j
