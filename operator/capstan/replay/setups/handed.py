"""Pairs of pools in the world: prompts computed on one, handed over with their KV cache, decoded on the other.

Who calls it: `app.search`. Must not know: how pairs are screened, files. The kernel hands over (`kernel.HandOver`); as
systems do not decide about such pools yet, the engine's loop is not needed: a fixed pair is a world without events.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from capstan.model import power
from capstan.optimize import clock
from capstan.replay import kernel
from capstan.replay.runs import Energy, Outcomes, Run, ServiceRun, ServiceSeries
from capstan.replay.searches.trial import Spent
from capstan.replay.setups import apart
from capstan.replay.setups.apart import Apart
from capstan.replay.setups.kinds import Objective, Pair, Setup
from capstan.replay.setups.screen import Key, Screen
from capstan.replay.setups.world import NAME, Alone, Played

PREFILL, DECODE = 0, 1  # pools of the world
LOOK_S = 5.0  # how often it is seen whether everybody is done; the end is the last completion all the same
STARTS = 3
"""Pairs that a search begins with, the best in closed form: they differ in layout, and it finds the clocks."""

Told = Callable[[float], None]
PairPlay = Callable[[Pair], Played[Pair]]


def play(alone: Alone, screen: Screen, pair: Pair) -> Played[Pair]:
    """Play a pair of pools on the physics that a screen has of their engines."""
    pools = (pair.prefill, pair.decode)
    lanes = tuple(screen.lane(setup.engine) for setup in pools)
    scenario = alone.scenario
    end_s = scenario.duration_s + scenario.drain_s
    world = kernel.World(
        alone.requests,
        lanes,
        slots=sum(setup.replicas for setup in pools),
        end_s=end_s,
        pools=2,
        hand_over=kernel.HandOver((DECODE, None)),
    )
    for pool, (setup, lane) in enumerate(zip(pools, lanes, strict=True)):
        for _ in range(setup.replicas):
            slot = world.create(pool, now_s=0.0, ready_s=0.0, pool=pool)
            world.cap(slot, 0.0, lane.clocks.ratio(setup.clock_mhz), math.inf)
    peak = _advance(world, end_s)
    return alone.scored(pair, _run(alone, world, pair), peak_sequences=peak / pair.decode.replicas)


def _advance(world: kernel.World, end_s: float) -> float:
    """Play until everybody is done, or to the end; return the most sequences that the decode pool held."""
    peak, now_s = 0.0, 0.0
    while world.unfinished and now_s < end_s:
        now_s = min(now_s + LOOK_S, end_s)
        world.advance(now_s)
        rows = world.replicas
        peak = max(peak, float(rows["running"].sum(where=rows["pool"] == DECODE)))
    return peak


def _run(alone: Alone, world: kernel.World, pair: Pair) -> Run:
    """Return the run, cut off at its last completion: nothing but idle watts came after it."""
    totals = world.totals()
    last_s = float(np.nanmax(world.finish_s, initial=0.0))
    horizon_s = world.now_s if world.unfinished else min(last_s, world.now_s)
    over_s = world.now_s - horizon_s
    idle_w = sum(
        setup.gpus * power.idle_w(lane) for setup, lane in zip((pair.prefill, pair.decode), world.profiles, strict=True)
    )
    spare = sum(node.gpus for node in alone.scenario.nodes) - pair.gpus
    empty = np.array([])
    return Run(
        system=NAME,
        source="virtual time",
        trace=alone.scenario.trace,
        duration_s=horizon_s,
        services=(
            ServiceRun(
                policy=alone.policy,
                slo=alone.slo,
                profiles=tuple(profile.name for profile in world.profiles),
                outcomes=Outcomes(alone.requests, world.first_s, world.finish_s, world.max_tbt_s),
                series=ServiceSeries(**{each.name: empty for each in dataclasses.fields(ServiceSeries)}),
                energy=Energy(totals.serving_j, totals.idle_j - over_s * idle_w, totals.transition_j),
                gpu_seconds=pair.gpus * horizon_s,
            ),
        ),
        energy_unassigned_j=spare * horizon_s * world.profiles[0].draw.unloaded_w,
    )


# --- the search --------------------------------------------------------------------------------------


@dataclass(slots=True)
class PairHunt:
    """A search among pairs that may use `runs` of the world. `tried` remembers every pair that was played."""

    screen: Screen
    play: PairPlay
    runs: int
    objective: Objective = Objective.JOULES
    told: Told = lambda _: None
    tried: dict[Pair, Played[Pair]] = field(default_factory=dict)
    finished: bool = False

    @property
    def best(self) -> Played[Pair] | None:
        """The best pair that met the SLO; None where none did."""
        met = (one for one in self.tried.values() if one.slo_met)
        return min(met, key=lambda one: self._key(one.setup, one.energy_j), default=None)

    def _key(self, pair: Pair, energy_j: float) -> Key:
        return self.screen.key(self.objective, pair, energy_j)

    def search(self, *found: Sequence[Apart]) -> None:
        """Settle the clocks of the pairs that are best in closed form, from each of some lists of them."""
        ranked = (sorted(each, key=lambda one: self._key(one.pair, one.energy_j))[:STARTS] for each in found)
        with contextlib.suppress(Spent):
            for start in itertools.chain.from_iterable(ranked):
                met = self._up(start.pair)
                if met is not None:
                    self._down(met)
            self.finished = True

    def _up(self, pair: Pair) -> Pair | None:
        """Give more to the pool that is late until the SLO is met; None where nothing more may be given."""
        now: Pair | None = pair
        while now is not None:
            played = self._played(now)
            if played.slo_met:
                return now
            late_first = played.ttft_s / self.screen.slo.ttft_s >= played.tpot_s / self.screen.slo.tpot_s
            now = self._more(now, prefill=late_first)
        return None

    def _more(self, pair: Pair, *, prefill: bool) -> Pair | None:
        """Return a pair with one pool a rung of clock higher, or at full clock a replica more; None: out of bounds."""
        setup = pair.prefill if prefill else pair.decode
        clocks = self.screen.lane(setup.engine).clocks
        if setup.clock_mhz < clocks.max_mhz:
            higher_mhz = min(setup.clock_mhz + clocks.step_mhz * clock.GRID_STEPS, clocks.max_mhz)
            more = dataclasses.replace(setup, clock_mhz=higher_mhz)
        else:
            more = dataclasses.replace(setup, replicas=setup.replicas + 1)
        found = _with(pair, more, prefill=prefill)
        return found if apart.inside(self.screen, found) else None

    def _down(self, pair: Pair) -> None:
        """Lower one clock or the other while the SLO is met and joules are saved."""
        best = self._played(pair)
        moved = True
        while moved:
            moved = False
            for lower in self._lower(pair):
                played = self._played(lower)
                if played.slo_met and played.energy_j < best.energy_j:
                    best, pair, moved = played, lower, True
                    break

    def _lower(self, pair: Pair) -> Iterator[Pair]:
        for prefill, setup in ((True, pair.prefill), (False, pair.decode)):
            clocks = self.screen.lane(setup.engine).clocks
            lower_mhz = setup.clock_mhz - clocks.step_mhz * clock.GRID_STEPS
            if lower_mhz >= self.screen.least_mhz(setup.engine):
                yield _with(pair, dataclasses.replace(setup, clock_mhz=lower_mhz), prefill=prefill)

    def _played(self, pair: Pair) -> Played[Pair]:
        """Play a pair; one that was played before costs nothing.

        Raises:
            Spent: No run is left.
        """
        if pair not in self.tried:
            if len(self.tried) >= self.runs:
                raise Spent
            self.tried[pair] = self.play(pair)
            self.told(len(self.tried) / self.runs)
        return self.tried[pair]


def _with(pair: Pair, setup: Setup, *, prefill: bool) -> Pair:
    return Pair(setup, pair.decode) if prefill else Pair(pair.prefill, setup)
