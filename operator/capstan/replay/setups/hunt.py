"""Which set-ups are played, and which is the best: from the closed form's best dozen to the winner and its neighbours.

Who calls it: `setups.finding`. Must not know: the engine (it asks `Play`), files.

Joules of a set-up are known in closed form to a percent or two; whether it meets the SLO is not: one busy minute may be
late in a calm hour, and bursts within a minute are not seen. So the world is asked first how much stress of the busiest
minute the trace bears: with the scenario's own flags, the smallest fleet at full clock, then its clock. With that the
best dozen of the grid is settled, then what is around the winner until no neighbour is better.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from capstan.optimize import clock
from capstan.replay.searches.trial import Spent
from capstan.replay.setups.kinds import Engine, Objective, Setup
from capstan.replay.setups.screen import Key, Screen, Screened
from capstan.replay.setups.world import Play, Played

DOZEN = 12
MOST_MISSES = 2
"""In a row, down the clocks: lateness is noisy by about one rung of 60 MHz in traces of an hour."""

PLAUSIBLE_RATIO = 1.02
"""What costs more than this times the best in closed form is not played: that is how far watts of the closed form are
from the world's (docs/explanation/queueing.md)."""

BINDING_RATIO = 0.8
"""A limit of sequences that was filled to less than this never bound: the peak is seen at ticks of 5 s."""

FINE_RATIO = 0.5  # of a rung of `clock.grid_mhz`: around the winner
NEVER: Key = (float("inf"),)
Told = Callable[[float], None]


