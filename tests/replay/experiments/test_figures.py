"""Figures of a row at one seed: by hand, and nothing where nothing was shown."""

from __future__ import annotations

import dataclasses

import pytest

from capstan.replay.experiments import figures
from capstan.replay.experiments.kinds import Cell, Figure, Pair
from capstan.replay.scores.bill import Bill
from capstan.replay.scores.score import Score
from support.experiments import cell, scored


def value(figure: Figure, own: Cell, other: Cell | None = None) -> float | None:
    return figure.of(Pair(own, other))


def test_a_saving_is_the_share_of_single_pools_joules() -> None:
    """1,000 J of 4,000 are saved by a quarter of it less: 1 - 3,000 / 4,000."""
    assert value(figures.SAVING, cell(3000.0, single_j=4000.0)) == pytest.approx(0.25)


SILENT = {
    "without single-pool": cell(3000.0),
    "where the row missed the SLO": cell(3000.0, bad=11, single_j=4000.0),
    "where single-pool missed it": Cell(scored(3000.0), scored(4000.0, bad=11)),
    "of nothing": Cell(scored(3000.0), scored(0.0)),
}


@pytest.mark.parametrize("own", SILENT.values(), ids=SILENT)
def test_no_saving_is_quoted(own: Cell) -> None:
    assert value(figures.SAVING, own) is None


def test_free_gpus_count_in_the_fleet() -> None:
    """(1 - (3,000 + 500) / (4,000 + 0)): the row leaves GPUs idle, single-pool none."""
    own = dataclasses.replace(scored(3000.0), energy_unassigned_j=500.0)
    assert value(figures.SAVING_FLEET, Cell(own, scored(4000.0))) == pytest.approx(1 - 3500 / 4000)


def test_a_change_is_against_the_row_beside() -> None:
    """3,300 J against 3,000 J."""
    assert value(figures.CHANGE, cell(3300.0), cell(3000.0)) == pytest.approx(0.10)


@pytest.mark.parametrize(("bad", "other_bad"), [(11, 0), (0, 11)], ids=["the row", "the other"])
def test_joules_are_compared_at_the_slo_only_unless_asked_for(bad: int, other_bad: int) -> None:
    own, other = cell(3300.0, bad=bad), cell(3000.0, bad=other_bad)
    assert value(figures.CHANGE, own, other) is None
    assert value(figures.CHANGE_ANYWAY, own, other) == pytest.approx(0.10)


@pytest.mark.parametrize("figure", [figures.CHANGE, figures.CHANGE_ANYWAY, figures.LOST, figures.COST_CHANGE])
def test_nothing_is_compared_with_nothing(figure: Figure) -> None:
    assert value(figure, cell(1000.0)) is None


def test_a_change_of_nothing_is_no_number() -> None:
    assert value(figures.CHANGE, cell(1000.0), cell(0.0)) is None
    assert value(figures.CARBON_CHANGE, cell(1000.0), cell(1000.0)) is None, "nobody gave an intensity"


def test_attainment_lost_is_that_of_the_row_beside_less_its_own() -> None:
    """10 of 1,000 against 4: 0.6 points."""
    assert value(figures.LOST, cell(1.0, bad=10), cell(1.0, bad=4)) == pytest.approx(0.006)


def test_money_and_carbon_are_those_of_the_bill() -> None:
    billed = Cell(dataclasses.replace(scored(1.0), bill=Bill(cost=12.0, carbon_g=3000.0)))
    other = Cell(dataclasses.replace(scored(1.0), bill=Bill(cost=10.0, carbon_g=4000.0)))
    assert (value(figures.COST, billed), value(figures.CARBON, billed)) == (12.0, 3000.0)
    assert value(figures.COST_CHANGE, billed, other) == pytest.approx(0.2)
    assert value(figures.CARBON_CHANGE, billed, other) == pytest.approx(-0.25)


def test_the_budget_is_that_of_the_worst_domain_and_absent_without_one() -> None:
    assert value(figures.OVER_BUDGET, cell(1.0)) is None


def test_what_people_read_is_in_their_units() -> None:
    """3.6 MJ is a kWh; latencies are in ms, shares in per cent."""
    assert figures.ENERGY.scale * 3.6e6 == pytest.approx(1.0)
    assert (figures.TTFT.scale, figures.SAVING.scale, figures.CARBON.scale) == (1000.0, 100.0, 0.001)


def test_savings_alone_need_single_pool() -> None:
    needing = [figure.name for figure in vars(figures).values() if isinstance(figure, Figure) and figure.baseline]
    assert sorted(needing) == ["captured_ratio", "saving_fleet_ratio", "saving_ratio"]


def test_what_is_captured_is_a_share_of_what_the_oracle_saves() -> None:
    """Single-pool 4,000 J, oracle 2,000 J, the row 2,500 J: 1,500 of 2,000."""
    own = dataclasses.replace(cell(2500.0, single_j=4000.0), oracle=scored(2000.0))
    assert value(figures.CAPTURED, own) == pytest.approx(0.75)
    assert value(figures.CAPTURED, cell(2500.0, single_j=4000.0)) is None, "nobody asked for the oracle"


NOTHING_CAPTURED = {
    "the row missed the SLO": (2500.0, 11, 4000.0, scored(2000.0)),
    "the oracle missed it": (2500.0, 0, 4000.0, scored(2000.0, bad=11)),
    "there was nothing to save": (2500.0, 0, 4000.0, scored(4000.0)),
}


@pytest.mark.parametrize(("own_j", "bad", "single_j", "oracle"), NOTHING_CAPTURED.values(), ids=NOTHING_CAPTURED)
def test_nothing_is_said_to_be_captured(own_j: float, bad: int, single_j: float, oracle: Score) -> None:
    own = dataclasses.replace(cell(own_j, bad=bad, single_j=single_j), oracle=oracle)
    assert value(figures.CAPTURED, own) is None
