"""Crossings of a cut budget, on draws that a reader can add up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from capstan.api import plant
from capstan.replay.plantlab import crossings
from capstan.replay.plantlab.play import Cut, Run
from support import plants


def cut_at(draw_w: list[float], at_s: float = 1.0, faults: plant.Faults = plants.NO_FAULTS) -> Run:
    """A run of a domain of 1,000 W, 100 ms per figure, whose budget is 800 W from the cut on."""
    return plants.drawn(draw_w, cut=Cut(at_s, 0.8), faults=faults)


@pytest.mark.parametrize(
    ("draw_w", "expected"),
    [
        pytest.param([900.0] * 40, [(0.0, 3.0)], id="never back: the whole rest of the run"),
        pytest.param([900.0] * 15 + [700.0] * 25, [(0.0, 0.5)], id="half a second"),
        pytest.param([700.0] * 40, [], id="it never crossed"),
        pytest.param([1100.0] * 5 + [700.0] * 35, [], id="above the old budget, and back before the cut"),
        pytest.param([700.0] * 20 + [900.0] * 4 + [700.0] * 16, [(1.0, 0.4)], id="a crossing long after the cut"),
        pytest.param([900.0] * 12 + [700.0] * 5 + [900.0] * 3 + [700.0] * 20, [(0.0, 1.0)], id="a dip is not back"),
        pytest.param(
            [900.0] * 12 + [700.0] * 15 + [900.0] * 13, [(0.0, 0.2), (1.7, 1.3)], id="back, and above again later"
        ),
        pytest.param(
            [700.0] * 6 + [1100.0] * 9 + [700.0] * 25, [(-0.4, 0.9)], id="above the old budget already: from there"
        ),
    ],
)
def test_each_crossing_counts_by_itself_from_its_beginning(
    draw_w: list[float], expected: list[tuple[float, float]]
) -> None:
    """The cut, at 1.0 s, is to 800 W; a whole second below it ends a crossing."""
    found = crossings.step(cut_at(draw_w)).crossings
    assert [(c.from_s, c.back_s) for c in found] == [pytest.approx(each) for each in expected]


def test_a_cut_within_a_tenth_counts_from_its_own_moment() -> None:
    """The cut is at 0.96 s and the draw follows at 1.5 s."""
    (found,) = crossings.step(cut_at([900.0] * 15 + [700.0] * 25, at_s=0.96)).crossings
    assert (found.from_s, found.back_s) == pytest.approx((0.0, 0.54))


def test_how_far_above_is_of_the_new_budget() -> None:
    """900 W and 1,000 W over 800 W, though the same draw was 1,200 W before the cut."""
    (found,) = crossings.step(cut_at([1200.0] * 10 + [900.0] * 3 + [1000.0] * 2 + [700.0] * 25)).crossings
    assert (found.above_ratio, found.peak_ratio) == pytest.approx((0.125, 0.25))


def test_the_blind_part_is_told_apart_in_each_crossing() -> None:
    """Nobody can be reached from 1 s to 2 s; the draw follows at 2.5 s, and is above again at 4 s for a second."""
    blackout = plant.Blackout(at_seconds=1, for_seconds=1, commands_too=True)
    faults = plants.NO_FAULTS.model_copy(update={"blackout": blackout})
    draw_w = [900.0] * 25 + [700.0] * 15 + [900.0] * 10 + [700.0] * 10
    first, later = crossings.step(cut_at(draw_w, faults=faults)).crossings
    assert (first.back_s, first.blind_s, first.seeing_s) == pytest.approx((1.5, 1.0, 0.5))
    assert (later.back_s, later.blind_s, later.seeing_s) == pytest.approx((1.0, 0.0, 1.0))


@pytest.mark.parametrize(
    ("above_for", "reached"),
    [
        pytest.param(18, False, id="gone by itself before anybody could be told"),
        pytest.param(20, True, id="gone in the 100 ms in which they were told"),
        pytest.param(25, True, id="gone half a second later"),
    ],
)
def test_whoever_comes_back_untold_proves_nothing(above_for: int, reached: bool) -> None:
    """Nobody can be reached from 1 s to 2 s."""
    blackout = plant.Blackout(at_seconds=1, for_seconds=1, commands_too=True)
    faults = plants.NO_FAULTS.model_copy(update={"blackout": blackout})
    (found,) = crossings.step(cut_at([900.0] * above_for + [700.0] * (40 - above_for), faults=faults)).crossings
    assert found.reached is reached


def test_a_blackout_of_samples_alone_blinds_nobody_who_obeys() -> None:
    """Commands still reach the agents: all of the time counts."""
    faults = plants.NO_FAULTS.model_copy(update={"blackout": plant.Blackout(at_seconds=1, for_seconds=1)})
    (found,) = crossings.step(cut_at([900.0] * 25 + [700.0] * 15, faults=faults)).crossings
    assert (found.blind_s, found.seeing_s) == pytest.approx((0.0, 1.5))


def test_another_domain_crossing_is_no_return_of_the_first() -> None:
    """Two domains cross once each, one after the other: neither is above again."""
    one = cut_at([900.0] * 15 + [700.0] * 25)
    late_w = np.array([700.0] * 20 + [900.0] * 5 + [700.0] * 15)
    scene = dataclasses.replace(one.scene, domains=(one.scene.root, dataclasses.replace(one.scene.root, name="rack")))
    two = dataclasses.replace(
        one, scene=scene, draw_w=np.column_stack((one.draw_w[:, 0], late_w)), budget_w=np.tile(one.budget_w, 2)
    )
    found = crossings.step(two)
    assert [c.domain for c in found.crossings] == ["row-1", "rack"]
    assert [c.back_s for c in found.crossings] == pytest.approx([0.5, 0.5])
    assert found.again == ()


def test_crossings_after_a_return_are_named() -> None:
    found = crossings.step(cut_at([900.0] * 12 + [700.0] * 15 + [900.0] * 3 + [700.0] * 10))
    assert [c.back_s for c in found.again] == pytest.approx([0.3])


def test_a_run_without_a_cut_has_no_step() -> None:
    with pytest.raises(ValueError, match="with a cut"):
        crossings.step(plants.drawn([900.0] * 20))
