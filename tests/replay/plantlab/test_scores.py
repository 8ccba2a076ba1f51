"""Scores of a run of the plant, on draws that a reader can add up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from capstan.api import plant
from capstan.powercap.domains import Level
from capstan.replay.plantlab import layout, scores
from capstan.replay.plantlab.play import Asked, Cut, Run
from support import plants

BUDGET_W = 1_000.0


def made(draw_w: list[float], *, cut: Cut | None = None, faults: plant.Faults = plants.NO_FAULTS) -> Run:
    """A run of one domain, 100 ms per figure, whole seconds."""
    of = plants.small(1)
    of = dataclasses.replace(of, domains=(dataclasses.replace(of.root, budget_w=BUDGET_W),))
    seconds = len(draw_w) // layout.BINS
    asked = Asked("Statistical", faults, plants.steady(1), seconds, 1, cut)
    budget_w = np.full((len(draw_w), 1), BUDGET_W)
    if cut is not None:
        budget_w[round(cut.at_s * layout.BINS) :] *= cut.ratio
    levels = tuple((Level.NORMAL,) for _ in range(seconds))
    servers = np.zeros(2, dtype=layout.SERVER)
    return Run(
        asked, of, np.array(draw_w)[:, None], budget_w, levels, np.full(seconds, 900.0), servers, servers["head"]
    )


def test_joules_above_are_counted_on_whole_seconds_and_on_tenths() -> None:
    """A second at 900 W with two tenths of 1,600 W: its mean of 1,040 W is 40 J above, its peaks 120 J."""
    score = scores.of(made([900.0] * 8 + [1600.0] * 2 + [900.0] * 10))
    assert score.above_j == pytest.approx(40)
    assert score.above_fine_j == pytest.approx(2 * 0.1 * 600)
    assert score.peak_ratio == pytest.approx(1.6)


def test_a_spike_that_the_second_evens_out_is_no_joule_above() -> None:
    score = scores.of(made([900.0] * 9 + [1100.0] + [900.0] * 10))
    assert score.above_j == 0
    assert score.above_fine_j == pytest.approx(10)
    assert score.longest_s == 0


def test_the_longest_excursion_is_of_the_trailing_second() -> None:
    """2 s at 1,200 W between 900 W: the trailing mean is above from 0.4 s in until 0.7 s after."""
    score = scores.of(made([900.0] * 20 + [1200.0] * 20 + [900.0] * 20))
    assert score.longest_s == pytest.approx(2.3)


def test_brakes_are_entries_not_seconds() -> None:
    run = made([900.0] * 60)
    brake = [(Level.NORMAL,), (Level.BRAKE,), (Level.BRAKE,), (Level.HIGH_CAP,), (Level.BRAKE,), (Level.NORMAL,)]
    assert scores.of(dataclasses.replace(run, levels=tuple(brake))).brakes == 2


def test_stranded_is_the_budget_less_what_the_limits_allow() -> None:
    assert scores.of(made([500.0] * 20)).stranded_w == pytest.approx(100)


@pytest.mark.parametrize(
    ("draw_w", "back_s", "again_s"),
    [
        pytest.param([900.0] * 40, 3.0, 0.0, id="never back: the whole rest of the run"),
        pytest.param([900.0] * 15 + [700.0] * 25, 0.5, 0.0, id="half a second"),
        pytest.param([700.0] * 40, 0.0, 0.0, id="it never crossed"),
        pytest.param([900.0] * 12 + [700.0] * 5 + [900.0] * 3 + [700.0] * 20, 1.0, 0.0, id="a short dip is not back"),
        pytest.param([900.0] * 12 + [700.0] * 15 + [900.0] * 13, 0.2, 0.8, id="back, and above again later"),
    ],
)
def test_a_step_counts_from_the_cut_until_it_stays_below(draw_w: list[float], back_s: float, again_s: float) -> None:
    """The cut, at 1.0 s, is to 800 W."""
    step = scores.step(made(draw_w, cut=Cut(1.0, 0.8)))
    assert step.back_s == pytest.approx(back_s)
    assert step.again_s == pytest.approx(again_s, abs=0.11)


def test_the_blind_part_of_a_step_is_told_apart() -> None:
    """Nobody can be reached until 2.5 s; the cut is at 1 s and the draw follows at 3 s."""
    blackout = plant.Blackout(at_seconds=1, for_seconds=1, commands_too=True)
    faults = plants.NO_FAULTS.model_copy(update={"blackout": blackout})
    step = scores.step(made([900.0] * 25 + [700.0] * 15, cut=Cut(1.0, 0.8), faults=faults))
    assert (step.back_s, step.blind_s, step.seeing_s) == pytest.approx((1.5, 1.0, 0.5))
