"""How odd a figure is: robust against the odd ones among the past, silent until it has seen an hour."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import oddity
from capstan.model.oddity import Watched

HOUR = (980.0, 1020.0) * 6
PAST = st.lists(st.floats(1, 1e6), min_size=oddity.MIN_PAST, max_size=40)


def test_the_score_by_hand() -> None:
    """Median 1,000, median deviation 20: 200 / (1.4826 x 20) = 6.745."""
    assert oddity.anomaly_ratio(1200.0, HOUR) == pytest.approx(6.745, abs=1e-3)
    assert oddity.anomaly_ratio(1000.0, HOUR) == 0.0
    assert oddity.anomaly_ratio(900.0, HOUR) == pytest.approx(-3.372, abs=1e-3)


def test_less_than_an_hour_is_no_past() -> None:
    assert oddity.anomaly_ratio(1200.0, HOUR[:-1]) is None


def test_a_spread_finer_than_the_sensors_is_none() -> None:
    """Twelve times 1,000 J: 2 % count as spread, so 1,050 is 2.5 off, and not infinitely odd."""
    assert oddity.anomaly_ratio(1050.0, (1000.0,) * 12) == pytest.approx(2.5)


def test_odd_windows_of_the_past_do_not_hide_the_next() -> None:
    """980 to 1,024 in steps of 4, then 10,000 three times: the mean is 2,802, the median 1,008 and its deviation 16."""
    past = (*(980.0 + 4 * i for i in range(12)), 10_000.0, 10_000.0, 10_000.0)
    assert oddity.anomaly_ratio(1200.0, past) == pytest.approx(192 / (1.4826 * 16))


def test_what_is_older_than_a_day_is_forgotten() -> None:
    """A day at 1,000 J after a month at 10: 1,000 is ordinary."""
    assert oddity.anomaly_ratio(1000.0, (10.0,) * 8000 + (1000.0,) * oddity.MOST_PAST) == 0.0


@given(PAST, st.floats(1, 1e6), st.floats(0.01, 100))
def test_the_unit_does_not_matter(past: list[float], value: float, scale: float) -> None:
    one, other = oddity.anomaly_ratio(value, past), oddity.anomaly_ratio(scale * value, [scale * p for p in past])
    assert one is not None
    assert other == pytest.approx(one, rel=1e-6, abs=1e-6)


@given(PAST, st.floats(1, 1e6), st.floats(1, 1e6))
def test_more_joules_are_never_less_odd_upwards(past: list[float], one: float, other: float) -> None:
    scores = [oddity.anomaly_ratio(value, past) for value in sorted((one, other))]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0] <= scores[1]


# --- windows -----------------------------------------------------------------------------------------


def watched(*windows: tuple[float, float]) -> Watched:
    """What is known after windows of (joules, requests), noted every minute."""
    found, now_s = Watched(0.0), 0.0
    for energy_j, requests in windows:
        for _ in range(5):
            now_s += 60.0
            found = found.noted(now_s, energy_j=energy_j / 5, sample_requests=requests / 5)
    return found


def test_joules_per_request_of_a_whole_window() -> None:
    """20,000 J and 40 requests in five minutes: 500 J; nothing is said in the middle of a window."""
    found = watched((20_000.0, 40.0))
    assert found.request_j == pytest.approx(500)
    assert found.odd_ratio is None
    assert found.past_j == pytest.approx([500])
    assert found.noted(330.0, energy_j=1e9, sample_requests=1.0).request_j == pytest.approx(500)
    assert Watched(0.0).noted(60.0, energy_j=5.0, sample_requests=50.0).request_j is None


def test_an_hour_of_windows_makes_the_next_one_judged() -> None:
    """Twelve windows of 500 J, then one of 600: 100 / (2 % of 500) = 10."""
    found = watched(*[(20_000.0, 40.0)] * 12)
    assert found.odd_ratio is None
    assert watched(*[(20_000.0, 40.0)] * 12, (24_000.0, 40.0)).odd_ratio == pytest.approx(10)


def test_a_window_with_a_handful_of_requests_says_nothing_and_is_not_remembered() -> None:
    found = watched((20_000.0, 40.0), (9_000.0, 9.0))
    assert (found.request_j, found.odd_ratio) == (None, None)
    assert len(found.past_j) == 1


def test_time_that_nobody_measured_is_left_out_of_both() -> None:
    found = Watched(0.0).noted(100.0, energy_j=10_000.0, sample_requests=20.0).noted(200.0).noted(300.0)
    assert found.request_j == pytest.approx(500)


def test_memory_ends_with_the_day() -> None:
    found = watched(*[(20_000.0, 40.0)] * (oddity.MOST_PAST + 5))
    assert len(found.past_j) == oddity.MOST_PAST


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_joules_that_cannot_be_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        Watched(0.0).noted(10.0, energy_j=bad)
