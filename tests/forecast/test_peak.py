"""The peak to provision for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import peak

RATES = st.lists(st.floats(0, 100), min_size=1, max_size=30).map(
    lambda values: tuple((10.0 * i, v) for i, v in enumerate(values))
)


def ask(rates: peak.Rates, lead_s: float = 60) -> float:
    return peak.peak_rps(rates, now_s=rates[-1][0], lead_s=lead_s, window_s=60, recent_s=120)


def test_a_steady_load_needs_its_rate_and_the_guard() -> None:
    """4 + 3 sqrt(4 / 60) = 4.775."""
    assert ask(tuple((10.0 * i, 4.0) for i in range(10))) == pytest.approx(4.7746, abs=1e-4)


def test_a_load_that_stood_still_for_minutes_is_known_better() -> None:
    """4 + 3 sqrt(4 / 600) = 4.245."""
    assert ask(tuple((10.0 * i, 4.0) for i in range(70))) == pytest.approx(4.2449, abs=1e-4)


def test_a_rising_load_is_carried_ahead() -> None:
    """0.1 rps a second: 60 s ahead of 5 rps is 11, held to twice what was seen (10)."""
    rates = tuple((10.0 * i, 1.0 * i) for i in range(6))
    assert ask(rates) == pytest.approx(peak.guarded_rps(10.0, window_s=60, sigmas=3))


def test_a_falling_load_keeps_the_recent_peak() -> None:
    rates = ((0.0, 8.0), (10.0, 4.0), (20.0, 2.0))
    assert ask(rates) == pytest.approx(peak.guarded_rps(8.0, window_s=60, sigmas=3))


@given(RATES)
def test_the_peak_is_never_below_what_was_seen(rates: peak.Rates) -> None:
    """Where a window holds the arrivals that a rate rests on: 2 rps over 60 s are 120."""
    busy = tuple((t_s, rate + 2.0) for t_s, rate in rates)
    assert ask(busy) >= max(rate for _, rate in busy)


@given(RATES, st.floats(0, 300), st.floats(0, 300))
def test_looking_further_ahead_never_lowers_the_peak(rates: peak.Rates, one_s: float, other_s: float) -> None:
    near_s, far_s = sorted((one_s, other_s))
    assert ask(rates, near_s) <= ask(rates, far_s)


@given(RATES, st.floats(1, 500))
def test_memory_is_bounded_and_ends_with_the_newest(rates: peak.Rates, lookback_s: float) -> None:
    now_s = rates[-1][0] + 10
    kept = peak.remembered(rates, now_s, 7.0, lookback_s=lookback_s)
    assert kept[-1] == (now_s, 7.0)
    assert all(now_s - t <= lookback_s for t, _ in kept)


def test_the_same_moment_twice_is_remembered_once() -> None:
    kept = peak.remembered(((10.0, 1.0),), 10.0, 2.0, lookback_s=60)
    assert kept == ((10.0, 2.0),)


def test_counting_noise_is_no_trend() -> None:
    """4 rps over 60 s has a standard error of 0.26; a rise of half a request a second over a minute says nothing."""
    noisy = tuple((5.0 * i, 4.0 + 0.5 * i / 12) for i in range(13))
    peak_rps = peak.peak_rps(noisy, now_s=60.0, lead_s=240.0, window_s=60.0, recent_s=120.0)
    assert peak_rps == pytest.approx(peak.guarded_rps(4.5, window_s=60.0, sigmas=3))


def test_a_trend_is_carried_no_further_than_it_has_lasted() -> None:
    """From 4 to 10 rps in 60 s: in 60 s it may be 16, whatever the lead; the guard adds 3 sqrt(16/60)."""
    rising = tuple((5.0 * i, 4.0 + 0.5 * i) for i in range(13))
    near, far = (
        peak.peak_rps(rising, now_s=60.0, lead_s=lead_s, window_s=60.0, recent_s=120.0) for lead_s in (60.0, 600.0)
    )
    assert near == far == pytest.approx(peak.guarded_rps(16.0, window_s=60.0, sigmas=3))


# --- a load that stands still ------------------------------------------------------------------------


def stepped(*steps: tuple[float, float]) -> peak.Rates:
    """Rates every 5 s: each step so many seconds at so many requests a second, from 0 s on."""
    values = [rate for span_s, rate in steps for _ in range(int(span_s / 5))]
    return tuple((5.0 * i, rate) for i, rate in enumerate(values))


@pytest.mark.parametrize(
    ("known", "calm"),
    [
        (stepped((700, 4.0)), (4.0, 600.0)),
        (stepped((600, 4.0), (60, 4.4)), (4.04, 600.0)),
        (stepped((600, 4.0), (60, 6.0)), None),
        (stepped((600, 4.0), (60, 2.0)), None),
        (stepped((300, 2.0), (700, 4.0)), (4.0, 600.0)),
        (stepped((500, 2.0), (400, 4.0)), (4.0, 300.0)),
        (stepped((60, 4.0), (5, 4.4)), None),
        (stepped((700, 0.0)), (0.0, 600.0)),
    ],
    ids=[
        "a constant rate", "a minute 0.4 above: two counts of 240 differ by more", "a burst of half as much again",
        "half of it gone", "a step that is long past", "a step some minutes ago", "a memory too short to say",
        "nobody asks",
    ],
)  # fmt: skip
def test_only_more_than_chance_moves_a_calm_rate(known: peak.Rates, calm: tuple[float, float] | None) -> None:
    """At 4 rps a minute's count has a standard deviation of sqrt(4 / 60) = 0.26 rps; three of them are 0.77."""
    found = peak.calm_rps(known, now_s=known[-1][0], window_s=60)
    assert (found is None) is (calm is None)
    if found is not None and calm is not None:
        assert found[0] == pytest.approx(calm[0], abs=0.03)
        assert found[1] == calm[1]


