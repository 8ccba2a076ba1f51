"""Requests drawn from two tables: rates, burstiness and lengths as asked for, the same for a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay import synth, traces
from capstan.replay.runs import Requests
from capstan.replay.traces import describe, tables
from capstan.replay.traces.tables import Lengths, Rates

LENGTHS = Lengths(np.array([0.0, 0.5, 1.0]), np.array([10.0, 100.0, 1000.0]), np.array([1.0, 1.0, 9.0]))


def flat(per_min: float, minutes: int) -> Rates:
    starts_s = 60.0 * np.arange(minutes, dtype=np.float64)
    return tables.steady(starts_s, np.full(minutes, per_min), minutes * 60.0)


def same(left: Requests, right: Requests) -> bool:
    return traces.objects(left) == traces.objects(right)


@pytest.mark.parametrize("burst_cv", [0.5, 1.0, 2.0, 5.0])
def test_gaps_vary_as_asked(burst_cv: float) -> None:
    """240,000 gaps at a steady rate: their CV is the one asked for, their mean a minute's 600th part."""
    requests = synth.requests(flat(600, 400), LENGTHS, seed=1, burst_cv=burst_cv)
    gaps_s = np.diff(requests.arrival_s)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(burst_cv, rel=0.03)
    sigma = burst_cv * 240_000**0.5  # of a renewal process' count
    assert len(requests) == pytest.approx(240_000, abs=4 * sigma)


@pytest.mark.parametrize("burst_cv", [0.2, 4.0])
def test_a_bursty_trace_begins_like_any_other_minute(burst_cv: float) -> None:
    """1,000 traces of a minute at 3 a minute: 3 on average, where a process begun by an arrival makes more at CV 4."""
    counts = [sum(map(len, synth.chunks(flat(3, 1), LENGTHS, seed=i, burst_cv=burst_cv))) for i in range(1000)]
    assert np.mean(counts) == pytest.approx(3, abs=4 * np.std(counts) / 1000**0.5)


def test_rates_are_followed_step_by_step() -> None:
    """Nobody in a silent step; elsewhere within five sigma; a step of 7.5 minutes is no trouble."""
    rates = tables.steady(np.array([0.0, 450.0, 600.0]), np.array([1000.0, 0.0, 3000.0]), 900.0)
    arrival_s = synth.requests(rates, LENGTHS, seed=3).arrival_s
    counts, _ = np.histogram(arrival_s, [0, 450, 600, 900])
    assert counts[0] == pytest.approx(7500, abs=5 * 7500**0.5)
    assert counts[1] == 0
    assert counts[2] == pytest.approx(15_000, abs=5 * 15_000**0.5)
    assert arrival_s[-1] < 900


def test_minutes_vary_within_their_envelope_and_keep_the_mean() -> None:
    """A lopsided envelope, 900 to 1,600 about 1,000: the mean stays, and no minute is outside by more than Poisson."""
    starts_s = 60.0 * np.arange(2000, dtype=np.float64)
    low, mid, high = (np.full(2000, rate) for rate in (900.0, 1000.0, 1600.0))
    requests = synth.requests(Rates(starts_s, mid, low, high, 120_000.0), LENGTHS, seed=4)
    counts = np.bincount((requests.arrival_s // 60).astype(int))
    assert counts.mean() == pytest.approx(1000, rel=0.015)
    # 6/7 of the minutes uniform on [900, 1000], 1/7 on [1000, 1600]: variance 17,500 and the Poisson's 1,000
    assert counts.var() == pytest.approx(18_500, rel=0.15)
    assert counts.min() > 900 - 5 * 30
    assert counts.max() < 1600 + 5 * 40


def test_lengths_are_those_of_the_table() -> None:
    """Half of the prompts below 100, evenly; half of the outputs are 1."""
    requests = synth.requests(flat(6000, 20), LENGTHS, seed=5)
    found = describe.quantiles(requests, (0.25, 0.5, 0.75, 1.0))
    assert found.prompt_tokens.tolist() == pytest.approx([55, 100, 550, 1000], rel=0.02)
    assert found.output_tokens.tolist() == pytest.approx([1, 1, 5, 9], abs=0.5)
    assert abs(np.corrcoef(requests.prompt_tokens, requests.output_tokens)[0, 1]) < 0.01, "drawn independently"


def test_nothing_is_longer_than_the_last_point_or_shorter_than_a_token() -> None:
    lengths = Lengths(np.array([0.01, 0.9]), np.array([5.0, 80.0]), np.array([1.0, 40.0]))
    requests = synth.requests(flat(6000, 20), lengths, seed=6)
    assert requests.prompt_tokens.max() == 80
    assert (requests.prompt_tokens == 80).mean() == pytest.approx(0.1, abs=0.01)
    assert requests.prompt_tokens.min() >= 1
    assert requests.output_tokens.min() >= 1


def test_the_same_seed_gives_the_same_trace() -> None:
    assert same(synth.requests(flat(60, 9), LENGTHS, seed=5), synth.requests(flat(60, 9), LENGTHS, seed=5))
    assert not same(synth.requests(flat(60, 9), LENGTHS, seed=5), synth.requests(flat(60, 9), LENGTHS, seed=6))


@given(st.integers(0, 2**32), st.floats(0.1, 20), st.lists(st.floats(0, 200), min_size=1, max_size=5))
def test_any_trace_is_in_order_and_inside_its_span(seed: int, burst_cv: float, per_min: list[float]) -> None:
    starts_s = 45.0 * np.arange(len(per_min), dtype=np.float64)
    rates = tables.steady(starts_s, np.array(per_min), 45.0 * len(per_min))
    for part in synth.chunks(rates, LENGTHS, seed=seed, burst_cv=burst_cv):
        assert (np.diff(part.arrival_s) >= 0).all()
        assert ((part.arrival_s >= 0) & (part.arrival_s <= rates.end_s)).all()


@pytest.mark.parametrize("burst_cv", [0.0, -1.0, float("nan"), float("inf")])
def test_a_variation_that_is_none_is_refused(burst_cv: float) -> None:
    with pytest.raises(ValueError, match="--burst-cv"):
        synth.requests(flat(60, 1), LENGTHS, seed=1, burst_cv=burst_cv)


# --- the digitised week ------------------------------------------------------------------------------


def test_the_digitised_week_is_drawn_as_published(shared_data: Path) -> None:
    """Its README: 27,303,999 requests, peak about 5,200 and floor about 960 a minute, P50 41 and P99 694 output tokens.

    A day is drawn (Monday, mean 3,199 a minute) and the whole week's expectation is summed: 27 million take seconds.
    """
    folder = shared_data / "azure-llm-2024-digitised"
    rates = tables.read_rates(folder / "conversation_requests_per_min.csv")
    lengths = tables.read_lengths(folder / "conversation_length_cdf.csv")
    assert tables.expected(rates) == pytest.approx(27_303_999, rel=0.001)
    day = (rates.start_s >= 86_400) & (rates.start_s < 2 * 86_400)
    monday = Rates(
        rates.start_s[day], rates.per_min[day], rates.low_per_min[day], rates.high_per_min[day], end_s=172_800.0
    )
    requests = synth.requests(monday, lengths, seed=1)
    found = describe.describe(requests)
    assert found.mean_per_min == pytest.approx(3199, rel=0.01)
    shown = describe.quantiles(requests, (0.5, 0.9, 0.95, 0.99))
    assert shown.output_tokens.tolist() == pytest.approx([41, 342, 455, 694], abs=3)
    assert shown.prompt_tokens.tolist() == pytest.approx([914, 3775, 4885, 6568], rel=0.01)
