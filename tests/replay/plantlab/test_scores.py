"""Scores of a run of the plant, on draws that a reader can add up."""

from __future__ import annotations

import dataclasses

import pytest

from capstan.powercap.domains import Level
from capstan.replay.plantlab import scores
from support import plants


def test_joules_above_are_counted_on_whole_seconds_and_on_tenths() -> None:
    """A second at 900 W with two tenths of 1,600 W: its mean of 1,040 W is 40 J above, its peaks 120 J."""
    score = scores.of(plants.drawn([900.0] * 8 + [1600.0] * 2 + [900.0] * 10))
    assert score.above_j == pytest.approx(40)
    assert score.above_fine_j == pytest.approx(2 * 0.1 * 600)
    assert score.peak_ratio == pytest.approx(1.6)


def test_a_spike_that_the_second_evens_out_is_no_joule_above() -> None:
    score = scores.of(plants.drawn([900.0] * 9 + [1100.0] + [900.0] * 10))
    assert score.above_j == 0
    assert score.above_fine_j == pytest.approx(10)
    assert score.longest_s == 0


def test_the_longest_excursion_is_of_the_trailing_second() -> None:
    """2 s at 1,200 W between 900 W: the trailing mean is above from 0.4 s in until 0.7 s after."""
    score = scores.of(plants.drawn([900.0] * 20 + [1200.0] * 20 + [900.0] * 20))
    assert score.longest_s == pytest.approx(2.3)


def test_brakes_are_entries_not_seconds() -> None:
    run = plants.drawn([900.0] * 60)
    brake = [(Level.NORMAL,), (Level.BRAKE,), (Level.BRAKE,), (Level.HIGH_CAP,), (Level.BRAKE,), (Level.NORMAL,)]
    assert scores.of(dataclasses.replace(run, levels=tuple(brake))).brakes == 2


def test_stranded_is_the_budget_less_what_the_limits_allow() -> None:
    assert scores.of(plants.drawn([500.0] * 20)).stranded_w == pytest.approx(100)
