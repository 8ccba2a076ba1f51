"""Counts and histograms of a history become requests that have them; what was not sampled is told, not made up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from capstan.replay import traces
from capstan.replay.runs import Ints
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


# --- where in a bucket -------------------------------------------------------------------------------

VLLM_EDGES = [float(digit * 10**power) for power in range(6) for digit in (1, 2, 5)]
"""vLLM's buckets of lengths: 1, 2, 5, 10 ... (facts: ecosystem.md)."""


@pytest.mark.parametrize("mean", [150.0, 400.0, 700.0])
def test_lengths_have_the_mean_that_was_summed(mean: float) -> None:
    """A tenth up to 100 and nine tenths in (100, 1000]: means of 90 to 910 are possible."""
    table = Histogram(EDGES, np.array([[1.0, 9.0, 0.0]]), mean)
    found = history.requests(History("x", 60.0, np.array([50_000.0]), table, table), seed=1).requests
    assert found.prompt_tokens.mean() == pytest.approx(mean, rel=0.02)
    assert (found.prompt_tokens <= 100).mean() == pytest.approx(0.1, abs=0.01), "and the buckets that were counted"


@pytest.mark.parametrize("mean", [50.0, 2000.0])
def test_a_mean_that_no_bucket_can_have_is_not_forced(mean: float) -> None:
    table = Histogram(EDGES, np.array([[0.0, 1.0, 0.0]]), mean)
    found = history.requests(History("x", 60.0, np.array([20_000.0]), table, table), seed=1).requests
    assert found.prompt_tokens.mean() == pytest.approx(550, rel=0.02)


@pytest.mark.parametrize("name", ["conv", "code"])
def test_a_trace_through_vllms_histograms_keeps_its_means_and_rates(name: str, shared_data: Path) -> None:
    path = shared_data / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.first_half.csv"
    trace = traces.read(path).requests
    step = (trace.arrival_s // 60).astype(int)
    edges = [*VLLM_EDGES, math.inf]

    def counted(lengths: Ints) -> Histogram:
        cumulative = {edge: np.bincount(step, lengths <= edge).astype(float) for edge in edges}
        return history.histogram("x", cumulative, np.bincount(step, lengths).astype(float))

    counts = np.bincount(step).astype(float)
    asked = History("x", 60.0, counts, counted(trace.prompt_tokens), counted(trace.output_tokens))
    found = history.requests(asked, seed=1).requests
    assert np.bincount((found.arrival_s // 60).astype(int)).tolist() == counts.tolist()
    assert found.prompt_tokens.mean() == pytest.approx(trace.prompt_tokens.mean(), rel=0.02)
    assert found.output_tokens.mean() == pytest.approx(trace.output_tokens.mean(), rel=0.06)
    for edge in edges[:-1]:  # the share of every bucket comes back
        assert (found.prompt_tokens <= edge).mean() == pytest.approx((trace.prompt_tokens <= edge).mean(), abs=0.015)
