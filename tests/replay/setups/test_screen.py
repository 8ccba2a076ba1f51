"""The closed form over a grid: joules by hand, what fits, what is bounded, and what is said to be extrapolated."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model.policy import Bounds
from capstan.optimize import sizing
from capstan.replay.setups import screen as screens
from capstan.replay.setups.demand import Stretch
from capstan.replay.setups.kinds import Engine, Objective, Pair, Setup
from capstan.replay.setups.screen import Grid, Measured, Screened
from support import setups, small
from support.setups import BUSY, FULL_MHZ, OWN, QUIET, SLO


def test_joules_are_each_stretch_s_watts_for_as_long_as_it_lasts() -> None:
    """Three replicas: each has a third of either load; 12 GPUs; 60 s busy and 540 s quiet."""
    found = setups.screen().at(Setup(OWN, 3, FULL_MHZ))
    each = [sizing.point(small.TP4, load.scaled(1 / 3), SLO) for load in (BUSY, QUIET)]
    assert each[0] is not None
    assert each[1] is not None
    assert found.energy_j == pytest.approx(12 * (60 * each[0].gpu_w + 540 * each[1].gpu_w))
    assert found.stress_ratio == sizing.stress_ratio(each[0], SLO)
    assert (found.ttft_s, found.tpot_s) == (each[0].ttft_s, each[0].tpot_s)


def test_an_idle_trace_draws_idle_watts() -> None:
    """8 GPUs x 115 W x 100 s = 92 kJ; nothing is late."""
    found = setups.screen(stretches=(Stretch(None, 100.0),)).at(Setup(OWN, 2, FULL_MHZ))
    assert found.energy_j == pytest.approx(92_000)
    assert found.stress_ratio == math.inf, "a trace without a request has shown nothing"


def test_too_much_load_has_no_steady_state_and_draws_the_boards_limit() -> None:
    """60 requests/s on one replica: 4 GPUs x 700 W x 600 s."""
    flood = (Stretch(BUSY.at(60.0), 600.0),)
    found = setups.screen(stretches=flood).at(Setup(OWN, 1, FULL_MHZ))
    assert found.stress_ratio == math.inf
    assert found.energy_j == pytest.approx(4 * 700 * 600)


def test_a_pipeline_s_lanes_share_the_load() -> None:
    """Two replicas of two stages are four lanes: the batches of four replicas, in steps a hop longer."""
    screen = setups.screen()
    lanes = screen.at(Setup(dataclasses.replace(OWN, pp=2), 2, FULL_MHZ))
    plain = screen.at(Setup(OWN, 4, FULL_MHZ))
    assert lanes.setup.gpus == plain.setup.gpus == 16
    assert lanes.energy_j == pytest.approx(plain.energy_j, rel=0.01)
    assert lanes.tpot_s > plain.tpot_s


MOST = {
    "servers hold four of tp 8": (Engine(8, 1, 256, 512), {}, 4),
    "the policy's replicas": (OWN, {"bounds": Bounds(1, 3)}, 3),
    "GPUs that were given": (OWN, {"bounds": Bounds(1, 8, max_gpus=11)}, 2),
    "a pipeline takes its lanes": (Engine(4, 2, 256, 512), {}, 4),
    "a pipeline is one replica of the policy": (Engine(4, 2, 256, 512), {"bounds": Bounds(1, 3)}, 3),
    "a degree without room": (Engine(8, 1, 256, 512), {"rooms": {4: 8}}, 0),
}


@pytest.mark.parametrize(("engine", "changes", "most"), MOST.values(), ids=MOST)
def test_replicas_end_where_servers_or_bounds_do(engine: Engine, changes: dict[str, object], most: int) -> None:
    assert setups.screen(**changes).most(engine) == most


def test_the_smallest_fleet_carries_its_busiest_minute_and_one_fewer_does_not() -> None:
    screen = setups.screen()
    count = screen.smallest(OWN)
    assert count is not None
    assert count > 1
    assert screen.at(Setup(OWN, count, FULL_MHZ)).stress_ratio <= 1
    assert screen.at(Setup(OWN, count - 1, FULL_MHZ)).stress_ratio > 1


def test_the_least_count_of_the_policy_is_kept() -> None:
    screen = setups.screen(bounds=Bounds(6, 8))
    assert screen.smallest(OWN) == 6
    assert min(row.setup.replicas for row in screen.rows()) == 6


def test_nothing_fits_where_the_load_is_too_much() -> None:
    screen = setups.screen(stretches=(Stretch(BUSY.at(500.0), 60.0),))
    assert screen.smallest(OWN) is None
    assert screen.rows() == ()


def test_clocks_go_down_to_half_or_to_the_policy_s_least() -> None:
    screen = setups.screen(stretches=(Stretch(QUIET.at(0.2), 60.0),))
    clocks = [row.setup.clock_mhz for row in screen.curve(OWN, 4)]
    assert (clocks[0], clocks[-1]) == (1980, 1020), "1980 less 16 steps of 60 MHz; half is 990"
    bounded = setups.screen(stretches=screen.stretches, bounds=Bounds(1, 8, min_clock_mhz=1500))
    assert min(row.setup.clock_mhz for row in bounded.curve(OWN, 4)) == 1500


def test_more_sequences_are_looked_at_only_where_the_scenario_s_own_do_not_do() -> None:
    """Batches of 5 requests/s do not fit in 8 sequences, those of the grid's 256 do."""
    tight = setups.screen(
        grid=Grid((4,), (1,), (8, 256), (512,)), stretches=(Stretch(QUIET.at(5.0), 60.0),), bounds=Bounds(1, 1)
    )
    assert {row.setup.engine.max_num_seqs for row in tight.rows()} == {256}
    roomy = setups.screen(grid=Grid((4,), (1,), (256, 512), (512,)))
    assert {row.setup.engine.max_num_seqs for row in roomy.rows()} == {256}


