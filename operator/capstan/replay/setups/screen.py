"""The closed form over the whole grid: joules of every set-up on a trace, and how near it comes to a limit.

Who calls it: `setups.hunt` to know what to play, `app.search` for the frontier. Must not know: the world. It ranks;
whether an SLO is met is asked of the world.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from capstan.model import power, steady
from capstan.model.policy import Bounds
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.optimize import clock, sizing
from capstan.replay.setups import pipeline
from capstan.replay.setups.demand import Stretch
from capstan.replay.setups.kinds import Engine, Objective, Pair, Setup

SPARE_RATIO = 1.5
"""Replicas are looked at up to half more than full clock needs: beyond, what they idle away is more than a lower clock
saves on any shipped profile (the clock's grid ends near half, where watts no longer fall faster than steps grow)."""

REACH_RATIO = 4.0
"""Clocks are looked at until the busiest minute is this far over a limit. One minute of an hour may be: at 10 times its
rates, Azure's conversation hour still meets its SLO with a busiest minute at 2.3."""

LEAST_CLOCK_RATIO = 0.5
"""Of the highest clock, as far down as `best-static` looks: nobody has measured what steps take at lower ones, and the
assumed response (15 % of a decode step follows the clock) would make them look free."""


DOUBT_RATIO = 1.01
"""What nobody measured (`Screen.doubts`) must save a percent to be preferred, unless the scenario runs it anyway:
pipelines tie with as many replicas of their tp alone, and beyond some thousand tokens a larger chunk changes little."""

Key = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """What the engines of a search may be: every combination; the first of each flag is the scenario's own."""

    tps: tuple[int, ...]
    pps: tuple[int, ...]
    max_num_seqs: tuple[int, ...]
    chunk_tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        if not (self.tps and self.pps and self.max_num_seqs and self.chunk_tokens):
            raise ValueError("a grid has at least one value of everything")

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Every engine, those with the scenario's own flags first."""
        each = itertools.product(self.max_num_seqs, self.chunk_tokens, self.pps, self.tps)
        return tuple(Engine(tp, pp, seqs, chunk) for seqs, chunk, pp, tp in each if seqs >= pp)

    def is_own(self, engine: Engine) -> bool:
        """Return whether an engine is run as the scenario says: without stages, with its flags."""
        return (engine.pp, engine.max_num_seqs, engine.chunk_tokens) == (1, self.max_num_seqs[0], self.chunk_tokens[0])


@dataclass(frozen=True, slots=True)
class Measured:
    """What the parameters of a profile were fitted to: batches and prompts of one step up to these, None: unknown."""

    sequences: int | None = None
    chunk_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Screened:
    """A set-up in closed form.

    Attributes:
        energy_j: Joules of its GPUs over the trace.
        stress_ratio: The busiest minute's tightest latency over its limit; inf: no steady state.
        ttft_s, tpot_s: Of the busiest minute, at the SLO's percentile; inf where there is no steady state.
    """

    setup: Setup
    energy_j: float
    stress_ratio: float
    ttft_s: float
    tpot_s: float


@dataclass(slots=True)
class Screen:
    """Set-ups of one service on one trace. `stretches` begins with the busiest minute (`demand.stretches`).

    `bounds` limit replicas (a pipeline is one), GPUs and clocks; `rooms` are lanes of each tp that the servers hold,
    `measured` what each tp's profile was fitted to.
    """

    profiles: tuple[Profile, ...]
    slo: Slo
    stretches: tuple[Stretch, ...]
    grid: Grid
    bounds: Bounds
    rooms: Mapping[int, int]
    measured: Mapping[int, Measured] = field(default_factory=dict)
    looks: int = 0
    _lanes: dict[Engine, Profile] = field(default_factory=dict)
    _known: dict[Setup, Screened] = field(default_factory=dict)

    def lane(self, engine: Engine) -> Profile:
        """Return the physics of one lane of an engine."""
        if engine not in self._lanes:
            base = next(profile for profile in self.profiles if profile.tp == engine.tp)
            self._lanes[engine] = pipeline.lane(base, engine)
        return self._lanes[engine]

    def doubts(self, engine: Engine) -> tuple[str, ...]:
        """Return what of an engine no measurement is behind, in words; nothing for what was measured."""
        known = self.measured.get(engine.tp, Measured())
        found = ["pipeline modelled"] if engine.pp > 1 else []
        if known.chunk_tokens is not None and engine.chunk_tokens > known.chunk_tokens:
            found.append(f"chunk extrapolated (measured to {known.chunk_tokens:,} tokens)")
        if known.sequences is not None and engine.max_num_seqs // engine.pp > known.sequences:
            found.append(f"batch extrapolated (measured to {known.sequences:,} sequences)")
        return tuple(found)

    def key(self, objective: Objective, setup: Setup | Pair, energy_j: float) -> Key:
        """Return what an objective makes least, of a set-up that uses these joules."""
        engines = (setup.prefill.engine, setup.decode.engine) if isinstance(setup, Pair) else (setup.engine,)
        doubtful = any(self.doubts(engine) for engine in engines if not self.grid.is_own(engine))
        counted_j = energy_j * (DOUBT_RATIO if doubtful else 1.0)
        return (float(setup.gpus), counted_j) if objective is Objective.GPUS else (counted_j,)

    def most(self, engine: Engine) -> int:
        """Return how many replicas of an engine servers and bounds leave."""
        return min(self.rooms.get(engine.tp, 0) // engine.pp, self.bounds.most_replicas(engine.gpus))

    @property
    def least(self) -> int:
        """The fewest replicas that the bounds leave, at least one."""
        return max(self.bounds.min_replicas, 1)

    def full_mhz(self, engine: Engine) -> float:
        """Return an engine's highest clock."""
        return self.lane(engine).clocks.max_mhz

    def least_mhz(self, engine: Engine) -> float:
        """Return the lowest clock that is looked at."""
        clocks = self.lane(engine).clocks
        return max(LEAST_CLOCK_RATIO * clocks.max_mhz, clocks.min_mhz, self.bounds.min_clock_mhz or 0.0)

    def at(self, setup: Setup) -> Screened:
        """Return a set-up in closed form; joules at the board's limit where a load has no steady state."""
        if setup not in self._known:
            self.looks += 1
            self._known[setup] = self._screened(setup)
        return self._known[setup]

    def _screened(self, setup: Setup) -> Screened:
        lane = self.lane(setup.engine)
        x = lane.clocks.ratio(setup.clock_mhz)
        energy_j, busiest = 0.0, None
        for index, stretch in enumerate(self.stretches):
            point = None if stretch.load is None else self._point(lane, stretch, setup.lanes, x)
            if index == 0:
                busiest = point
            none_w = power.idle_w(lane) if stretch.load is None else lane.draw.limit_w
            energy_j += stretch.lasting_s * setup.gpus * (none_w if point is None else point.gpu_w)
        stress = sizing.stress_ratio(busiest, self.slo)
        ttft_s, tpot_s = (math.inf, math.inf) if busiest is None else (busiest.ttft_s, busiest.tpot_s)
        return Screened(setup, energy_j, stress, ttft_s, tpot_s)

    def _point(self, lane: Profile, stretch: Stretch, lanes: int, x: float) -> steady.OperatingPoint | None:
        return None if stretch.load is None else sizing.point(lane, stretch.load.scaled(1 / lanes), self.slo, x=x)

    def curve(self, engine: Engine, replicas: int) -> tuple[Screened, ...]:
        """Return a fleet down its clocks, full clock first, as far as it may be worth a look."""
        found = []
        for clock_mhz in clock.grid_mhz(self.lane(engine), min_clock_mhz=self.least_mhz(engine)):
            found.append(self.at(Setup(engine, replicas, clock_mhz)))
            if found[-1].stress_ratio > REACH_RATIO:
                break
        return tuple(found)

    def smallest(self, engine: Engine, within_ratio: float = 1.0) -> int | None:
        """Return the fewest replicas whose stress is within a ratio at full clock; None where no count's is."""
        low, high = self.least, self.most(engine)
        if high < low or not self._carries(engine, high, within_ratio):
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._carries(engine, middle, within_ratio) else (middle + 1, high)
        return low

    def _carries(self, engine: Engine, replicas: int, within_ratio: float) -> bool:
        return self.at(Setup(engine, replicas, self.full_mhz(engine))).stress_ratio <= within_ratio

    def best(self, engine: Engine, within_ratio: float = 1.0) -> tuple[Screened, ...]:
        """Return every set-up of an engine whose stress is within a ratio, in the counts that come into question."""
        least = self.smallest(engine, within_ratio)
        if least is None:
            return ()
        most = min(math.ceil(least * SPARE_RATIO) + 1, self.most(engine))
        rows = (row for count in range(least, most + 1) for row in self.curve(engine, count))
        return tuple(row for row in rows if row.stress_ratio <= within_ratio)

    def rows(self, within_ratio: float = 1.0) -> tuple[Screened, ...]:
        """Return every set-up of the grid whose stress is within a ratio.

        Of `max_num_seqs` only the scenario's own is looked at, unless nothing fits with it: in closed form a limit
        that is not reached changes nothing, and one that is reached is no steady state.
        """
        own, *others = self.grid.max_num_seqs
        found: list[Screened] = []
        layouts = dict.fromkeys((e.tp, e.pp, e.chunk_tokens) for e in self.grid.engines)
        for tp, pp, chunk in layouts:
            for seqs in (own, *(each for each in others if each > own)):
                rows = self.best(Engine(tp, pp, seqs, chunk), within_ratio) if seqs >= pp else ()
                found += rows
                if rows:
                    break
        return tuple(found)

    def capacity_rps(self, setup: Setup) -> float:
        """Return the arrivals of the busiest minute's mix that a set-up carries inside the SLO, in closed form."""
        load = self.stretches[0].load
        if load is None:
            return math.inf
        lane = self.lane(setup.engine)
        x = lane.clocks.ratio(setup.clock_mhz)
        return setup.lanes * sizing.capacity_rps(lane, load, self.slo, x=x, margin=1.0)


def frontier(rows: Iterable[Screened]) -> tuple[Screened, ...]:
    """Return, per number of GPUs, the set-up of least joules, fewest GPUs first."""
    best: dict[int, Screened] = {}
    for row in rows:
        if row.setup.gpus not in best or row.energy_j < best[row.setup.gpus].energy_j:
            best[row.setup.gpus] = row
    return tuple(best[gpus] for gpus in sorted(best))
