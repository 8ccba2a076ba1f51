"""Thresholds from a trace: the paper's arithmetic, gaps, small domains, the live estimate against the whole trace."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.sample import Missing
from capstan.powercap import derive
from capstan.powercap.readings import Floats

PERIOD_S, LATENCY_S = 2.0, 40.0
GAP = math.nan


def climbing(rise: float, *, seconds: float = 40.0) -> Floats:
    """Flat at 1000 W, then up by `rise` in so many seconds, flat again; samples of 2 s."""
    up = np.linspace(1000.0, 1000.0 * (1 + rise), int(seconds / PERIOD_S) + 1)
    return np.concatenate([np.full(100, 1000.0), up, np.full(100, up[-1])])


def derived(watts: Floats, *, budget_w: float = 1200.0, saving_ratio: float = 0.0) -> derive.Derived:
    found = derive.thresholds(watts, PERIOD_S, LATENCY_S, budget_w, 5.0, saving_ratio=saving_ratio)
    assert isinstance(found, derive.Derived)
    return found


def servers(count: int, *, hours: int = 24) -> Floats:
    """Independent servers between 2.5 and 5 kW, each anew every 20 s."""
    random = np.random.default_rng(count)
    busy = random.random((hours * 180, count)) < 0.5
    return np.repeat(np.where(busy, 5000.0, 2500.0).sum(axis=1), 10)


def test_a_worst_rise_of_11_8_percent_gives_polcas_thresholds() -> None:
    """1 / 1.118 = 0.8945; 0.80 / 0.89 of that is 0.8040; the brake at 1.00: 1.118 x 1.00 is below 1.25."""
    found = derived(climbing(0.118))
    assert found.rise_ratio == pytest.approx(0.118)
    assert found.thresholds.high_ratio == pytest.approx(0.8945, abs=1e-4)
    assert found.thresholds.low_ratio == pytest.approx(0.8040, abs=1e-4)
    assert (found.thresholds.brake_ratio, found.thresholds.hysteresis_ratio) == (1.0, 0.05)
    assert found.covers
    assert found.brake_covers


@pytest.mark.parametrize(
    ("watts", "rise"),
    [
        (climbing(0.118, seconds=80), 0.118 / 2),
        (climbing(0.118)[::-1], 0.0),
        (np.array([100.0, 200.0, 200.0, 1000.0]), 9.0),
        (np.concatenate([[100.0, 300.0], np.full(30, 300.0), [1000.0] * 30, [1100.0]]), 1000 / 300 - 1),
        (np.array([1000.0] * 30 + [GAP, 1100.0]), 0.1),
        (np.array([1000.0] * 30 + [GAP] * 20 + [1100.0]), 0.0),
        (np.array([1000.0, GAP] * 20 + [1100.0, GAP]), 0.1),
        (np.array([1000.0, 0.0, -5.0, math.inf, 1050.0]), 0.05),
        (np.array([GAP, GAP]), 0.0),
        (np.array([]), 0.0),
        (np.array([1000.0]), 0.0),
    ],
    ids=[
        "half of a climb of two latencies", "a fall is no rise", "within one window", "a step at night does not count",
        "over a lost sample", "a gap of a latency hides", "every other sample lost", "absurd samples are lost ones",
        "nothing heard", "no samples", "one sample",
    ],
)  # fmt: skip
def test_the_worst_rise_of_a_trace(watts: Floats, rise: float) -> None:
    assert derive.rise_ratio(watts, PERIOD_S, LATENCY_S) == pytest.approx(rise, abs=1e-9)


def test_a_steep_rise_counts_though_another_one_made_the_peak() -> None:
    """Slowly to 1100, where it ends the trace; at noon 40 % within the window, to 1050."""
    slow = np.linspace(1000, 1100, 500)
    noon = np.concatenate([np.full(50, 750.0), np.full(50, 1050.0)])
    assert derive.rise_ratio(np.concatenate([noon, slow]), PERIOD_S, LATENCY_S) == pytest.approx(0.4)


@given(st.lists(st.floats(1.0, 1e5) | st.just(GAP), min_size=1, max_size=60), st.integers(1, 30))
def test_the_fast_maximum_equals_looking_at_every_pair(values: list[float], width: int) -> None:
    watts = np.array(values)
    pairs = [
        later / first - 1
        for i, first in enumerate(values)
        for later in values[i : i + width + 1]
        if math.isfinite(first) and math.isfinite(later) and later >= 500.0
    ]
    got = derive.rise_ratio(watts, 1.0, float(width), reach_w=500.0)
    assert got == pytest.approx(max([0.0, *pairs]))


def test_fewer_servers_get_lower_thresholds_by_themselves() -> None:
    row, rack = (derived(servers(count), budget_w=4500.0 * count) for count in (40, 4))
    assert rack.rise_ratio > 1.5 * row.rise_ratio
    assert rack.thresholds.high_ratio < row.thresholds.high_ratio
    assert rack.thresholds.low_ratio < row.thresholds.low_ratio


def test_a_rise_that_no_threshold_covers_is_said() -> None:
    """Tripling within the latency needs 0.33; thresholds stop at 0.50, and the rest is the brake's."""
    found = derived(climbing(2.0), budget_w=3000.0)
    assert found.needed_ratio == pytest.approx(1 / 3)
    assert found.thresholds.high_ratio == 0.5
    assert not found.covers


