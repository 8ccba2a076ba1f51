"""What plans are ranked by: step functions by hand, weights of each objective, and when two objectives agree."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import objective
from capstan.model.objective import JOULES_ALONE, MOST_GPU_W, Series, Tariffs, Weights
from capstan.model.policy import Objective
from capstan.units import JOULES_PER_KWH, SECONDS_PER_HOUR

STEPS = Series((0.0, 60.0, 120.0), (1.0, 4.0, 2.0))
DAY = Series((0.0, 21_600.0, 64_800.0), (100.0, 300.0, 100.0), period_s=86_400.0)

finite = st.floats(0, 1e6)
times = st.floats(-1e6, 1e6)


@st.composite
def series(draw: st.DrawFn) -> Series:
    """Up to six steps, which begin again or do not; values from 0 on."""
    starts = sorted(draw(st.sets(st.integers(1, 10_000), max_size=5)))
    values = draw(st.lists(st.floats(0, 1e3), min_size=len(starts) + 1, max_size=len(starts) + 1))
    period = draw(st.none() | st.integers(1, 5_000))
    last = starts[-1] if starts else 0
    return Series((0.0, *map(float, starts)), tuple(values), None if period is None else float(last + period))


# --- series ------------------------------------------------------------------------------------------

MEANS = {
    "inside a step": (10, 50, 1.0),
    "half of one and half of the next": (30, 90, 2.5),  # (30 x 1 + 30 x 4) / 60
    "all three": (0, 180, 7 / 3),  # (60 + 240 + 120) / 180
    "the last holds on": (120, 10_000, 2.0),
    "before 0 the first holds": (-60, 60, 1.0),
    "no time at all: what is in force": (60, 60, 4.0),
    "backwards: what is in force at the first": (130, 60, 2.0),
}


@pytest.mark.parametrize(("from_s", "to_s", "mean"), MEANS.values(), ids=MEANS)
def test_a_mean_weighs_each_step_by_its_time(from_s: float, to_s: float, mean: float) -> None:
    assert STEPS.mean(from_s, to_s) == pytest.approx(mean)


DAYS = {
    "the first noon": (43_200, 300.0),
    "the second midnight": (86_400, 100.0),
    "noon of the seventh day": (6 * 86_400 + 43_200, 300.0),
    "an evening before the beginning": (-3_600, 100.0),
    "a noon before the beginning": (-43_200, 300.0),
}


@pytest.mark.parametrize(("t_s", "value"), DAYS.values(), ids=DAYS)
def test_a_day_begins_again(t_s: float, value: float) -> None:
    assert DAY.at(t_s) == value


def test_a_mean_over_midnight_takes_the_evening_and_the_morning() -> None:
    """18 h to 30 h: all at 100. 12 h to 36 h: 12 of 24 hours at 300: 200."""
    assert DAY.mean(64_800, 108_000) == pytest.approx(100)
    assert DAY.mean(43_200, 129_600) == pytest.approx(200)


def test_steps_are_cut_at_both_ends() -> None:
    assert list(STEPS.steps(30, 150)) == [(30, 60, 1), (60, 120, 4), (120, 150, 2)]
    assert list(STEPS.steps(30, 30)) == []


@given(series(), times, st.floats(1e-3, 1e5))
def test_steps_leave_no_gap_and_no_overlap(made: Series, from_s: float, span_s: float) -> None:
    found = list(made.steps(from_s, from_s + span_s))
    assert found[0][0] == from_s
    assert found[-1][1] == from_s + span_s
    assert all(one[1] == two[0] for one, two in itertools.pairwise(found))
    assert all(start_s < end_s for start_s, end_s, _ in found)


@given(series(), times, st.floats(1e-3, 1e5))
def test_a_mean_lies_between_the_lowest_and_the_highest(made: Series, from_s: float, span_s: float) -> None:
    low, high = min(made.values), max(made.values)
    slack = 1e-6 * high + 1e-9
    assert low - slack <= made.mean(from_s, from_s + span_s) <= high + slack


@given(series(), st.floats(0, 1e5), st.floats(1, 1e4), st.floats(1, 1e4))
def test_means_of_two_spans_make_the_mean_of_both(made: Series, from_s: float, one_s: float, two_s: float) -> None:
    middle_s, to_s = from_s + one_s, from_s + one_s + two_s
    parts = made.mean(from_s, middle_s) * one_s + made.mean(middle_s, to_s) * two_s
    assert parts == pytest.approx(made.mean(from_s, to_s) * (one_s + two_s), rel=1e-6, abs=1e-3)


NOT_SERIES = {
    "no step": ((), (), None),
    "a late beginning": ((60.0,), (1.0,), None),
    "a value too few": ((0.0, 60.0), (1.0,), None),
    "backwards": ((0.0, 60.0, 30.0), (1.0, 2.0, 3.0), None),
    "twice at once": ((0.0, 0.0), (1.0, 2.0), None),
    "no time": ((0.0, math.nan), (1.0, 2.0), None),
    "an endless step": ((0.0, math.inf), (1.0, 2.0), None),
    "no value": ((0.0,), (math.nan,), None),
    "begins again before it ends": ((0.0, 60.0), (1.0, 2.0), 60.0),
    "never begins again": ((0.0,), (1.0,), math.inf),
}


@pytest.mark.parametrize(("start_s", "values", "period_s"), NOT_SERIES.values(), ids=NOT_SERIES)
def test_what_is_no_series_is_refused(
    start_s: tuple[float, ...], values: tuple[float, ...], period_s: float | None
) -> None:
    with pytest.raises(ValueError, match="series"):
        Series(start_s, values, period_s)


# --- weights -----------------------------------------------------------------------------------------

PRICE = Series((0.0,), (0.08 / JOULES_PER_KWH,))
RENT = 11.06 / SECONDS_PER_HOUR
GRID = Series((0.0, 3600.0), (400 / JOULES_PER_KWH, 50 / JOULES_PER_KWH))
EMBODIED = 20 / SECONDS_PER_HOUR
ALL = Tariffs(PRICE, RENT, GRID, EMBODIED)


def of(kind: Objective, tariffs: Tariffs = ALL, *, now_s: float = 0.0, horizon_s: float = 1800.0) -> Weights:
    return objective.weights(kind, tariffs, now_s=now_s, horizon_s=horizon_s)


def test_joules_count_joules_whatever_they_cost() -> None:
    assert of(Objective.JOULES) == JOULES_ALONE
    assert (JOULES_ALONE.total(360.0, 4.0), JOULES_ALONE.gpu_w) == (360.0, 0.0)


def test_money_by_hand() -> None:
    """8 GPUs of 350 W for an hour: 2.8 kWh x 0.08 = 0.224 and 8 x 11.06 = 88.48: 88.704."""
    found = of(Objective.COST)
    assert found.total(8 * 350 * 3600, 8 * 3600) == pytest.approx(88.704)
    assert found.gpu_w == pytest.approx(138_250)  # 11.06 / 0.08 kW


def test_carbon_by_hand() -> None:
    """8 GPUs of 350 W for an hour: 2.8 kWh x 400 g = 1,120 g and 8 x 20 g = 160 g."""
    found = of(Objective.CARBON)
    assert found.total(8 * 350 * 3600, 8 * 3600) == pytest.approx(1280)
    assert found.gpu_w == pytest.approx(50)  # 20 g of 400 g per kWh


def test_a_clean_grid_makes_a_gpu_dearer_in_watts() -> None:
    """From 3,600 s on 50 g per kWh: 20 g an hour are as much as 400 W; across the change the mean, 225 g: 88.9 W."""
    assert of(Objective.CARBON, now_s=3600).gpu_w == pytest.approx(400)
    assert of(Objective.CARBON, now_s=2700).gpu_w == pytest.approx(20 / 0.225)


FREE = Series((0.0,), (0.0,))
BURN = Series((0.0,), (-1e-8,))
EDGES = {
    "no tariff at all: joules": (Objective.COST, Tariffs(), JOULES_ALONE),
    "carbon without an intensity: joules": (Objective.CARBON, Tariffs(PRICE, RENT, None, EMBODIED), JOULES_ALONE),
    "rent alone": (Objective.COST, Tariffs(rent_per_gpu_s=2.0), Weights(0.0, 2.0)),
    "electricity alone": (Objective.COST, Tariffs(PRICE), Weights(PRICE.values[0], 0.0)),
    "an intensity alone": (Objective.CARBON, Tariffs(intensity=Series((0.0,), (3.0,))), Weights(3.0, 0.0)),
    "free electricity beside a rent": (Objective.COST, Tariffs(FREE, 2.0), Weights(0.0, 2.0)),
    "a price below 0: nobody is paid for burning": (Objective.COST, Tariffs(BURN, 2.0), Weights(0.0, 2.0)),
    "everything is free: joules": (Objective.COST, Tariffs(FREE, 0.0), JOULES_ALONE),
    "a grid without carbon and no share: joules": (Objective.CARBON, Tariffs(intensity=FREE), JOULES_ALONE),
}


@pytest.mark.parametrize(("kind", "tariffs", "expected"), EDGES.values(), ids=EDGES)
def test_what_was_not_said_is_not_0(kind: Objective, tariffs: Tariffs, expected: Weights) -> None:
    assert of(kind, tariffs) == expected


@pytest.mark.parametrize("kind", Objective)
def test_whoever_can_be_served_gets_its_own_weights(kind: Objective) -> None:
    assert ALL.serve(kind)
    assert Tariffs().serve(kind) is (kind is Objective.JOULES)


def test_where_joules_are_free_gpus_decide_and_watts_break_ties() -> None:
    gpu_w = Weights(0.0, RENT).gpu_w
    assert gpu_w == MOST_GPU_W
    few_hot, many_cool, few_cool = (watts + gpu_w * gpus for watts, gpus in ((5600, 8), (2000, 12), (5599.9, 8)))
    assert few_cool < few_hot < many_cool


plans = st.tuples(st.floats(0, 1e6), st.integers(0, 10_000).map(float))


@given(plans, plans, st.floats(1e-9, 1e3))
def test_a_constant_intensity_without_an_embodied_share_ranks_plans_as_joules_do(
    one: tuple[float, float], two: tuple[float, float], per_j: float
) -> None:
    carbon = of(Objective.CARBON, Tariffs(PRICE, RENT, Series((0.0,), (per_j,))))
    assert carbon.gpu_w == JOULES_ALONE.gpu_w == 0
    if abs(one[0] - two[0]) > 1e-6 * max(one[0], two[0]):
        assert (carbon.total(*one) < carbon.total(*two)) is (one[0] < two[0])


@given(plans, plans, st.floats(1e-6, 1e3), st.floats(0, 1e3))
def test_watts_with_gpus_in_watts_rank_plans_as_the_objective_does(
    one: tuple[float, float], two: tuple[float, float], per_j: float, per_gpu_s: float
) -> None:
    """Unless a GPU counts as more than `MOST_GPU_W`: then GPUs decide, which the test above shows."""
    made = Weights(per_j, per_gpu_s)
    totals = made.total(*one), made.total(*two)
    in_watts = tuple(watts + made.gpu_w * gpus for watts, gpus in (one, two))
    if made.gpu_w < MOST_GPU_W and abs(totals[0] - totals[1]) > 1e-9 * max(totals):
        assert (totals[0] < totals[1]) is (in_watts[0] < in_watts[1])


@given(series(), finite, st.floats(0, 1e5), st.floats(0, 1e5))
def test_weights_are_never_below_0_nor_both_0(made: Series, rent: float, now_s: float, horizon_s: float) -> None:
    for kind in Objective:
        found = of(kind, Tariffs(made, rent, made, rent), now_s=now_s, horizon_s=horizon_s)
        assert min(found.per_j, found.per_gpu_s) >= 0 < found.per_j + found.per_gpu_s
        assert 0 <= found.gpu_w <= MOST_GPU_W


@pytest.mark.parametrize("wrong", [{"per_j": -1.0}, {"per_j": math.nan}, {"per_gpu_s": math.inf}, {"per_j": 0.0}])
def test_weights_that_rank_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        dataclasses.replace(JOULES_ALONE, **wrong)


@pytest.mark.parametrize("name", ["rent_per_gpu_s", "embodied_g_per_gpu_s"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_rent_or_share_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="rent and an embodied share"):
        dataclasses.replace(ALL, **{name: value})  # type: ignore[arg-type]  # a table of names


def test_an_intensity_below_0_is_refused() -> None:
    with pytest.raises(ValueError, match="intensity"):
        Tariffs(intensity=BURN)
