"""The parts of the live proof that need no cluster: a watch that can fail, boards that obey, the scene's arithmetic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.nvml.state import Caps, State
from rig.proof import physics, scene
from rig.proof.monitor import Monitor
from rig.proof.plant import Change, Plant
from rig.proof.processes import Moved, Replicas

MEMBERS = {"row-1": ("a", "b"), "rack-a": ("a",)}


def watched(*row_w: float, every_s: float = 1.0) -> Monitor:
    """A row of 1000 W whose two nodes draw these watts together, one sample each `every_s`."""
    monitor = Monitor(MEMBERS)
    monitor.hold("row-1", 1000.0)
    for number, watts in enumerate(row_w):
        monitor.sample(number * every_s, {"a": watts / 2, "b": watts / 2})
    return monitor


def test_an_excursion_counts_from_the_last_sample_below_to_the_first_below_again() -> None:
    """200 W for two samples of a second: 400 J; seen below at 1 s and again at 4 s."""
    seen = watched(900, 900, 1200, 1200, 900).seen(0.0)
    assert (seen.longest_s, seen.joules, seen.worst_ratio, seen.gap_s) == (3.0, 400.0, 1.2, 1.0)
    assert seen.held


def test_the_budget_itself_is_not_below_it() -> None:
    assert watched(900, 1000).above


@pytest.mark.parametrize(
    ("above_s", "held"), [pytest.param(9, True, id="ten seconds"), pytest.param(10, False, id="eleven")]
)
def test_promise_p1_breaks_after_ten_seconds(above_s: int, *, held: bool) -> None:
    assert watched(900, *[1100.0] * above_s, 900).seen(0.0).held is held


def test_one_that_has_not_ended_breaks_it_too() -> None:
    assert not watched(900, *[1100.0] * 12).seen(0.0).held


def test_a_cut_budget_is_crossed_at_once_and_a_released_domain_not_at_all() -> None:
    monitor = watched(900, 900)
    monitor.hold("row-1", 800.0)
    monitor.sample(2.0, {"a": 450.0, "b": 450.0})
    assert monitor.above
    monitor.hold("row-1", None)
    monitor.sample(3.0, {"a": 4500.0, "b": 4500.0})
    assert not monitor.above
    assert monitor.seen(0.0).longest_s == 1.0


def test_what_was_before_is_not_counted() -> None:
    assert watched(900, 1200, 900, 900, 900).seen(3.0).longest_s == 0.0


@pytest.mark.parametrize(
    ("before", "after", "loosens"),
    [
        pytest.param(Caps(405, 459), Caps(1830, 459), True, id="a higher clock"),
        pytest.param(Caps(1560, 700), Caps(None, 700), True, id="no lock any more"),
        pytest.param(Caps(1560, 459), Caps(405, 700), True, id="a higher limit under a lower clock"),
        pytest.param(Caps(None, 700), Caps(1560, 459), False, id="both tighter"),
    ],
)
def test_a_change_loosens_when_either_knob_does(before: Caps, after: Caps, *, loosens: bool) -> None:
    assert Change(0.0, "a", 0, before, after).loosens is loosens


@pytest.mark.parametrize(
    ("high_mhz", "low_mhz", "server_w"),
    [
        pytest.param(None, None, 1915, id="uncapped"),
        pytest.param(None, 1785, 1802, id="LowBase"),
        pytest.param(None, 1560, 1619, id="LowDeep"),
        pytest.param(1830, 1560, 1551, id="HighCap"),
        pytest.param(405, 405, 745, id="Brake"),
    ],
)
def test_the_watts_of_a_server_at_full_load_are_those_that_the_scene_counts_on(
    high_mhz: int | None, low_mhz: int | None, server_w: int
) -> None:
    """(the High board + the Low one + 400 W) over 94 %."""
    profile = physics.board()
    boards_w = sum(physics.draw(profile, 1.0, mhz, scene.STOCK_W).power_w for mhz in (high_mhz, low_mhz))
    assert round((boards_w + 400) / 0.94) == server_w


def test_full_load_breaks_every_budget_and_what_holds_it_breaks_none() -> None:
    """So a scenario without Capstan would fail, and one with it can pass."""
    for domain, nodes in ((scene.ROW, 8), (scene.RACKS[0], 4)):
        assert nodes * 1915 > scene.BUDGETS_W[domain] > nodes * 1551
        assert nodes * 1262 < 0.72 * scene.BUDGETS_W[domain], "Brake is left, even where high priority was spared"


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """Two nodes of one board each, both at full load."""
    states = {name: State.create(tmp_path / name, [f"GPU-{name}"]) for name in "ab"}
    with Plant(states, Monitor(MEMBERS), Monitor(MEMBERS)) as made:
        made.load(1.0)
        yield made


def until(plant: Plant, row_w: float) -> None:
    """Wait until the row draws so much, to a tenth of a percent."""
    end_s = time.monotonic() + 1.5
    while abs(plant.monitor.drawn_w("row-1") - row_w) > row_w / 1000:
        assert time.monotonic() < end_s, plant.monitor.drawn_w("row-1")
        time.sleep(0.01)


def test_what_a_setter_writes_becomes_watts_and_a_reloaded_driver_forgets_it(plant: Plant) -> None:
    """Two boards at their limit of 700 W; one of them at 1560 MHz draws 422 W; after a reload both 700 W again."""
    until(plant, 2 * (700 + 400) / 0.94)
    board = plant.state("a")._gpu(0)
    board.locked_min_mhz, board.locked_max_mhz = 345, 1560
    until(plant, (700 + 422.2 + 800) / 0.94)
    plant.reload("a")
    until(plant, 2 * (700 + 400) / 0.94)
    assert [change.loosens for change in plant.changes] == [False, True]
    assert len(plant.loosened(0.0)) == 1


def test_transitions_are_read_from_logs_in_order_of_time() -> None:
    assert Replicas.parsed('{"time":"t1","message":"domain row-1: Normal -> Brake (AboveBrakeThreshold)"}') == Moved(
        "t1", "row-1", "Normal", "Brake", "AboveBrakeThreshold"
    )
    for other in ("", "Traceback", '{"time":"t1","message":"leader of shard 0"}', '{"message":"domain x: cut'):
        assert Replicas.parsed(other) is None
