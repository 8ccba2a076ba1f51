"""Small searches for a set-up: a screen of the round-numbered engine, and a world that is one line of arithmetic."""

from __future__ import annotations

import dataclasses
from typing import Any

from capstan.model.policy import Bounds
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.replay.setups import apart
from capstan.replay.setups.demand import Stretch
from capstan.replay.setups.kinds import Engine, Setup
from capstan.replay.setups.screen import Grid, Measured, Screen
from capstan.replay.setups.world import Played
from support import small

OWN = Engine(tp=4, pp=1, max_num_seqs=256, chunk_tokens=512)
FULL_MHZ = 1980.0
SLO = Slo(ttft_s=2.0, tpot_s=0.1)
BUSY, QUIET = Workload(20.0, 900.0, 150.0), Workload(10.0, 900.0, 150.0)
GRID = Grid(tps=(4, 8), pps=(1, 2), max_num_seqs=(256, 128), chunk_tokens=(512, 1024))


def screen(**changes: Any) -> Screen:
    """A busy minute and nine quiet ones, on four servers of eight GPUs."""
    base = Screen(
        profiles=small.BOTH,
        slo=SLO,
        stretches=(Stretch(BUSY, 60.0), Stretch(QUIET, 540.0)),
        grid=GRID,
        bounds=Bounds(1, 8, tensor_parallel=(4, 8)),
        rooms={4: 8, 8: 4},
        measured={4: Measured(sequences=256, chunk_tokens=600)},
    )
    return dataclasses.replace(base, **changes)


def played(setup: Setup, *, energy_j: float = 1000.0, slo_met: bool = True, **changes: Any) -> Played[Setup]:
    """A run of 100 requests, all of them good unless the SLO was missed."""
    base = Played(
        setup=setup,
        slo_met=slo_met,
        attainment_ratio=1.0 if slo_met else 0.9,
        energy_j=energy_j,
        unassigned_j=0.0,
        ttft_s=0.5,
        tpot_s=0.05,
        peak_sequences=10.0,
        requests=100,
        completed=100,
        output_tokens=10_000,
    )
    return dataclasses.replace(base, **changes)


@dataclasses.dataclass
class Arithmetic:
    """A world that spends 1 % less than the closed form says, and bears `bears_ratio` of its limits."""

    screen: Screen
    bears_ratio: float = 1.0
    setups: list[Setup] = dataclasses.field(default_factory=list)

    def __call__(self, setup: Setup) -> Played[Setup]:
        self.setups.append(setup)
        known = self.screen.at(setup)
        met = known.stress_ratio <= self.bears_ratio
        late = 0.0 if met else min(known.stress_ratio / 100, 1.0)
        return played(setup, energy_j=0.99 * known.energy_j, slo_met=met, attainment_ratio=1 - late)


def pairs(over: Screen) -> tuple[apart.Apart, ...]:
    """The pairs of a screen."""
    return apart.search(over)
