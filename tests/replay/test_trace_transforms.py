"""Traces made faster, denser, longer or shorter keep what they promise to keep."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.workload import Request
from capstan.replay import traces
from capstan.replay.runs import Requests
from capstan.replay.traces import transforms
from support.replay import poisson


def columns(requests: list[Request]) -> Requests:
    return Requests(
        np.array([r.arrival_s for r in requests]),
        np.array([r.prompt_tokens for r in requests], np.int64),
        np.array([r.output_tokens for r in requests], np.int64),
    )


def lengths(requests: Requests) -> set[tuple[int, int]]:
    return set(zip(requests.prompt_tokens.tolist(), requests.output_tokens.tolist(), strict=True))


def equal(left: Requests, right: Requests) -> bool:
    return traces.objects(left) == traces.objects(right)


# --- compression -------------------------------------------------------------------------------------


def test_compression_keeps_rates_and_lengths_and_shortens_time() -> None:
    """8 times faster, one in eight kept: 8,000 requests at 5 rps over 1,600 s become ~1,000 at 5 rps over 200 s."""
    requests = columns(poisson(8000, rate_rps=5.0))
    short = traces.compress(requests, 8.0, seed=1)
    assert len(short) == pytest.approx(1000, rel=0.12)  # a binomial: 30 is one sigma
    assert short.arrival_s[-1] == pytest.approx(requests.arrival_s[-1] / 8, rel=0.02)
    assert lengths(short) <= lengths(requests)


def test_the_seed_decides_which_requests_stay() -> None:
    requests = columns(poisson(500, rate_rps=5.0))
    assert equal(traces.compress(requests, 4.0, seed=3), traces.compress(requests, 4.0, seed=3))
    assert not equal(traces.compress(requests, 4.0, seed=3), traces.compress(requests, 4.0, seed=4))


def test_factor_one_leaves_a_trace_as_it_is() -> None:
    requests = columns(poisson(100, rate_rps=5.0))
    assert equal(traces.compress(requests, 1.0, seed=9), requests)


@pytest.mark.parametrize(("factor", "rate"), [(0.5, 1.0), (2.0, 2.5), (2.0, 0.0), (float("nan"), 1.0)])
def test_more_requests_than_the_trace_has_cannot_be_kept(factor: float, rate: float) -> None:
    with pytest.raises(ValueError, match="thinning needs"):
        traces.compress(columns(poisson(5, rate_rps=1.0)), factor, rate_ratio=rate, seed=1)


@given(st.integers(0, 2**40))
def test_thinning_draws_what_the_standard_library_draws(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - what is compared with
    assert transforms._python_random(seed, 1000).tolist() == [chance.random() for _ in range(1000)]


# --- more of the same load (DESIGN 7.1) --------------------------------------------------------------


def test_a_rate_of_one_is_the_very_same_trace() -> None:
    requests = columns(poisson(100, rate_rps=5.0))
    assert traces.scale_rate(requests, 1.0, seed=1) is requests


@pytest.mark.parametrize("x", [0.3, 2.0, 3.4, 20.0])
def test_scaling_the_rate_keeps_the_length_and_the_shape(x: float) -> None:
    """Half the load in the first third: the share stays, minute-scale moves of 30 s included."""
    dense = columns(poisson(6000, rate_rps=10.0))
    sparse = columns(poisson(3000, rate_rps=2.5, seed=2))
    whole = traces.repeat(dense, 1)
    requests = Requests(
        np.concatenate([whole.arrival_s, whole.arrival_s[-1] + sparse.arrival_s]),
        np.concatenate([whole.prompt_tokens, sparse.prompt_tokens]),
        np.concatenate([whole.output_tokens, sparse.output_tokens]),
    )
    scaled = traces.scale_rate(requests, x, seed=5)
    assert len(scaled) == pytest.approx(9000 * x, abs=4 * (9000 * 0.25) ** 0.5)  # only the odd copy is left to chance
    assert scaled.arrival_s[0] >= 0
    assert scaled.arrival_s[-1] <= requests.arrival_s[-1]
    assert (np.diff(scaled.arrival_s) >= 0).all()
    early = (scaled.arrival_s < whole.arrival_s[-1]).mean()
    assert early == pytest.approx(6000 / 9000, abs=0.03)


def test_an_integer_rate_copies_every_request_exactly() -> None:
    assert len(traces.scale_rate(columns(poisson(500, rate_rps=5.0)), 3.0, seed=1)) == 1500


def test_a_copy_takes_both_lengths_of_one_request_within_a_minute() -> None:
    """Every request's lengths tell its arrival: a copy's donor is never more than 60 s away."""
    count = 5000
    arrival_s = np.sort(np.random.default_rng(1).uniform(0, 2000, count))
    rows = np.arange(1, count + 1)
    scaled = traces.scale_rate(Requests(arrival_s, rows, rows * 2), 2.5, seed=3)
    assert (scaled.output_tokens == scaled.prompt_tokens * 2).all()
    away_s = np.abs(arrival_s[scaled.prompt_tokens - 1] - scaled.arrival_s)
    assert away_s.max() <= transforms.DONORS_S
    assert away_s.mean() == pytest.approx(30, abs=1), "uniform over the two minutes around it"


def test_a_copy_moves_by_thirty_seconds_at_most() -> None:
    """One request a quarter of an hour: 1,000 copies of each lie around it, uniformly."""
    requests = Requests(np.arange(0.0, 4500.0, 900.0), np.full(5, 7), np.full(5, 9))
    scaled = traces.scale_rate(requests, 1000.0, seed=1)
    moved_s = scaled.arrival_s - np.rint(scaled.arrival_s / 900) * 900
    assert np.abs(moved_s).max() <= transforms.MOVE_S
    assert moved_s[(scaled.arrival_s > 100) & (scaled.arrival_s < 3500)].std() == pytest.approx(30 / 3**0.5, rel=0.03)
    assert Counter(np.rint(scaled.arrival_s / 900).astype(int).tolist()) == dict.fromkeys(range(5), 1000)


def test_scaling_is_seeded() -> None:
    requests = columns(poisson(200, rate_rps=5.0))
    assert equal(traces.scale_rate(requests, 1.5, seed=1), traces.scale_rate(requests, 1.5, seed=1))
    assert not equal(traces.scale_rate(requests, 1.5, seed=1), traces.scale_rate(requests, 1.5, seed=2))


@pytest.mark.parametrize("requests", [columns(poisson(1, rate_rps=1.0)), columns(poisson(3, rate_rps=1.0))])
def test_the_shortest_traces_scale(requests: Requests) -> None:
    assert len(traces.scale_rate(requests, 4.0, seed=1)) == 4 * len(requests)


@pytest.mark.parametrize("x", [0.0, -1.0, float("nan"), float("inf")])
def test_a_multiple_that_is_none_is_refused(x: float) -> None:
    requests = columns(poisson(3, rate_rps=1.0))
    with pytest.raises(ValueError, match="--scale-rate"):
        traces.scale_rate(requests, x, seed=1)
    with pytest.raises(ValueError, match="--scale-time"):
        traces.scale_time(requests, x)


# --- time --------------------------------------------------------------------------------------------


def test_scaling_time_by_two_halves_the_rate() -> None:
    requests = columns(poisson(50, rate_rps=5.0))
    assert traces.scale_time(requests, 2.0).arrival_s[-1] == requests.arrival_s[-1] * 2


def test_a_join_between_plays_is_a_gap_like_any_other() -> None:
    """Three arrivals, a gap of 10 s between them: the second play begins 10 s after the first one's last."""
    requests = Requests(np.array([0.0, 10.0, 20.0]), np.array([1, 2, 3]), np.array([4, 5, 6]))
    twice = traces.repeat(requests, 2)
    assert twice.arrival_s.tolist() == [0, 10, 20, 30, 40, 50]
    assert twice.prompt_tokens.tolist() == [1, 2, 3, 1, 2, 3]
    assert traces.repeat(requests, 2, period_s=100).arrival_s.tolist() == [0, 10, 20, 100, 110, 120]


