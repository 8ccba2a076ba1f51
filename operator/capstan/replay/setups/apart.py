"""Prefill and decode on different replicas, in closed form: which pairs of pools are worth playing.

Who calls it: `setups.handed`, `app.search`. Must not know: the world.

The prefill pool makes first tokens: prompts queue for its chunk budget as M/G/1 (`model.steady` with answers of one
token), under the limits of TTFT. The decode pool makes the rest: sequences arrive with their KV cache, their number is
the fixed point of Little's law, Poisson around its mean (M/G/inf), under the limit of TPOT. A request's keys and values
cross the network in between; that delays its second token, so it counts for TPOT, most in short answers.

Not counted: the network's watts, transfers that queue, decode replicas that stand idle while others are full.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

from capstan.model import latency, power, steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import clock, sizing
from capstan.replay.kernel import rules
from capstan.replay.setups.kinds import Pair, Setup
from capstan.replay.setups.screen import SPARE_RATIO, Screen

TURNS = 500
PRECISION_RATIO = 1e-6
"""The fixed point is approached from below; a load that needs more turns is at the edge of what is served at all."""


@dataclass(frozen=True, slots=True)
class Part:
    """One pool in closed form: joules over the trace, and the busiest minute's latency over its limit."""

    setup: Setup
    energy_j: float
    stress_ratio: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class Apart:
    """Two pools."""

    prefill: Part
    decode: Part

    @property
    def pair(self) -> Pair:
        """What they are."""
        return Pair(self.prefill.setup, self.decode.setup)

    @property
    def energy_j(self) -> float:
        """Joules of both."""
        return self.prefill.energy_j + self.decode.energy_j

    @property
    def stress_ratio(self) -> float:
        """The tighter of both."""
        return max(self.prefill.stress_ratio, self.decode.stress_ratio)


@dataclass(frozen=True, slots=True)
class Steady:
    """One replica of a pool in steady state: the latency that is its own, over its limit, and watts of one GPU."""

    latency_s: float
    stress_ratio: float
    gpu_w: float


Look = Callable[[Profile, Workload, float], Steady | None]
"""The steady state of a replica of these physics under its load at a clock ratio; None: there is none."""


def prefilling(profile: Profile, load: Workload, x: float, slo: Slo) -> Steady | None:
    """Return the steady state of a replica that only makes first tokens; its latency is TTFT."""
    first = replace(load, output_tokens=1.0)
    found = sizing.point(profile, first, slo, x=x)
    if found is None:
        return None
    return Steady(found.ttft_s, sizing.first_stress_ratio(found, slo), found.gpu_w)


def decoding(profile: Profile, load: Workload, x: float, slo: Slo) -> Steady | None:
    """Return the steady state of a replica that only decodes; its latency is TPOT, the transfer's share included.

    `load` is what arrives at this replica, its prompts already computed.
    """
    context_tokens = load.prompt_tokens + load.output_tokens / 2
    most = min(profile.max_num_seqs, profile.kv_tokens / (load.prompt_tokens + load.output_tokens))

    def step_s(batch: float) -> float:
        return latency.decode_step_s(profile, max(batch, 1.0), max(batch, 1.0) * context_tokens, x)

    batch = _fixed_point(lambda held: load.arrival_rps * load.output_tokens * step_s(held), most)
    high = math.inf if batch is None else batch + NormalDist().inv_cdf(slo.percentile_ratio) * math.sqrt(batch)
    if batch is None or high >= most:
        return None
    idle_share = math.exp(-batch)
    busy = max(batch / (1 - idle_share), 1.0)
    busy_w = power.step_w(profile, busy, busy * context_tokens, step_s(busy), x)
    short_tokens = max(steady.SHORT_OUTPUT_RATIO * load.output_tokens, 1.0)
    tpot_s = step_s(high) + transfer_s(profile, load.prompt_tokens) / short_tokens
    mean_w = (1 - idle_share) * busy_w + idle_share * power.idle_w(profile)
    return Steady(tpot_s, tpot_s / slo.tpot_s, mean_w)


def transfer_s(profile: Profile, prompt_tokens: float) -> float:
    """Return what the keys and values of a prompt take to a replica: every GPU receives its share at its own port."""
    return rules.LINK_SETUP_S + profile.work.kv_bytes_per_token * prompt_tokens / rules.LINK_BYTES_PER_S


