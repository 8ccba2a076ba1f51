"""The planner's closed form beside the world: TTFT, TPOT and watts of a replica over load, Poisson arrivals.

Who calls it: `app.queueing`, tests. Must not know: files, terminals, policies. The closed form is told mean lengths and
the spread of prompts, nothing else, as in `decide`; the world plays every request of the same load on the same physics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from capstan.model import phases
from capstan.model.profile import Profile
from capstan.model.workload import Phase, Workload
from capstan.replay import kernel, synth
from capstan.replay.published import Statistics
from capstan.replay.runs import Floats, Ints, Requests

LOADS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
"""Shares of the rate at which the world saturates; issue 4 asks for 0.2 to 0.95."""

REQUESTS = 30_000
"""Per point: p99 then rests on 270 requests beyond it, about 6 % of their number."""

WARM_UP_SHARE = 0.1  # of the requests: not counted, the replica fills in that time
SATURATING = 4_000  # requests that stand in the queue at once where the saturated rate is measured
DRAIN_S = 60.0  # how far to play on at a time; changes nothing else
DRAWN = 20_000  # lengths kept of a published trace; the week has 30 million
SEED = 17
FEEDERS = 16  # replicas that prefill for each that only decodes: several times what it takes in

TIERS_TOKENS = (256.0, 1024.0)  # DESIGN 7.1's edges: short prompts end at the first, medium ones at the second

FIGURES = ("ttft_p50_s", "ttft_p99_s", "short_p99_s", "medium_p99_s", "tpot_p50_s", "tpot_p99_s", "gpu_w")

Lengths = tuple[Ints, Ints]
"""Prompt and output tokens of each request, as pairs, shapes `[request]`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One replica in steady state: what the planner says, or what the world did. Watts are one GPU's.

    `short_p99_s`, `medium_p99_s`: TTFT of the prompts of each of `TIERS_TOKENS`.
    """

    ttft_p50_s: float
    ttft_p99_s: float
    short_p99_s: float
    medium_p99_s: float
    tpot_p50_s: float
    tpot_p99_s: float
    gpu_w: float


@dataclass(frozen=True, slots=True)
class Line:
    """One load. `planned` is None where the planner says that there is no steady state."""

    profile: str
    clock_ratio: float
    load_ratio: float
    arrival_rps: float
    planned: Seen | None
    world: Seen

    @property
    def errors(self) -> tuple[float, ...]:
        """Planner over world, less 1, in the order of `FIGURES`; empty where the planner says nothing."""
        told = self.planned
        return () if told is None else tuple(getattr(told, name) / getattr(self.world, name) - 1 for name in FIGURES)


def drawn(statistics: Statistics, *, seed: int = SEED) -> Lengths:
    """Return lengths of published quantiles, prompts and outputs independent of each other."""
    requests = next(synth.chunks(statistics.rates, statistics.lengths, seed=seed))
    return requests.prompt_tokens[:DRAWN], requests.output_tokens[:DRAWN]


@dataclass(frozen=True, slots=True)
class Setting:
    """Replicas that share arrivals, the one with the fewest inside first.

    Attributes:
        profile: The physics of closed form and world.
        x: Clock ratio in (0, 1].
        replicas: How many.
        phase: What they play of each request.
    """

    profile: Profile
    x: float = 1.0
    replicas: int = 1
    phase: Phase = Phase.BOTH


def compare(
    setting: Setting, lengths: Lengths, *, loads: Sequence[float] = LOADS, requests: int = REQUESTS
) -> tuple[Line, ...]:
    """Return one line per load.

    Args:
        setting: Who serves.
        lengths: Pairs to draw from.
        loads: Shares of the saturated rate, in (0, 1).
        requests: Requests played per line.
    """
    if setting.phase is Phase.PREFILL:
        lengths = lengths[0], np.ones_like(lengths[1])
    saturated_rps = saturated(setting, lengths)
    return tuple(_line(setting, lengths, ratio, ratio * saturated_rps, requests) for ratio in loads)


def saturated(setting: Setting, lengths: Lengths) -> float:
    """Return the requests a second that one of the replicas finishes while its queue never empties."""
    requests = _requests(lengths, np.zeros(SATURATING))
    world = _world(replace(setting, replicas=1), requests)
    _finish(world)
    done_s = np.sort(world.finish_s[np.isfinite(world.finish_s)])
    first, last = len(done_s) // 4, len(done_s) * 3 // 4
    return float((last - first) / (done_s[last] - done_s[first]))


def planned(profile: Profile, load: Workload, *, x: float, replicas: int = 1) -> Seen | None:
    """Return what the closed form says of one of `replicas`, `load` being its own."""
    half = phases.operating_point(profile, load, x=x, replicas=replicas, percentile_ratio=0.5)
    most = phases.operating_point(
        profile, load, x=x, replicas=replicas, percentile_ratio=0.99, tiers_tokens=TIERS_TOKENS
    )
    if half is None or most is None:
        return None
    ttft_s, tpot_s = (half.ttft_s, most.ttft_s), (half.tpot_s, most.tpot_s)
    if most.tiered is None:  # only decoded: the first token was made elsewhere
        return Seen(math.nan, math.nan, math.nan, math.nan, *tpot_s, most.gpu_w)
    short_s, medium_s = (most.tiered.ttft_s(tier, 0.99) for tier in most.tiered.tiers)
    return Seen(*ttft_s, short_s, medium_s, *(tpot_s if load.phase is Phase.BOTH else (math.nan, math.nan)), most.gpu_w)


def _line(at: Setting, lengths: Lengths, ratio: float, rate_rps: float, count: int) -> Line:
    gaps_s = np.random.default_rng(SEED).exponential(1 / (rate_rps * at.replicas), count)
    requests = _requests(lengths, np.cumsum(gaps_s))
    came_rps = count / float(requests.arrival_s[-1])  # as it came out, not as it was drawn: sampling is nobody's error
    load = requests.workload(came_rps / at.replicas).of_phase(at.phase)
    told = planned(at.profile, load, x=at.x, replicas=at.replicas)
    return Line(at.profile.name, at.x, ratio, rate_rps, told, _seen(at, requests))


def _requests(lengths: Lengths, arrival_s: Floats) -> Requests:
    pick = np.random.default_rng(SEED + 1).integers(0, len(lengths[0]), len(arrival_s))
    return Requests(arrival_s, lengths[0][pick], lengths[1][pick])


def _world(at: Setting, requests: Requests) -> kernel.World:
    """Return the replicas in slots of their own; behind them, where they only decode, those that prefill for them."""
    feeders = FEEDERS * at.replicas if at.phase is Phase.DECODE else 0
    world = kernel.World(
        requests,
        (at.profile,),
        slots=at.replicas + feeders,
        end_s=float(requests.arrival_s[-1]) + 1.0,
        pools=2,
        hand_over=kernel.HandOver((1, None)) if feeders else None,
    )
    for _ in range(at.replicas):
        world.cap(world.create(0, now_s=0.0, ready_s=0.0, pool=1 if feeders else 0), 0.0, at.x, float("inf"))
    for _ in range(feeders):
        world.create(0, now_s=0.0, ready_s=0.0)
    return world


def _finish(world: kernel.World) -> None:
    """Play on until the last request is done."""
    while world.unfinished:
        world.advance(world.now_s + DRAIN_S)


def _seen(at: Setting, requests: Requests) -> Seen:
    """Play the trace and measure what began after the warm-up; watts until the last arrival."""
    skip = int(len(requests) * WARM_UP_SHARE)
    begin_s, end_s = float(requests.arrival_s[skip]), float(requests.arrival_s[-1])
    world = _world(at, requests)
    world.advance(begin_s)
    before_j = world.energy_j()[: at.replicas].sum()
    world.advance(end_s)
    joules = world.energy_j()[: at.replicas].sum() - before_j
    watts = float(joules) / (end_s - begin_s) / (at.profile.tp * at.replicas)
    _finish(world)
    ttft_s = (world.first_s - requests.arrival_s)[skip:]
    gaps = requests.output_tokens[skip:] - 1
    tpot_s = ((world.finish_s - world.first_s)[skip:] / np.maximum(gaps, 1))[gaps > 0]
    if at.phase is Phase.DECODE:
        ttft_s = np.full_like(ttft_s, math.nan)
    tier = np.digitize(requests.prompt_tokens[skip:], TIERS_TOKENS)
    short_s, medium_s = (_quantile(ttft_s[tier == place]) for place in range(len(TIERS_TOKENS)))
    (ttft_p50_s, ttft_p99_s), (tpot_p50_s, tpot_p99_s) = (
        (_quantile(each, 0.5), _quantile(each)) for each in (ttft_s, tpot_s)
    )
    return Seen(ttft_p50_s, ttft_p99_s, short_s, medium_s, tpot_p50_s, tpot_p99_s, watts)


def _quantile(times_s: Floats, ratio: float = 0.99) -> float:
    """Return a quantile of some requests' times; NaN where none is known."""
    known_s = times_s[np.isfinite(times_s)]
    return float(np.quantile(known_s, ratio)) if len(known_s) else math.nan
