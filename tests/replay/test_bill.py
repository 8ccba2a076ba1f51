"""What a run cost, by hand: watts times the price of their moment, GPU-hours times a rent, and what is not known."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.objective import Series, Tariffs
from capstan.replay.runs import Run
from capstan.replay.scores import bill
from capstan.replay.scores.bill import Bill
from capstan.units import JOULES_PER_KWH, SECONDS_PER_HOUR
from support.replay import run, series, service

Sample = tuple[float, float]
TWO_HOURS: tuple[Sample, ...] = ((3600, 1000), (7200, 2000))
"""1 kW for an hour, then 2 kW for one: 3 kWh."""


def metered(*samples: Sample, gpu_seconds: float = 7200.0) -> Run:
    drawn = series([t_s for t_s, _ in samples], [gpus_w for _, gpus_w in samples])
    one = dataclasses.replace(service(), series=drawn, gpu_seconds=gpu_seconds)
    return dataclasses.replace(run(), services=(one,))


def per_kwh(*rows: Sample, period_s: float | None = None) -> Series:
    return Series(tuple(t_s for t_s, _ in rows), tuple(value / JOULES_PER_KWH for _, value in rows), period_s)


INTEGRALS = {
    "one price: energy times price": (((0, 0.25),), None, 0.75),
    "a price that changes between samples": (((0, 0.10), (5400, 0.30)), None, 0.5),  # 0.1 + 1 x 0.1 + 1 x 0.3
    "a price that changes after the end": (((0, 0.10), (9000, 9.0)), None, 0.3),
    "paid for the first half hour": (((0, -0.20), (1800, 0.10)), None, 0.15),  # -0.1 + 0.05 + 0.2
    "half an hour dear, half an hour free": (((0, 0.20), (1800, 0.0)), 3600, 0.3),  # 0.1 + 0 + 0.2 + 0
}


@pytest.mark.parametrize(("rows", "period_s", "expected"), INTEGRALS.values(), ids=INTEGRALS)
def test_watts_are_priced_at_their_moment(rows: tuple[Sample, ...], period_s: float | None, expected: float) -> None:
    assert bill.integral(metered(*TWO_HOURS), per_kwh(*rows, period_s=period_s)) == pytest.approx(expected)


def test_watts_that_are_not_known_have_no_price() -> None:
    price = per_kwh((0, 0.25))
    assert bill.integral(metered((1800, math.nan), (7200, 500)), price) is None
    assert bill.integral(run(), price) is None


PRICE, GRID = per_kwh((0, 0.25)), per_kwh((0, 400.0), (3600, 100.0))
RENT, EMBODIED = 11.0 / SECONDS_PER_HOUR, 20.0 / SECONDS_PER_HOUR


def test_every_part_of_a_bill_by_hand() -> None:
    """3 kWh and 2 GPU-hours: 0.75 and 22 in money; 1 kWh x 400 g + 2 kWh x 100 g, beside 40 g embodied."""
    found = bill.of(metered(*TWO_HOURS), Tariffs(PRICE, RENT, GRID, EMBODIED))
    told = (found.rent, found.electricity, found.cost, found.operational_g, found.embodied_g, found.carbon_g)
    assert told == pytest.approx((22.0, 0.75, 22.75, 600.0, 40.0, 640.0))


PARTS = {
    "nothing was given": (Tariffs(), Bill()),
    "a rent alone": (Tariffs(rent_per_gpu_s=RENT), Bill(rent=22.0, cost=22.0)),
    "electricity alone": (Tariffs(PRICE), Bill(electricity=0.75, cost=0.75)),
    "an intensity alone": (Tariffs(intensity=GRID), Bill(operational_g=600.0, carbon_g=600.0)),
    "an embodied share without an intensity is no carbon": (Tariffs(embodied_g_per_gpu_s=EMBODIED), Bill()),
    "a rent of 0 was given": (Tariffs(PRICE, 0.0), Bill(0.0, 0.75, 0.75)),
}


@pytest.mark.parametrize(("tariffs", "expected"), PARTS.values(), ids=PARTS)
def test_what_was_not_given_is_not_0(tariffs: Tariffs, expected: Bill) -> None:
    found = dataclasses.astuple(bill.of(metered(*TWO_HOURS), tariffs))
    for value, right in zip(found, dataclasses.astuple(expected), strict=True):
        assert value == (None if right is None else pytest.approx(right))


def test_a_total_without_one_of_its_parts_is_not_known() -> None:
    """Nobody knows the watts: the rent stands, what it all cost does not. Nobody counted GPUs: the reverse."""
    tariffs = Tariffs(PRICE, RENT, GRID, EMBODIED)
    blind = bill.of(metered((3600, math.nan)), tariffs)
    assert [blind.rent, blind.embodied_g] == pytest.approx([22, 40])
    assert (blind.cost, blind.carbon_g) == (None, None)
    uncounted = bill.of(metered(*TWO_HOURS, gpu_seconds=0), tariffs)
    assert (uncounted.rent, uncounted.cost, uncounted.embodied_g, uncounted.carbon_g) == (None, None, None, None)
    assert uncounted.electricity == pytest.approx(0.75)


def test_a_saving_in_the_clean_hour_is_worth_less_carbon_than_energy() -> None:
    """2 kW for an hour at 400 g and one at 100 g: 1,000 g. Half the watts in the second: 25 % of joules, 10 % of it."""
    steady, saving = metered((3600, 2000), (7200, 2000)), metered((3600, 2000), (7200, 1000))
    before, after = (bill.of(made, Tariffs(intensity=GRID)).operational_g for made in (steady, saving))
    assert [before, after] == pytest.approx([1000, 900])


samples = st.lists(st.floats(0, 5000), min_size=1, max_size=6)
grids = st.lists(st.floats(0, 1000), min_size=1, max_size=6)


@given(samples, samples, st.floats(1, 1000))
def test_a_constant_intensity_without_an_embodied_share_ranks_runs_as_joules_do(
    one: list[float], two: list[float], g_per_kwh: float
) -> None:
    """By their watts in every half-hour: the same order, whenever they were drawn."""
    runs = [metered(*((1800.0 * (i + 1), w) for i, w in enumerate(drawn))) for drawn in (one, two)]
    carbon_g = [bill.of(made, Tariffs(intensity=per_kwh((0, g_per_kwh)))).carbon_g for made in runs]
    joules = [1800 * sum(drawn) for drawn in (one, two)]
    assert carbon_g == pytest.approx([g_per_kwh * j / JOULES_PER_KWH for j in joules])


@given(samples, grids)
def test_operational_carbon_lies_between_the_cleanest_and_the_dirtiest_moment(
    drawn: list[float], grid: list[float]
) -> None:
    made = metered(*((1000.0 * (i + 1), w) for i, w in enumerate(drawn)))
    rows = tuple((700.0 * i, g) for i, g in enumerate(grid))
    found = bill.of(made, Tariffs(intensity=per_kwh(*rows))).operational_g
    kwh = 1000 * sum(drawn) / JOULES_PER_KWH
    assert found is not None
    assert min(grid) * kwh - 1e-6 <= found <= max(grid) * kwh + 1e-6