def test_a_steep_rise_lowers_the_brake_to_what_the_breaker_carries() -> None:
    """60 % within 4 s: 1.25 / 1.6 = 0.781."""
    found = derived(climbing(0.6, seconds=4), budget_w=1600.0)
    assert found.thresholds.brake_ratio == pytest.approx(1.25 / 1.6)
    assert found.brake_covers


def test_hysteresis_holds_one_steps_saving_and_the_noise() -> None:
    """Steps of the samples are normal with sigma sqrt(2) x 6 W: one sigma of a sample is 0.5 % of 1200 W."""
    noisy = climbing(0.05) + np.random.default_rng(5).normal(0.0, 6.0, 221)
    found = derived(noisy, saving_ratio=0.06)
    assert found.noise_ratio == pytest.approx(0.005, rel=0.2)
    assert found.thresholds.hysteresis_ratio == pytest.approx(0.06 + 3 * found.noise_ratio)


@given(
    st.lists(st.floats(0.0, 1e5) | st.just(GAP), min_size=1, max_size=50),
    st.floats(1.0, 1e6),
    st.floats(0.0, 1.0),
    st.floats(1.0, 100.0),
)
def test_any_trace_gives_thresholds_whose_bands_nest_or_nothing(
    values: list[float], budget_w: float, saving_ratio: float, latency_s: float
) -> None:
    """`Thresholds` checks its own order; here: a cap of LowDeep is released above where LowBase comes."""
    found = derive.thresholds(np.array(values), PERIOD_S, latency_s, budget_w, 5.0, saving_ratio=saving_ratio)
    if isinstance(found, Missing):
        assert not any(math.isfinite(value) and value >= 1 for value in values)
        return
    at = found.thresholds
    assert at.low_ratio < at.high_ratio - at.hysteresis_ratio
    assert at.high_ratio <= at.brake_ratio - at.hysteresis_ratio + 1e-9


def test_a_trace_says_whether_it_is_a_week() -> None:
    assert not derived(climbing(0.1)).enough
    week = np.full(int(7 * 86_400 / PERIOD_S), 1000.0)
    assert derived(week).enough


def test_a_period_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="period_s"):
        derive.rise_ratio(np.array([1.0]), 0.0, 40.0)


# --- caps from a response curve ----------------------------------------------------------------------

SLOWER = {1980.0: 0.0, 1785.0: 0.02, 1560.0: 0.07, 1200.0: 0.2, 900.0: 0.6}


@pytest.mark.parametrize(
    ("allowed", "clock"),
    [(0.05, 1785.0), (0.07, 1560.0), (0.5, 1200.0), (9.0, 900.0), (-1.0, 1980.0)],
    ids=["high priority", "just allowed", "low priority", "anything goes", "nothing does: the highest"],
)
def test_the_deepest_clock_within_an_objective(allowed: float, clock: float) -> None:
    assert derive.deepest_mhz(SLOWER, SLOWER.__getitem__, allowed) == clock


def test_below_a_clock_that_is_unknown_nothing_is_trusted() -> None:
    assert derive.deepest_mhz(SLOWER, {**SLOWER, 1785.0: math.nan}.__getitem__, 0.5) == 1980


def test_no_clocks_are_refused() -> None:
    with pytest.raises(ValueError, match="clocks is empty"):
        derive.deepest_mhz([], SLOWER.__getitem__, 0.5)


# --- live --------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1.0, 1e4) | st.none(), min_size=1, max_size=80), st.integers(1, 20))
def test_live_and_offline_agree_on_the_worst_rise(values: list[float | None], latency: int) -> None:
    rises = derive.Rises()
    for second, watts in enumerate(values):
        rises = derive.watched(rises, watts, float(second), latency_s=float(latency), budget_w=3000.0)
    trace = np.array([GAP if watts is None else watts for watts in values])
    offline = derive.rise_ratio(trace, 1.0, float(latency), reach_w=3000.0 / 1.3)
    assert (rises.worst_ratio or 0.0) == pytest.approx(offline)
    assert len(rises.lows) <= latency + 1


def test_the_live_estimate_forgets_after_a_week_and_says_nothing_before_a_sample() -> None:
    assert derive.Rises().worst_ratio is None
    rises = derive.Rises()
    for second, watts in enumerate([1000.0, 1100.0]):
        rises = derive.watched(rises, watts, float(second), latency_s=5.0, budget_w=1200.0)
    assert rises.worst_ratio == pytest.approx(0.1)
    for hour in range(1, 169):
        rises = derive.watched(rises, 1000.0, hour * 3600.0, latency_s=5.0, budget_w=1200.0)
    assert rises.worst_ratio == 0.0
    assert len(rises.hours) == derive.HOURS_KEPT


@pytest.mark.parametrize("watts", [math.nan, math.inf, 0.0, -3.0])
def test_absurd_watts_raise_no_estimate(watts: float) -> None:
    before = derive.watched(derive.Rises(), 1000.0, 0.0, latency_s=5.0, budget_w=1200.0)
    assert derive.watched(before, watts, 1.0, latency_s=5.0, budget_w=1200.0) == before
