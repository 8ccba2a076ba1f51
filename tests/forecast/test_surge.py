"""Loads that come in surges, and what they ask for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import peak, surge

WINDOW_S, LEAD_S = 60.0, 150.0


def ask(rates: peak.Rates) -> float | None:
    return surge.ready_rps(rates, lead_s=LEAD_S, window_s=WINDOW_S)


def windows(arrivals: list[int]) -> peak.Rates:
    """Return what a scrape every 5 s tells of requests per 5 s: rates over the last minute, once there is one."""
    return tuple((5.0 * end, sum(arrivals[end - 12 : end]) / WINDOW_S) for end in range(12, len(arrivals) + 1))


QUIET, BUSY = [5] * 36, [45] * 12  # 1 rps for three minutes, 9 rps for one


@pytest.mark.parametrize(
    ("arrivals", "ready_rps"),
    [
        (QUIET + BUSY, 9 + 3 * math.sqrt(9 / 60)),
        (QUIET + BUSY + [0] * 60, 9 + 3 * math.sqrt(9 / 60)),
        (QUIET + [5 + 5 * n // 12 for n in range(12)] + QUIET, None),
        ([50] * 36 + [90] * 36, None),
        (QUIET + [100, 100, 100] + [0] * 33, 19.0),
        ([0] * 36 + BUSY * 3, None),
        ([0] * 36 + BUSY * 3 + [0] * 12 + BUSY, 9 + 3 * math.sqrt(9 / 60)),
        (BUSY * 2 + [0] * 36, None),
        ([1, 0] * 18 + [1] * 12, None),
        ([0] * 48, None),
    ],
    ids=[
        "nine times the load within a minute: 9 + 3 sqrt(9 / 60)",
        "five quiet minutes do not make it forgotten",
        "a rise by 0.9 within a minute is a trend",
        "10 to 18 rps is less than twice",
        "300 requests in 15 s are 20 rps, less the 15 that left the window: 19",
        "a service that begins to be used",
        "and pauses, and comes back",
        "a fall is no surge",
        "twice of next to nothing is noise",
        "nobody asks",
    ],
)
def test_what_to_be_ready_for(arrivals: list[int], ready_rps: float | None) -> None:
    assert ask(windows(arrivals)) == (None if ready_rps is None else pytest.approx(ready_rps))


ARRIVALS = st.lists(st.integers(0, 200), min_size=12, max_size=120)


@given(ARRIVALS)
def test_whoever_surges_is_ready_for_the_highest_rate_seen(arrivals: list[int]) -> None:
    rates = windows(arrivals)
    found = ask(rates)
    assert found is None or found >= max(rate for _, rate in rates)


@given(ARRIVALS)
def test_no_more_is_asked_for_than_ever_came_within_fifteen_seconds_or_a_guarded_minute(arrivals: list[int]) -> None:
    found = ask(windows(arrivals))
    spans = [sum(arrivals[end - n : end]) / (5.0 * n) for n in (1, 2, 3) for end in range(n, len(arrivals) + 1)]
    minutes = [peak.guarded_rps(rate, window_s=WINDOW_S, sigmas=peak.PEAK_SIGMAS) for _, rate in windows(arrivals)]
    assert found is None or found <= max(*spans, *minutes) + 1e-9


@given(st.integers(0, 60), st.integers(13, 100))
def test_a_constant_load_never_surges(each: int, looks: int) -> None:
    assert ask(windows([each] * looks)) is None


def test_without_rates_there_is_no_surge() -> None:
    assert ask(()) is None