@settings(max_examples=15)
@given(gpus=st.integers(4, 32), more=st.integers(0, 16))
def test_more_gpus_never_make_the_best_worse(gpus: int, more: int) -> None:
    def least_j(most: int) -> float:
        rows = setups.screen(bounds=Bounds(1, 8, max_gpus=most)).rows()
        assert all(row.stress_ratio <= 1 and row.setup.gpus <= most for row in rows)
        return min((row.energy_j for row in rows), default=math.inf)

    assert least_j(gpus + more) <= least_j(gpus)


DOUBTS = {
    "as measured": (OWN, ()),
    "a chunk beyond the prompts that were measured": (
        Engine(4, 1, 256, 1024), ("chunk extrapolated (measured to 600 tokens)",)
    ),
    "a batch beyond it": (Engine(4, 1, 512, 512), ("batch extrapolated (measured to 256 sequences)",)),
    "half of the sequences in each of two lanes": (Engine(4, 2, 512, 512), ("pipeline modelled",)),
    "a profile that does not say": (Engine(8, 1, 4096, 8192), ()),
}  # fmt: skip


@pytest.mark.parametrize(("engine", "doubts"), DOUBTS.values(), ids=DOUBTS)
def test_what_nobody_measured_is_said(engine: Engine, doubts: tuple[str, ...]) -> None:
    assert setups.screen().doubts(engine) == doubts


def test_what_nobody_measured_must_save_a_percent() -> None:
    screen = setups.screen()
    plain, piped = Setup(OWN, 2, FULL_MHZ), Setup(Engine(4, 2, 256, 512), 1, FULL_MHZ)
    assert screen.key(Objective.JOULES, plain, 1000.0) < screen.key(Objective.JOULES, piped, 995.0)
    assert screen.key(Objective.JOULES, plain, 1000.0) > screen.key(Objective.JOULES, piped, 985.0)
    assert screen.key(Objective.JOULES, Pair(plain, piped), 1000.0) == (1010.0,)


def test_gpus_come_first_where_gpus_are_asked_for() -> None:
    screen = setups.screen()
    few, many = Setup(OWN, 2, FULL_MHZ), Setup(OWN, 3, 1200.0)
    assert screen.key(Objective.GPUS, few, 2000.0) < screen.key(Objective.GPUS, many, 1000.0)
    assert screen.key(Objective.GPUS, few, 1000.0) < screen.key(Objective.GPUS, few, 2000.0)


def test_capacity_is_that_of_all_lanes() -> None:
    screen = setups.screen()
    one, four = (screen.capacity_rps(Setup(OWN, count, FULL_MHZ)) for count in (1, 4))
    assert four == pytest.approx(4 * one)
    assert one == pytest.approx(sizing.capacity_rps(small.TP4, BUSY, SLO, margin=1.0))


def test_the_frontier_has_the_cheapest_of_each_number_of_gpus() -> None:
    rows = [
        Screened(Setup(OWN, count, clock), joules, 0.5, 0.1, 0.01)
        for count, clock, joules in ((2, 1980, 9.0), (2, 1800, 8.0), (1, 1980, 7.0), (3, 1980, 9.5))
    ]
    assert [(row.setup.gpus, row.energy_j) for row in screens.frontier(rows)] == [(4, 7.0), (8, 8.0), (12, 9.5)]


def test_a_grid_puts_the_scenario_s_own_first() -> None:
    grid = Grid((4, 8), (1, 2), (256, 1), (512, 1024))
    assert grid.engines[0] == OWN
    assert grid.is_own(Engine(8, 1, 256, 512))
    assert not grid.is_own(Engine(4, 2, 256, 512))
    assert not any(engine.max_num_seqs < engine.pp for engine in grid.engines)
    with pytest.raises(ValueError, match="at least one value"):
        Grid((), (1,), (256,), (512,))


def test_measured_ranges_that_are_not_known_raise_no_doubt() -> None:
    assert setups.screen(measured={4: Measured()}).doubts(Engine(4, 1, 4096, 8192)) == ()