# --- rises that were seen ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "rise_ratio"),
    [
        (stepped((600, 4.0)), 0.0),
        (stepped((300, 4.0), (300, 8.0)), (8 - 4 - math.sqrt(2 * 4 / 60)) / 4),
        (stepped((300, 8.0), (300, 4.0)), 0.0),
        (stepped((60, 4.0)), 0.0),
        (stepped((300, 0.0), (300, 4.0)), 0.0),
    ],
    ids=["none", "to the double: 0.91", "a fall", "one look alone", "from nothing: no share of it"],
)
def test_the_largest_rise_beyond_counting_noise(known: peak.Rates, rise_ratio: float) -> None:
    assert peak.rise_ratio(known, lead_s=60, window_s=60) == pytest.approx(rise_ratio, abs=1e-9)


def test_a_rise_slower_than_the_lead_counts_only_in_part() -> None:
    """From 4 to 8 rps in 400 s: within 60 s 0.6 rps, which is hardly more than the noise of two counts."""
    slow = tuple((5.0 * i, 4.0 + 0.05 * i) for i in range(81))
    assert peak.rise_ratio(slow, lead_s=60, window_s=60) < 0.1 < peak.rise_ratio(slow, lead_s=400, window_s=60)


@given(RATES, st.floats(0, 300), st.floats(0, 300))
def test_looking_further_ahead_never_lowers_the_rise(rates: peak.Rates, one_s: float, other_s: float) -> None:
    near_s, far_s = sorted((one_s, other_s))
    near, far = (peak.rise_ratio(rates, lead_s=lead_s, window_s=60) for lead_s in (near_s, far_s))
    assert 0 <= near <= far


# --- over how long a rate is read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "span_s"),
    [
        (stepped((600, 5.0)), 60.0),
        (stepped((600, 0.0), (100, 5.0)), 60.0),
        (stepped((600, 0.5)), 200.0),
        (stepped((100, 0.5)), 155.0),
    ],
    ids=["100 arrivals in a window", "idle until just now", "100 arrivals in 200 s", "all there is: 95 s and a window"],
)
def test_a_rate_is_read_back_to_a_hundred_arrivals(known: peak.Rates, span_s: float) -> None:
    assert peak.span_s(known, window_s=60) == pytest.approx(span_s)
