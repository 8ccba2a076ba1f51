"""Prefill and decode on different replicas, in closed form: which pairs of pools are worth playing.

Who calls it: `setups.handed`, `app.search`. Must not know: the world.

Either pool is `model.phases` in closed form, under the one limit that is its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from capstan.model import power
from capstan.model.workload import Phase
from capstan.optimize import clock, sizing
from capstan.replay.setups.kinds import Pair, Setup
from capstan.replay.setups.screen import SPARE_RATIO, Screen


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


def search(screen: Screen, within_ratio: float = 1.0) -> tuple[Apart, ...]:
    """Return, per number of GPUs, the pair of pools with the least joules; fewest GPUs first.

    Both pools have engines of the screen's grid without stages, and a busiest minute whose latency is within a ratio
    of its limit; bounds hold for both together.
    """
    prefill, decode = (_cheapest(_parts(screen, phase, within_ratio)) for phase in (Phase.PREFILL, Phase.DECODE))
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


def _parts(screen: Screen, phase: Phase, within_ratio: float) -> Iterator[Part]:
    """Yield every fleet and clock whose busiest minute is within the ratio, in the counts that come into question."""
    for engine in (each for each in screen.grid.engines if each.pp == 1):
        full_mhz, counts = screen.full_mhz(engine), range(1, screen.most(engine) + 1)
        full = ((n, _part(screen, phase, Setup(engine, n, full_mhz)).stress_ratio) for n in counts)
        least = next((n for n, stress in full if stress <= within_ratio), None)
        if least is None:
            continue
        for count in range(least, min(math.ceil(least * SPARE_RATIO) + 1, screen.most(engine)) + 1):
            yield from _down(screen, phase, Setup(engine, count, full_mhz), within_ratio)


def _down(screen: Screen, phase: Phase, setup: Setup, within_ratio: float) -> Iterator[Part]:
    """Yield a fleet down its clocks as long as it is within the ratio."""
    lane = screen.lane(setup.engine)
    for clock_mhz in clock.grid_mhz(lane, min_clock_mhz=screen.least_mhz(setup.engine)):
        part = _part(screen, phase, replace(setup, clock_mhz=clock_mhz))
        if part.stress_ratio > within_ratio:
            return
        yield part


def _part(screen: Screen, phase: Phase, setup: Setup) -> Part:
    """Return one pool over the trace; the busiest minute comes first, and one that has no steady state ends it."""
    lane, slo = screen.lane(setup.engine), screen.slo.of_phase(phase)
    x = lane.clocks.ratio(setup.clock_mhz)
    energy_j, busiest = 0.0, None
    for index, stretch in enumerate(screen.stretches):
        at, gpu_w = None, power.idle_w(lane)
        if stretch.load is not None:
            at = sizing.point(lane, stretch.load.of_phase(phase).scaled(1 / setup.lanes), slo, x=x)
            if at is None:
                return Part(setup, math.inf, math.inf, math.inf)
            gpu_w = at.gpu_w
        busiest = at if index == 0 else busiest
        energy_j += stretch.lasting_s * setup.gpus * gpu_w
    if busiest is None:
        return Part(setup, energy_j, 0.0, 0.0)
    latency_s = busiest.ttft_s if phase is Phase.PREFILL else busiest.tpot_s
    return Part(setup, energy_j, sizing.stress_ratio(busiest, slo), latency_s)


def _cheapest(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return the part of least joules of each number of GPUs."""
    best: dict[int, Part] = {}
    for part in parts:
        known = best.get(part.setup.gpus)
        if known is None or part.energy_j < known.energy_j:
            best[part.setup.gpus] = part
    return tuple(best.values())
