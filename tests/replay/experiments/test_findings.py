"""Rows over seeds: pairs are of one seed, an interval is Student's, a goal is held against the mean."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.replay.experiments import findings
from capstan.replay.experiments.figures import CHANGE, CHANGE_ANYWAY, LOST
from capstan.replay.experiments.findings import Found
from capstan.replay.experiments.kinds import Cell, Goal, Row
from support.experiments import cell, experiment

A, B = Row("a"), Row("b", beside="a")
ONLY_TO_COMPARE = Row("a", shown=False)


def found(*rows: Row, cells: Mapping[str, tuple[Cell, ...]], goals: tuple[Goal, ...] = ()) -> Found:
    return findings.of(experiment(*rows, figures=(CHANGE, CHANGE_ANYWAY, LOST), goals=goals), rows, cells)


THREE = {
    "a": (cell(1000.0), cell(2000.0), cell(4000.0)),
    "b": (cell(1100.0), cell(2400.0), cell(4400.0)),
}


def test_a_row_is_compared_with_the_other_at_the_same_seed() -> None:
    """10, 20 and 10 % more; in the mean 13.3, where means alone would say 12.9 (7,900 / 7,000)."""
    reading = found(A, B, cells=THREE).line("b").readings[0]
    assert reading.values == pytest.approx((0.10, 0.20, 0.10))
    assert reading.mean is not None
    assert reading.mean.mean == pytest.approx(0.4 / 3)


def test_the_interval_is_students() -> None:
    """Standard deviation 0.0577, over the root of 3 seeds 0.0333, times 4.303 (2 degrees of freedom)."""
    mean = found(A, B, cells=THREE).line("b").readings[0].mean
    assert mean is not None
    assert mean.half_width == pytest.approx(0.0333 * 4.303, rel=2e-3)


def test_a_seed_without_the_figure_leaves_no_mean() -> None:
    missed = {**THREE, "b": (cell(1100.0), cell(2400.0, bad=11), cell(4400.0))}
    line = found(A, B, cells=missed).line("b")
    assert line.readings[0].values[1] is None
    assert line.readings[0].mean is None
    assert line.missed == 1
    assert line.readings[1].mean is not None, "at any attainment there is one"


def test_rows_that_are_only_there_to_be_compared_with_are_left_out() -> None:
    result = found(ONLY_TO_COMPARE, B, cells=THREE)
    assert [line.row.label for line in result.lines] == ["b"]
    assert result.lines[0].readings[0].mean is not None


def test_a_row_that_was_not_found_is_no_row() -> None:
    with pytest.raises(KeyError):
        found(A, cells=THREE).line("c")


BROKEN = {
    "two rows of one label": ((A, Row("a")), "two rows of made-up are called a"),
    "a row beside nothing": ((B,), "has no row a to compare with"),
}


@pytest.mark.parametrize(("rows", "says"), BROKEN.values(), ids=BROKEN)
def test_an_experiment_that_makes_no_sense_is_refused(rows: tuple[Row, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        found(*rows, cells=THREE)


# --- goals -------------------------------------------------------------------------------------------

C = Row("c", beside="a")
FOUR = {**THREE, "c": (cell(1050.0), cell(2100.0), cell(4200.0))}
GOALS = {
    "well below": (Goal("g", CHANGE, most=0.2, row="b"), True),
    "just below": (Goal("g", CHANGE, most=0.1334, row="b"), True),
    "just above": (Goal("g", CHANGE, most=0.1333, row="b"), False),
    "at least, reached": (Goal("g", CHANGE, least=0.13, row="b"), True),
    "at least, missed": (Goal("g", CHANGE, least=0.14, row="b"), False),
    "of the worst row": (Goal("g", CHANGE, most=0.1), False),
    "of the worst row, at least": (Goal("g", CHANGE, least=0.05), True),
    "beside another row": (Goal("g", CHANGE, most=0.0, row="c", beside="b"), True),
    "beyond, but the interval reaches it": (Goal("g", CHANGE, most=0.0, row="b", shown_wrong=True), True),
    "beyond, with all of the interval": (Goal("g", CHANGE, most=-0.02, row="b", shown_wrong=True), False),
    "short, but the interval reaches it": (Goal("g", CHANGE, least=0.27, row="b", shown_wrong=True), True),
    "of a row that is not there": (Goal("g", CHANGE, most=1.0, row="nowhere"), False),
}


@pytest.mark.parametrize(("goal", "met"), GOALS.values(), ids=GOALS)
def test_a_goal_is_held_against_the_mean_over_seeds(goal: Goal, met: bool) -> None:
    """The interval of b's 13.33 % is 14.3 points either way.

    Row b has 13.33 % more than a, c 5 % more than a and 7.3 % less than b.
    """
    (reached,) = found(A, B, C, cells=FOUR, goals=(goal,)).goals
    assert reached.met is met


def test_the_worst_row_decides_and_is_named() -> None:
    most, least = (
        found(A, B, C, cells=FOUR, goals=(goal,)).goals[0]
        for goal in (Goal("g", CHANGE, most=1.0), Goal("g", CHANGE, least=0.0))
    )
    assert (most.row, least.row) == ("b", "c")


def test_what_was_not_shown_was_not_reached_and_is_the_worst() -> None:
    """Where b missed the SLO in a seed there is no change to quote, however well c does."""
    missed = {**FOUR, "b": (cell(1.0, bad=11),) * 3}
    (reached,) = found(A, B, C, cells=missed, goals=(Goal("g", CHANGE, most=1.0),)).goals
    assert (reached.row, reached.value, reached.met) == ("b", None, False)


@pytest.mark.parametrize(("most", "least"), [(None, None), (1.0, 0.0)], ids=["neither", "both"])
def test_a_goal_has_one_limit(most: float | None, least: float | None) -> None:
    with pytest.raises(ValueError, match="either a most or a least"):
        Goal("g", CHANGE, most=most, least=least)


@given(values=st.lists(st.floats(100.0, 1e6), min_size=2, max_size=4))
@settings(max_examples=25)  # each value is a run to score
def test_a_row_compared_with_one_just_like_it_changes_nothing(values: list[float]) -> None:
    cells = tuple(cell(energy_j) for energy_j in values)
    mean = found(A, B, cells={"a": cells, "b": cells}).line("b").readings[0].mean
    assert mean is not None
    assert (mean.mean, mean.half_width) == (0.0, 0.0)
    assert not math.isnan(mean.mean)


# --- honesty -----------------------------------------------------------------------------------------

ORACLE = Row("oracle", "oracle")
HONEST = {
    "none is below the oracle": ((2000.0, 1500.0), (1000.0, 1000.0), 0),
    "one is, at one seed": ((2000.0, 900.0), (1000.0, 1000.0), 1),
    "one is, at both": ((800.0, 900.0), (1000.0, 1000.0), 2),
}


@pytest.mark.parametrize(("own", "oracle", "faults"), HONEST.values(), ids=HONEST)
def test_who_meets_the_slo_below_the_oracle_is_a_fault_seed_by_seed(
    own: tuple[float, ...], oracle: tuple[float, ...], faults: int
) -> None:
    cells = {"a": tuple(map(cell, own)), "oracle": tuple(map(cell, oracle))}
    told = findings.faults(found(A, ORACLE, cells=cells))
    assert len(told) == faults
    assert all("a meets the SLO with" in line and "below oracle" in line for line in told)


def test_rows_of_different_worlds_are_not_held_against_each_other() -> None:
    assert findings.faults(found(A, B, cells=THREE)) == ()


def test_an_oracle_that_misses_what_others_meet_is_a_fault() -> None:
    cells = {"a": (cell(1000.0),), "oracle": (cell(500.0, bad=11),)}
    assert findings.faults(found(A, ORACLE, cells=cells)) == ("oracle misses the SLO, which a meets",)