def search(screen: Screen, within_ratio: float = 1.0) -> tuple[Apart, ...]:
    """Return, per number of GPUs, the pair of pools with the least joules; fewest GPUs first.

    Both pools have engines of the screen's grid without stages, and a busiest minute whose latency is within a ratio
    of its limit; bounds hold for both together.
    """
    slo = screen.slo
    prefill = _cheapest(_parts(screen, lambda profile, load, x: prefilling(profile, load, x, slo), within_ratio))
    decode = _cheapest(_parts(screen, lambda profile, load, x: decoding(profile, load, x, slo), within_ratio))
    best: dict[int, Apart] = {}
    for pair in (Apart(first, second) for first in prefill for second in decode):
        known = best.get(pair.pair.gpus)
        if inside(screen, pair.pair) and (known is None or pair.energy_j < known.energy_j):
            best[pair.pair.gpus] = pair
    return tuple(best[gpus] for gpus in sorted(best))


def inside(screen: Screen, pair: Pair) -> bool:
    """Return whether both pools together keep bounds and find room."""
    bounds = screen.bounds
    most_gpus = max((tp * lanes for tp, lanes in screen.rooms.items()), default=0)
    if bounds.max_gpus is not None:
        most_gpus = min(most_gpus, bounds.max_gpus)
    return pair.gpus <= most_gpus and pair.prefill.replicas + pair.decode.replicas <= bounds.max_replicas


# --- inside ------------------------------------------------------------------------------------------


def _fixed_point(following: Callable[[float], float], most: float) -> float | None:
    """Return the least batch that follows from itself, None where there is none below `most`."""
    batch = 0.0
    for _ in range(TURNS):
        after = following(batch)
        if after > most:
            return None
        if after - batch <= PRECISION_RATIO * after:
            return after
        batch = after
    return None


def _parts(screen: Screen, look: Look, within_ratio: float) -> Iterator[Part]:
    """Yield every fleet and clock whose busiest minute is within the ratio, in the counts that come into question."""
    for engine in (each for each in screen.grid.engines if each.pp == 1):
        full_mhz, counts = screen.full_mhz(engine), range(1, screen.most(engine) + 1)
        full = ((n, _part(screen, look, Setup(engine, n, full_mhz)).stress_ratio) for n in counts)
        least = next((n for n, stress in full if stress <= within_ratio), None)
        if least is None:
            continue
        for count in range(least, min(math.ceil(least * SPARE_RATIO) + 1, screen.most(engine)) + 1):
            yield from _down(screen, look, Setup(engine, count, full_mhz), within_ratio)


def _down(screen: Screen, look: Look, setup: Setup, within_ratio: float) -> Iterator[Part]:
    """Yield a fleet down its clocks as long as it is within the ratio."""
    lane = screen.lane(setup.engine)
    for clock_mhz in clock.grid_mhz(lane, min_clock_mhz=screen.least_mhz(setup.engine)):
        part = _part(screen, look, replace(setup, clock_mhz=clock_mhz))
        if part.stress_ratio > within_ratio:
            return
        yield part


def _part(screen: Screen, look: Look, setup: Setup) -> Part:
    """Return one pool over the trace; the busiest minute comes first, and one that has no steady state ends it."""
    lane = screen.lane(setup.engine)
    x = lane.clocks.ratio(setup.clock_mhz)
    energy_j, busiest = 0.0, Steady(0.0, 0.0, 0.0)
    for index, stretch in enumerate(screen.stretches):
        load = stretch.load
        found = Steady(0.0, 0.0, power.idle_w(lane)) if load is None else look(lane, load.scaled(1 / setup.lanes), x)
        if found is None:
            return Part(setup, math.inf, math.inf, math.inf)
        busiest = found if index == 0 else busiest
        energy_j += stretch.lasting_s * setup.gpus * found.gpu_w
    return Part(setup, energy_j, busiest.stress_ratio, busiest.latency_s)


def _cheapest(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return the part of least joules of each number of GPUs."""
    best: dict[int, Part] = {}
    for part in parts:
        known = best.get(part.setup.gpus)
        if known is None or part.energy_j < known.energy_j:
            best[part.setup.gpus] = part
    return tuple(best.values())
