"""The peak to provision for."""

from __future__ import annotations

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
    """4 + 2 sqrt(4 / 60) = 4.516."""
    assert ask(tuple((10.0 * i, 4.0) for i in range(10))) == pytest.approx(4.5164, abs=1e-4)


def test_a_rising_load_is_carried_ahead() -> None:
    """0.1 rps a second: 60 s ahead of 5 rps is 11, held to twice what was seen (10)."""
    rates = tuple((10.0 * i, 1.0 * i) for i in range(6))
    assert ask(rates) == pytest.approx(peak.guarded_rps(10.0, window_s=60))


def test_a_falling_load_keeps_the_recent_peak() -> None:
    rates = ((0.0, 8.0), (10.0, 4.0), (20.0, 2.0))
    assert ask(rates) == pytest.approx(peak.guarded_rps(8.0, window_s=60))


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
    assert peak_rps == pytest.approx(peak.guarded_rps(4.5, window_s=60.0))


def test_a_trend_is_carried_no_further_than_it_has_lasted() -> None:
    """From 4 to 10 rps in 60 s: in 60 s it may be 16, whatever the lead; the guard adds 2 sqrt(16/60)."""
    rising = tuple((5.0 * i, 4.0 + 0.5 * i) for i in range(13))
    near, far = (
        peak.peak_rps(rising, now_s=60.0, lead_s=lead_s, window_s=60.0, recent_s=120.0) for lead_s in (60.0, 600.0)
    )
    assert near == far == pytest.approx(peak.guarded_rps(16.0, window_s=60.0))