@dataclass(slots=True)
class Hunt:
    """A search in the world that may use `runs` of them. `tried` remembers every set-up that was played."""

    screen: Screen
    play: Play
    runs: int
    objective: Objective = Objective.JOULES
    told: Told = lambda _: None
    tried: dict[Setup, Played[Setup]] = field(default_factory=dict)
    finished: bool = False

    # --- what was found ----------------------------------------------------------------------------

    @property
    def best(self) -> Played[Setup] | None:
        """The best that met the SLO; None where nothing did."""
        return self._best_of(self.tried.values())

    @property
    def best_own(self) -> Played[Setup] | None:
        """The best that met the SLO with the scenario's own engine flags and without stages."""
        return self._best_of(each for each in self.tried.values() if self.screen.grid.is_own(each.setup.engine))

    @property
    def closest(self) -> Played[Setup]:
        """The set-up with the most requests inside the SLO, of those the least joules."""
        return max(self.tried.values(), key=lambda each: (each.attainment_ratio, -each.energy_j))

    def key(self, setup: Setup, energy_j: float) -> Key:
        """Return what the objective makes least."""
        return self.screen.key(self.objective, setup, energy_j)

    def _best_of(self, each: Iterable[Played[Setup]]) -> Played[Setup] | None:
        met = (one for one in each if one.slo_met)
        return min(met, key=lambda one: self.key(one.setup, one.energy_j), default=None)

    # --- the search --------------------------------------------------------------------------------

    def search(self) -> None:
        """Look for the best set-up.

        Where none meets the SLO the largest fleets were played: `closest` is among them.
        """
        with contextlib.suppress(Spent):
            for engine in self._own():
                self._anchor(engine)
            self._around_own()
            for row in self._firsts()[:DOZEN]:
                self.settle(row.setup.engine, row.setup.replicas)
            if self.best is None:
                for setup in self._largest():
                    self._played(setup)
            self._around()
            self.finished = True

    @property
    def borne_ratio(self) -> float:
        """Stress of the busiest minute that the trace bears: that of the best so far, 1 until there is one."""
        return 1.0 if self.best is None else self.screen.at(self.best.setup).stress_ratio

    def _own(self) -> list[Engine]:
        """Return the engines with the scenario's own flags, of least joules in closed form first."""
        engines = [engine for engine in self.screen.grid.engines if self.screen.grid.is_own(engine)]
        least = {e: min((self._screened_key(row) for row in self.screen.best(e)), default=NEVER) for e in engines}
        return sorted(engines, key=lambda engine: least[engine])

    def _anchor(self, engine: Engine) -> None:
        """Settle the smallest fleet of an engine that meets the SLO at full clock, if it could be the best."""
        rows = self.screen.best(engine, self.borne_ratio)
        if self.best is not None and not any(self._worth(row) for row in rows):
            return
        count = self._smallest(engine)
        if count is not None:
            self.settle(engine, count)

    def _smallest(self, engine: Engine) -> int | None:
        """Return the fewest replicas that meet the SLO at full clock, in the world; None where no count does.

        More replicas never hurt, so it gallops from the closed form's guess, and is bisected.
        """
        least, most = self.screen.least, self.screen.most(engine)
        if most < least:
            return None
        low, high, step = least - 1, self.screen.smallest(engine, self.borne_ratio) or most, 1
        while not self._full(engine, high).slo_met:
            if high == most:
                return None
            low, high, step = high, min(high + step, most), 2 * step
        step = 1
        while high - low > 1:
            middle = max(high - step, low + 1) if step else (low + high) // 2
            met = self._full(engine, middle).slo_met
            low, high, step = (low, middle, 2 * step) if met else (middle, high, 0)
        return high

    def _full(self, engine: Engine, replicas: int) -> Played[Setup]:
        return self._played(Setup(engine, replicas, self.screen.full_mhz(engine)))

    def _firsts(self) -> list[Screened]:
        """Return the best of each engine within what the trace bears, best first."""
        by_engine: dict[Engine, Screened] = {}
        for row in sorted(self.screen.rows(self.borne_ratio), key=self._screened_key):
            by_engine.setdefault(row.setup.engine, row)
        return list(by_engine.values())

    def settle(self, engine: Engine, replicas: int) -> None:
        """Find in the world the clock of a fleet that meets the SLO with the least joules.

        It begins with the cheapest clock within what the trace bears.
        """
        curve = self.screen.curve(engine, replicas)
        within = [index for index, row in enumerate(curve) if row.stress_ratio <= self.borne_ratio]
        at = min(within, key=lambda index: curve[index].energy_j, default=0)
        if not curve or not self._worth(curve[at]):
            return
        if self._played(curve[at].setup).slo_met:
            self._down(curve[at:])
        else:
            self._up(curve[:at])

    def _down(self, curve: Sequence[Screened]) -> None:
        """Lower the clock while that saves joules, until the SLO is missed."""
        misses = 0
        for before, row in itertools.pairwise(curve):
            if row.energy_j >= before.energy_j or misses == MOST_MISSES:
                return
            misses = 0 if self._played(row.setup).slo_met else misses + 1

    def _up(self, curve: Sequence[Screened]) -> None:
        """Find the lowest clock of these, highest first, that meets the SLO, as far as it could still be the best."""
        worth = [row for row in curve if self._worth(row)]
        if not worth or not self._played(worth[0].setup).slo_met:
            return
        low, high = len(worth), 0
        while low - high > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._played(worth[middle].setup).slo_met else (middle, high)

    def _around_own(self) -> None:
        """Play the counts beside the best with the scenario's own flags, until none is better."""
        before: Played[Setup] | None = None
        while self.best_own is not None and self.best_own is not before:
            before = self.best_own
            for engine, replicas in self._counts(before.setup):
                self.settle(engine, replicas)

    def _around(self) -> None:
        """Play what is next to the winner, until nothing there is better."""
        before: Played[Setup] | None = None
        while self.best is not None and self.best is not before:
            before = self.best
            for engine, replicas in (*self._counts(before.setup), *self._neighbours(before)):
                self.settle(engine, replicas)
            for setup in self._finely(before.setup):
                self._played(setup)

    def _counts(self, setup: Setup) -> Iterator[tuple[Engine, int]]:
        """Yield a fleet with a replica less and one with a replica more."""
        for count in (setup.replicas - 1, setup.replicas + 1):
            if self.screen.least <= count <= self.screen.most(setup.engine):
                yield setup.engine, count

    def _neighbours(self, around: Played[Setup]) -> Iterator[tuple[Engine, int]]:
        """Yield the fleets one step away in kind: one flag changed, or as many GPUs laid out otherwise."""
        setup, grid = around.setup, self.screen.grid
        engine = setup.engine
        for chunk in _beside(grid.chunk_tokens, engine.chunk_tokens):
            yield replace(engine, chunk_tokens=chunk), setup.replicas
        for seqs in _beside(grid.max_num_seqs, engine.max_num_seqs):
            binds = around.peak_sequences >= BINDING_RATIO * min(seqs, engine.max_num_seqs)
            if seqs >= engine.pp and binds:
                yield replace(engine, max_num_seqs=seqs), setup.replicas
        for tp, pp in itertools.product(grid.tps, grid.pps):
            other = Engine(tp, pp, max(engine.max_num_seqs, pp), engine.chunk_tokens)
            near = min(max(round(setup.gpus / other.gpus), self.screen.least), self.screen.most(other))
            if (tp, pp) != (engine.tp, engine.pp) and near >= 1:
                yield other, near

    def _finely(self, setup: Setup) -> Iterator[Setup]:
        """Yield the clocks beside a set-up's: half a rung and a whole one each way."""
        clocks = self.screen.lane(setup.engine).clocks
        rung_mhz = clocks.step_mhz * clock.GRID_STEPS
        for rungs in (-FINE_RATIO, FINE_RATIO, -1.0, 1.0):
            clock_mhz = clocks.snapped_mhz(setup.clock_mhz + rungs * rung_mhz)
            if self.screen.least_mhz(setup.engine) <= clock_mhz <= clocks.max_mhz:
                yield replace(setup, clock_mhz=clock_mhz)

    def _largest(self) -> Iterator[Setup]:
        """Yield the largest fleets at full clock: of each layout with the scenario's flags, then of other chunks.

        More sequences than the scenario's are left out: what nothing carries is not for want of seats.
        """
        grid = self.screen.grid
        engines = [e for e in grid.engines if e.max_num_seqs == grid.max_num_seqs[0] and self.screen.most(e)]
        fleets = [Setup(e, self.screen.most(e), self.screen.full_mhz(e)) for e in engines]
        ranked = sorted(fleets, key=lambda one: -self.screen.capacity_rps(one))
        yield from dict.fromkeys((*(one for one in ranked if grid.is_own(one.engine)), *ranked[:DOZEN]))

    # --- inside ------------------------------------------------------------------------------------

    def _screened_key(self, row: Screened) -> Key:
        return self.key(row.setup, row.energy_j)

    def _worth(self, row: Screened) -> bool:
        """Return whether a set-up could be better than the best that was played."""
        if self.best is None:
            return True
        *first, counted_j = self._screened_key(self.screen.at(self.best.setup))
        return self._screened_key(row) <= (*first, counted_j * PLAUSIBLE_RATIO)

    def _played(self, setup: Setup) -> Played[Setup]:
        """Play a set-up; one that was played before costs nothing.

        Raises:
            Spent: No run is left.
        """
        if setup not in self.tried:
            if len(self.tried) >= self.runs:
                raise Spent
            self.tried[setup] = self.play(setup)
            self.told(len(self.tried) / self.runs)
        return self.tried[setup]


def _beside(values: Sequence[int], value: int) -> Iterator[int]:
    """Yield the next smaller and the next larger of some values."""
    yield from (max((each for each in values if each < value), default=value),) if value > min(values) else ()
    yield from (min((each for each in values if each > value), default=value),) if value < max(values) else ()
