"""A row second by second: compiled as plain, the same requests under every cap, watts that add up, delays that hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from capstan.powercap import machine
from capstan.powercap.domains import Level, Thresholds
from capstan.replay.row import loop, play, score, servers, systems
from capstan.replay.row.play import Played
from capstan.replay.row.systems import System
from support import rows

HARD = dataclasses.replace(rows.POLCA, name="hard", thresholds=Thresholds(0.50, 0.60, 0.90, 0.05))


def quantile_s(played: Played, share: float) -> float:
    return score.quantile_s(played.tally, servers.E2E, [True] * len(rows.SERVICES), share)


@pytest.mark.parametrize(
    "system", [HARD, *systems.named(("guaranteed", "uniform-cap", "dps-like"))], ids=lambda system: system.name
)
def test_compiled_and_plain_rows_are_equal_to_the_last_bit(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same functions with and without numba: watts of every second, every latency, every level."""
    small = rows.row(seconds=200, budget_w=18_000)
    fast = play.play(small, system)
    monkeypatch.setattr(play, "_compiled", lambda: {"play": loop.play})
    plain = play.play(small, system)
    assert np.array_equal(fast.row_w, plain.row_w)
    assert np.array_equal(fast.tally.latencies, plain.tally.latencies)
    assert (fast.level_s, fast.brakes, fast.over_j) == (plain.level_s, plain.brakes, plain.over_j)
    assert fast.tally.latencies.sum() > 0, "something ended"


def test_every_system_is_asked_for_the_same_requests() -> None:
    """What arrives is drawn before any policy: caps change when a request ends, never that it came."""
    one = rows.row(seconds=2000)
    free = play.play(one, systems.UNCAPPED)
    for system in (*systems.ALL, rows.always(900)):
        assert np.array_equal(play.play(one, system).tally.arrived, free.tally.arrived), system.name
    other = play.play(dataclasses.replace(one, seed=2), systems.UNCAPPED)
    assert not np.array_equal(other.tally.arrived, free.tally.arrived), "another seed is another load"


def test_energy_is_the_sum_of_the_watts_and_what_lies_above_the_budget_is_counted() -> None:
    played = play.play(rows.row(budget_w=15_000), systems.UNCAPPED)
    above_w = np.maximum(played.row_w - 15_000, 0)
    assert played.energy_j == pytest.approx(played.row_w.sum())
    assert played.over_j == pytest.approx(above_w.sum())
    assert played.over_j > 0
    assert played.over_s == (above_w > 0).sum()
    assert played.excursion_s == max(len(run) for run in "".join("x" if w > 0 else " " for w in above_w).split())


def test_a_lower_clock_draws_no_more_and_makes_nothing_faster() -> None:
    """Mean watts fall, both quantiles of latency rise, clock by clock."""
    each = [play.play(rows.row(seconds=6000, budget_w=30_000), rows.always(mhz)) for mhz in (1410, 1305, 1110, 900)]
    watts = [one.row_w.mean() for one in each]
    assert watts == sorted(watts, reverse=True)
    for share in (score.P50, score.P99):
        latencies = [quantile_s(one, share) for one in each]
        assert latencies == sorted(latencies)
    assert watts[-1] < 0.95 * watts[0], "900 MHz does save"


def test_the_row_without_caps_is_never_capped_whatever_its_budget() -> None:
    poor, rich = (play.play(rows.row(budget_w=w), systems.UNCAPPED) for w in (100.0, 1e9))
    assert np.array_equal(poor.row_w, rich.row_w)
    assert poor.level_s[0] == sum(poor.level_s)
    assert (poor.brakes, poor.transitions) == (0, 0)


@pytest.mark.parametrize("path", [systems.IN_BAND, systems.OUT_OF_BAND, systems.Path(2, 3, 0, 1)])
def test_a_cap_bites_when_its_delay_has_passed_and_the_brake_after_its_own(path: systems.Path) -> None:
    """LowDeep is decided for second 100, Brake for second 200: in force cap_s and brake_s later, not sooner."""
    control = play.control(rows.row(), dataclasses.replace(rows.POLCA, path=path))
    way = loop.Way(
        np.full((path.cap_s + 2, 2), rows.TOP), np.zeros(path.brake_s + 2, np.int64), np.zeros(1), np.zeros(1),
        np.zeros(1),
    )  # fmt: skip
    calm = machine.State(machine.NORMAL, 0.0, np.nan, np.nan, 0, np.nan, 0, np.nan, np.nan, False, np.nan, 0)
    seen = {}
    for second in range(260):
        level = machine.NORMAL if second < 100 else (machine.LOW_DEEP if second < 200 else machine.BRAKE)
        loop.send(control, way, calm._replace(level=level, hard=True), second)
        seen[second] = loop.clocks_in_force(control, way, second)
    deep, brake = control.low[machine.LOW_DEEP], control.low[machine.BRAKE]
    assert seen[99 + path.cap_s] == (rows.TOP, rows.TOP)
    assert seen[100 + path.cap_s] == (deep, rows.TOP)
    assert seen[199 + path.brake_s][0] == deep
    assert seen[200 + path.brake_s] == (brake, brake)


def test_a_sample_is_the_mean_of_its_period_as_old_as_the_path_makes_it() -> None:
    """Two seconds of a ramp, three seconds ago: after second 7 they are 4 and 3."""
    control = play.control(rows.row(), dataclasses.replace(rows.POLCA, path=systems.Path(2, 3, 0, 1)))
    assert loop.sampled_w(np.arange(10.0), 7, control) == 3.5


def test_a_played_row_obeys_after_its_delay() -> None:
    """Out of band: the first sample that counts ends at second 4, and 40 s later the watts leave those without caps."""
    small = rows.row(budget_w=30_000)
    free = play.play(small, systems.UNCAPPED)
    held = play.play(small, dataclasses.replace(HARD, thresholds=Thresholds(0.2, 0.3, 0.999, 0.05)))
    assert np.array_equal(free.row_w[:44], held.row_w[:44])
    assert not np.array_equal(free.row_w[44:60], held.row_w[44:60])
    assert held.level_s[[*Level].index(Level.HIGH_CAP)] > 300


def test_a_meter_that_says_nothing_decides_nothing() -> None:
    """NaN stands for a second that was not heard (`capstan fit` has them): level and caps stay as they are."""
    control = play.control(rows.row(), rows.always(900))
    log = loop.Log(
        np.full(10, np.nan), np.zeros(7, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(4)
    )
    way = loop.Way(np.zeros((2, 2), np.int64), np.zeros(2, np.int64), np.zeros(1), np.zeros(1), np.zeros(1))
    state = machine.State(machine.LOW_DEEP, 0.0, np.nan, np.nan, 0, np.nan, 0, np.nan, np.nan, False, np.nan, 0)
    law = play._law(rows.row(), rows.always(900))
    assert loop.ticked(law, state, control, way, log, 5, True) == state
