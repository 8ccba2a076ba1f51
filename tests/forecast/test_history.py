"""Rates slot by slot from samples and counters: what was not seen stays unknown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import history
from capstan.forecast.calendar import Calendar
from capstan.forecast.history import History

HOUR = Calendar(slot_s=100.0, slots_per_day=4, origin_s=0.0)


def test_samples_are_averaged_by_slot_and_the_highest_is_kept() -> None:
    """Windows that end at 50 and 100 s tell of slot 0, (2 + 4) / 2 = 3; slot 1 was not seen; 250 s is in slot 2."""
    found = history.of_rates(HOUR, [(50.0, 2.0), (100.0, 4.0), (250.0, 7.0)])
    assert found == History(HOUR, 0, (3.0, None, 7.0), (4.0, None, 7.0))


def test_ten_minutes_of_history_are_two_slots_and_no_more() -> None:
    found = history.of_rates(Calendar(origin_s=0.0), [(60.0 * (i + 1), 5.0) for i in range(10)])
    assert found.rates_rps == (5.0, 5.0)


def test_nothing_seen_is_an_empty_history() -> None:
    assert history.of_rates(HOUR, []) == History(HOUR)
    assert history.of_counter(HOUR, [(5.0, 9.0)], gap_s=60.0) == History(HOUR)


@pytest.mark.parametrize(
    ("samples", "rates"),
    [
        pytest.param([(0.0, 10.0), (100.0, 60.0), (200.0, 80.0)], (0.5, 0.2), id="a-counter-that-only-rises"),
        pytest.param([(0.0, 500.0), (50.0, 520.0), (100.0, 7.0)], (0.27,), id="reset-counts-what-it-shows-since"),
        pytest.param([(0.0, 500.0), (50.0, 520.0), (100.0, 0.0)], (0.2,), id="reset-to-zero-counts-nothing-more"),
        pytest.param([(50.0, 0.0), (150.0, 40.0)], (0.4, 0.4), id="a-step-over-an-edge-is-split-by-time"),
        pytest.param([(0.0, 0.0), (100.0, 40.0), (350.0, 90.0), (400.0, 95.0)], (0.4, None, None, 0.1), id="a-gap"),
        pytest.param([(60.0, 0.0), (100.0, 40.0), (200.0, 50.0)], (0.1,), id="watched-for-less-than-half-of-a-slot"),
    ],
)
def test_a_counter_tells_of_slots(samples: list[tuple[float, float]], rates: tuple[float | None, ...]) -> None:
    assert history.of_counter(HOUR, samples, gap_s=120.0).rates_rps == pytest.approx(rates)


@pytest.mark.parametrize(
    "samples",
    [[(0.0, 1.0), (0.0, 2.0)], [(9.0, 1.0), (5.0, 2.0)], [(0.0, 1.0), (5.0, math.nan)], [(0.0, -1.0), (5.0, 1.0)]],
    ids=["same-time", "backwards", "nan", "negative"],
)
def test_a_counter_that_is_none_is_refused(samples: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="times must ascend"):
        history.of_counter(HOUR, samples, gap_s=60.0)


@given(st.lists(st.floats(0, 50), min_size=2, max_size=40), st.integers(0, 39))
def test_a_restart_never_makes_requests(steps: list[float], at: int) -> None:
    """A counter that restarts tells of no more than one that does not, and never of fewer than none."""
    count, whole, broken = 0.0, [(0.0, 0.0)], [(0.0, 0.0)]
    since = 0.0
    for i, step in enumerate(steps):
        if i == at:
            since = count
        count += step
        whole.append((30.0 * (i + 1), count))
        broken.append((30.0 * (i + 1), count - since))
    told = history.of_counter(HOUR, broken, gap_s=60.0).rates_rps
    truth = history.of_counter(HOUR, whole, gap_s=60.0).rates_rps
    for seen, real in zip(told, truth, strict=True):
        assert (seen is None) == (real is None)
        if seen is not None and real is not None:
            assert 0 <= seen <= real + 1e-9


def test_until_and_since_cut_and_then_joins() -> None:
    whole = History(HOUR, 5, (1.0, None, 3.0, 4.0), (2.0, None, 3.5, 4.5))
    first, last = whole.until(7), whole.since(7)
    assert (first.rates_rps, last.rates_rps, last.first_slot) == ((1.0, None), (3.0, 4.0), 7)
    assert first.then(last) == whole
    assert (whole.at(7), whole.at(6), whole.at(99), whole.highest(7), whole.highest(4)) == (3.0, None, None, 3.5, None)


def test_a_gap_between_two_histories_stays_open() -> None:
    joined = History(HOUR, 0, (1.0,)).then(History(HOUR, 3, (2.0,), (2.5,)))
    assert joined == History(HOUR, 0, (1.0, None, None, 2.0), (None, None, None, 2.5))
    assert History(HOUR).then(joined) == joined.then(History(HOUR)) == joined


@pytest.mark.parametrize("later", [History(HOUR, 0, (1.0,)), History(Calendar(), 9, (1.0,))], ids=["overlaps", "other"])
def test_histories_that_do_not_follow_are_refused(later: History) -> None:
    with pytest.raises(ValueError, match="same calendar"):
        History(HOUR, 0, (1.0,)).then(later)


@pytest.mark.parametrize("rates", [(math.nan,), (math.inf,), (-0.1,)])
def test_an_absurd_rate_is_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        History(HOUR, 0, rates)


def test_windows_are_all_told_or_none() -> None:
    with pytest.raises(ValueError, match="one entry per slot"):
        History(HOUR, 0, (1.0, 2.0), (1.0,))


@given(st.lists(st.none() | st.floats(0, 9), max_size=30), st.integers(-5, 40))
def test_cutting_loses_nothing(rates: list[float | None], at: int) -> None:
    whole = History(HOUR, 3, tuple(rates))
    first, last = whole.until(at), whole.since(at)
    assert [first.at(s) if s < at else last.at(s) for s in range(40)] == [whole.at(s) for s in range(40)]
