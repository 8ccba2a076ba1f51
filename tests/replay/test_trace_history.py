"""Counts and histograms of a history become requests that have them; what was not sampled is told, not made up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from capstan.replay import traces
from capstan.replay.traces import history
from capstan.replay.traces.history import Histogram, History

NAN = math.nan
EDGES = np.array([100.0, 1000.0, math.inf])


def made(counted: list[float], prompt: list[list[float]] | None = None, *, step_s: float = 60.0) -> History:
    table = Histogram(EDGES, np.array(prompt if prompt is not None else [[1.0, 0, 0]] * len(counted)))
    return History("a server", step_s, np.array(counted, float), table, table)


def test_every_step_has_its_requests() -> None:
    trace = history.requests(made([5, 0, 3]), seed=1)
    counts, _ = np.histogram(trace.requests.arrival_s, [0, 60, 120, 180])
    assert counts.tolist() == [5, 0, 3]
    assert (np.diff(trace.requests.arrival_s) >= 0).all()
    assert trace.dropped == ()


def test_fractions_of_requests_keep_the_mean() -> None:
    """4,000 steps of 0.3 requests: 1,200, give or take a binomial's four sigma of 116."""
    trace = history.requests(made([0.3] * 4000), seed=2)
    assert len(trace.requests) == pytest.approx(1200, abs=116)


def test_moments_within_a_step_are_uniform() -> None:
    arrival_s = history.requests(made([20_000], step_s=300), seed=3).requests.arrival_s
    assert arrival_s.mean() == pytest.approx(150, abs=3)
    assert arrival_s.std() == pytest.approx(300 / 12**0.5, rel=0.02)


def test_lengths_lie_in_the_buckets_of_their_step() -> None:
    """Step 0: a quarter in (100, 1000]; step 1: all beyond the last edge, of which only the edge is known."""
    trace = history.requests(made([8000, 100], [[3, 1, 0], [0, 0, 7]]), seed=4)
    first = trace.requests.prompt_tokens[:8000]
    assert ((first > 100) & (first <= 1000)).mean() == pytest.approx(0.25, abs=0.02)
    assert first.min() == 1
    assert first[first <= 100].max() == 100, "an upper edge belongs to its bucket"
    assert first[first > 100].min() <= 110
    assert set(trace.requests.prompt_tokens[8000:].tolist()) == {1000}


def test_a_step_without_a_histogram_takes_the_whole_ones() -> None:
    trace = history.requests(made([10, 10], [[0, 0, 0], [0, 4, 0]]), seed=5)
    assert trace.requests.prompt_tokens.min() > 100


def test_steps_without_a_sample_are_counted_not_filled() -> None:
    trace = history.requests(made([5, NAN, 3]), seed=1)
    assert len(trace.requests) == 8
    assert trace.dropped == (traces.Dropped(1, "steps of 60 s without a sample"),)


def test_the_seed_decides() -> None:
    again = [traces.objects(history.requests(made([50.5]), seed=seed).requests) for seed in (1, 1, 2)]
    assert again[0] == again[1]
    assert again[0] != again[2]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (made([0, 0]), "not one in this span"),
        (made([NAN]), "not one in this span"),
        (made([1, -2]), "step 1: -2.0 requests"),
        (made([math.inf]), "step 0: inf requests"),
        (made([5], [[0, 0, 0]]), "histograms are empty"),
    ],
    ids=["nobody", "no samples", "negative", "infinite", "no lengths"],
)
def test_a_history_without_requests_says_so(asked: History, says: str) -> None:
    with pytest.raises(traces.TraceError, match=says):
        history.requests(asked, seed=1)


def test_cumulative_buckets_become_counts() -> None:
    """3 up to 100, 4 up to 1,000 and 4 in all; a step whose extrapolated counts fall; a step without samples."""
    found = history.histogram(
        "x",
        {
            math.inf: np.array([4.0, 2.9, NAN]),
            100.0: np.array([3.0, 1.0, NAN]),
            1000.0: np.array([4.0, 3.0, NAN]),
        },
    )
    assert found.upper_tokens.tolist() == EDGES.tolist()
    assert found.counts.tolist() == [[3, 1, 0], [1, 2, 0], [0, 0, 0]]


def test_buckets_need_an_edge() -> None:
    with pytest.raises(traces.TraceError, match="no finite bucket"):
        history.histogram("x", {math.inf: np.array([1.0])})