def test_the_conversation_hour_is_the_shared_half_played_twice(shared_data: Path) -> None:
    """Its README: the half spans 1,751 s and the whole trace 3,502 s; the join is a gap like any other."""
    half = traces.read(shared_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.first_half.csv").requests
    hour = traces.repeat(half, 2)
    assert len(hour) == 2 * 9739
    assert hour.arrival_s[9739] == pytest.approx(1751, abs=0.5)
    assert hour.arrival_s[9739] - hour.arrival_s[9738] == pytest.approx(np.diff(half.arrival_s).mean())
    assert hour.arrival_s[-1] == pytest.approx(3502, abs=1)


@pytest.mark.parametrize(("times", "period_s"), [(0, None), (2, 19.9)])
def test_plays_do_not_overlap(times: int, period_s: float | None) -> None:
    requests = Requests(np.array([0.0, 10.0, 20.0]), np.array([1, 2, 3]), np.array([4, 5, 6]))
    with pytest.raises(ValueError, match=r"once at least|before the last arrival"):
        traces.repeat(requests, times, period_s=period_s)


def test_until_leaves_out_who_comes_at_the_end() -> None:
    requests = Requests(np.array([0.0, 10.0, 20.0]), np.array([1, 2, 3]), np.array([4, 5, 6]))
    assert traces.until(requests, 10.0).arrival_s.tolist() == [0.0]
    assert len(traces.until(requests, 1e9)) == 3


def test_what_passes_the_context_is_found_and_taken_out() -> None:
    """10 + 6 = 16 fits a context of 16, 11 + 6 does not."""
    requests = Requests(np.array([0.0, 1.0, 2.0]), np.array([10, 11, 1]), np.array([6, 6, 1]))
    rows = traces.beyond(requests, 16)
    assert rows.tolist() == [1]
    assert traces.without(requests, rows).prompt_tokens.tolist() == [10, 1]


def test_objects_are_numbered_rows() -> None:
    requests = poisson(20, rate_rps=1.0)
    assert traces.objects(columns(requests)) == requests


# --- one mean rate -----------------------------------------------------------------------------------


def test_a_steady_load_has_the_rate_that_its_tokens_make_and_whole_requests_of_the_trace() -> None:
    """Requests of 600 tokens on average at 6,000 tokens/s are 10 a second: 36,000 in an hour, sigma 190."""
    donors = Requests(np.array([0.0, 1.0]), np.array([100, 900]), np.array([50, 150]))
    made = traces.steady(donors, tokens_per_s=6000.0, span_s=3600.0, seed=1)
    assert len(made) == pytest.approx(36_000, abs=4 * 190)
    assert lengths(made) == {(100, 50), (900, 150)}, "prompt and output stay together"
    gaps_s = np.diff(made.arrival_s)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(1.0, abs=0.03), "exponential"
    assert 0 <= made.arrival_s[0] <= made.arrival_s[-1] <= 3600


def test_the_seed_decides_a_steady_load() -> None:
    donors = columns(poisson(50, rate_rps=1.0))
    first, again, other = (traces.steady(donors, tokens_per_s=5000.0, span_s=100.0, seed=seed) for seed in (1, 1, 2))
    assert equal(first, again)
    assert not equal(first, other)


# --- bursts ------------------------------------------------------------------------------------------


def shocked(factor: float, requests: Requests) -> Requests:
    return traces.burst(requests, factor, start_s=300.0, ramp_s=10.0, lasting_s=120.0, seed=1)


@pytest.mark.parametrize("factor", [2.0, 2.5, 5.0])
def test_a_burst_multiplies_what_arrives_within_it_and_nothing_else(factor: float) -> None:
    """50 requests a second for 800 s; the top lasts from 310 to 420 s. Within five sigma of a Poisson count."""
    requests = columns(poisson(40_000, rate_rps=50.0))
    made = shocked(factor, requests)

    def count(trace: Requests, from_s: float, to_s: float) -> int:
        return int(np.diff(np.searchsorted(trace.arrival_s, (from_s, to_s)))[0])

    for quiet in ((0.0, 290.0), (440.0, 780.0)):
        assert count(made, *quiet) == count(requests, *quiet)
    top = count(requests, 320, 410)
    assert count(made, 320, 410) == pytest.approx(factor * top, abs=5 * (factor * top) ** 0.5)
    rise = count(requests, 300, 310)  # half of the way on average, and 5 s of moving to both sides
    assert rise < count(made, 300, 310) < factor * rise


def test_the_traces_own_requests_stay_and_those_that_are_added_have_lengths_of_the_trace() -> None:
    requests = columns(poisson(5000, rate_rps=10.0))
    made = shocked(3.0, requests)
    own = set(map(tuple, np.column_stack([requests.arrival_s, requests.prompt_tokens]).tolist()))
    assert own <= set(map(tuple, np.column_stack([made.arrival_s, made.prompt_tokens]).tolist()))
    assert lengths(made) <= lengths(requests)
    assert (np.diff(made.arrival_s) >= 0).all()


def test_a_burst_where_nobody_arrives_adds_nobody() -> None:
    quiet = Requests(np.array([0.0, 1000.0]), np.array([5, 6]), np.array([7, 8]))
    assert equal(shocked(100.0, quiet), quiet)


@given(st.floats(1.0, 100.0), st.floats(0.0, 100.0), st.integers(0, 2**32))
def test_any_burst_is_a_trace_in_order_within_the_span(factor: float, start_s: float, seed: int) -> None:
    requests = columns(poisson(40, rate_rps=1.0))
    made = traces.burst(requests, factor, start_s=start_s, ramp_s=5.0, lasting_s=5.0, seed=seed)
    assert len(made) >= len(requests)
    assert (np.diff(made.arrival_s) >= 0).all()
    assert made.arrival_s[0] >= 0
    assert made.arrival_s[-1] <= requests.arrival_s[-1]
