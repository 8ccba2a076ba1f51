"""Shares and means of request classes from two histograms: by hand, and what must hold of any."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from capstan.model import mix
from capstan.model.classes import Edges
from capstan.model.reading import Histogram, Lengths

INF = math.inf
EDGES = Edges()
VLLM = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, INF)


def histogram(**counts: float) -> Histogram:
    """Return vLLM's buckets with `to_200=50` observations above the edge before 200 and at most 200."""
    found, total = [], 0.0
    for edge in VLLM:
        total += counts.pop(f"to_{edge:g}", 0.0)
        found.append(total)
    assert not counts, counts
    return Histogram(VLLM, tuple(found))


# 50 prompts of 101-200 tokens (mean 150.5), 50 of 201-500 (mean 350.5); answers all of 51-100 tokens.
PROMPTS = Lengths(histogram(to_200=50, to_500=50), sum_tokens=25_050.0)
OUTPUTS = Lengths(histogram(to_100=100), sum_tokens=7_550.0)


def test_an_edge_inside_a_bucket_divides_it_evenly() -> None:
    """Of 201 to 500, the 55 lengths 201 to 255 are below 256: 50 + 50 x 55/300 = 59.17 of 100 are short."""
    short, medium, long = mix.buckets(PROMPTS, EDGES.prompt_tokens)
    assert short.share_ratio == pytest.approx(0.591667, abs=1e-6)
    assert medium.share_ratio == pytest.approx(0.408333, abs=1e-6)
    assert long.share_ratio == 0


def test_means_are_those_of_even_lengths_where_they_agree_with_the_counted_mean() -> None:
    """Short: (50 x 150.5 + 9.1667 x 228) / 59.1667 = 162.51; medium: 256 to 500 has 378."""
    short, medium, _ = mix.buckets(PROMPTS, EDGES.prompt_tokens)
    assert short.mean_tokens == pytest.approx(162.507, abs=1e-3)
    assert medium.mean_tokens == pytest.approx(378)


def test_the_counted_mean_moves_the_means_and_never_out_of_their_bucket() -> None:
    """Counted: 300 tokens, not 250.5. Both scale by 300/250.5, until a short one cannot pass 255."""
    counted = Lengths(PROMPTS.histogram, 30_000.0)
    short, medium, _ = mix.buckets(counted, EDGES.prompt_tokens)
    assert short.mean_tokens == pytest.approx(162.507 * 300 / 250.5, abs=0.01)
    assert medium.mean_tokens == pytest.approx(378 * 300 / 250.5, abs=0.01)
    most = Lengths(PROMPTS.histogram, 48_000.0)
    short, medium, _ = mix.buckets(most, EDGES.prompt_tokens)
    assert short.mean_tokens == 255
    assert 0.591667 * 255 + 0.408333 * medium.mean_tokens == pytest.approx(480, rel=1e-4)


def test_classes_are_the_product_of_the_two_shares() -> None:
    """Answers of 51 to 100: 100 is the first of the medium bucket, so 49 of 50 are short."""
    found = {EDGES.name(demand.code): demand for demand in mix.demands(10.0, PROMPTS, OUTPUTS, EDGES)}
    assert set(found) == {"SS", "SM", "MS", "MM"}
    assert found["SS"].arrival_rps == pytest.approx(10 * 0.591667 * 0.98, abs=1e-4)
    assert found["MM"].arrival_rps == pytest.approx(10 * 0.408333 * 0.02, abs=1e-4)
    assert found["MM"].output_tokens == pytest.approx(100, rel=1e-3)


def test_a_class_that_nobody_asked_for_is_not_there() -> None:
    """No prompt reaches 1024 tokens, no answer 350: five of nine classes say nothing, rather than zero."""
    codes = {demand.code for demand in mix.demands(10.0, PROMPTS, OUTPUTS, EDGES)}
    assert codes == {0, 1, 3, 4}


@pytest.mark.parametrize("edges", [Edges((), ()), Edges((512,), ()), Edges((), (100,))], ids=["1", "2x1", "1x2"])
def test_fewer_buckets_are_fewer_classes(edges: Edges) -> None:
    found = mix.demands(10.0, PROMPTS, OUTPUTS, edges)
    assert len(found) <= edges.count
    assert sum(demand.arrival_rps for demand in found) == pytest.approx(10)


def test_where_nothing_was_counted_there_are_no_classes() -> None:
    empty = Lengths(histogram(), sum_tokens=0.0)
    assert mix.demands(10.0, empty, OUTPUTS, EDGES) == ()
    assert mix.demands(10.0, PROMPTS, empty, EDGES) == ()
    assert mix.cv2_ratio(empty) is None


def test_no_rate_is_no_class() -> None:
    assert mix.demands(0.0, PROMPTS, OUTPUTS, EDGES) == ()


def test_what_lies_beyond_the_last_finite_edge_is_counted_at_that_edge_and_corrected_by_the_mean() -> None:
    """An engine whose longest bucket is too short: ten prompts above 10,000 tokens, 20,000 on average."""
    lengths = Lengths(Histogram(VLLM, (*(0.0,) * (len(VLLM) - 1), 10.0)), sum_tokens=200_000.0)
    assert [bucket.share_ratio for bucket in mix.buckets(lengths, EDGES.prompt_tokens)] == [0, 0, 1]
    assert mix.buckets(lengths, EDGES.prompt_tokens)[2].mean_tokens == pytest.approx(20_000)


def test_the_spread_of_even_lengths() -> None:
    """Whole numbers from 101 to 200: mean 150.5, variance (100^2 - 1)/12 = 833.25, so cv2 = 0.036787."""
    lengths = Lengths(histogram(to_200=100), sum_tokens=15_050.0)
    assert mix.cv2_ratio(lengths) == pytest.approx(833.25 / 150.5**2)
    assert mix.buckets(lengths, ())[0].cv2_ratio == pytest.approx(833.25 / 150.5**2)


counts = st.lists(st.integers(0, 1000), min_size=len(VLLM), max_size=len(VLLM)).filter(any)
edge_lists = st.lists(st.integers(2, 12_000), max_size=3, unique=True).map(sorted).map(tuple)


@st.composite
def lengths(draw: st.DrawFn) -> Lengths:
    found, total = [], 0.0
    for count in draw(counts):
        total += count
        found.append(total)
    return Lengths(Histogram(VLLM, tuple(found)), total * draw(st.floats(1.0, 50_000.0)))


@given(rate_rps=st.floats(0.001, 1e4), prompts=lengths(), outputs=lengths(), at=edge_lists, ends=edge_lists)
def test_rates_add_up_and_every_mean_lies_in_its_class(
    rate_rps: float, prompts: Lengths, outputs: Lengths, at: tuple[int, ...], ends: tuple[int, ...]
) -> None:
    edges = Edges(at, ends)
    found = mix.demands(rate_rps, prompts, outputs, edges)
    assert sum(demand.arrival_rps for demand in found) == pytest.approx(rate_rps)
    assert [demand.code for demand in found] == sorted({demand.code for demand in found})
    for demand in found:
        assert edges.code(demand.prompt_tokens, demand.output_tokens) == demand.code
        assert demand.prompt_cv2_ratio >= 0


@given(given=lengths(), at=edge_lists)
def test_the_mean_of_all_requests_is_the_counted_one_where_their_buckets_allow_it(
    given: Lengths, at: tuple[int, ...]
) -> None:
    counts = given.histogram.counts
    each = [after - before for before, after in itertools.pairwise((0.0, *counts))]
    starts = (0.0, *given.histogram.edges)
    assume(sum(n * start for n, start in zip(each, starts, strict=False)) <= given.sum_tokens)  # no engine counts else
    found = mix.buckets(given, at)
    bounds = (1, *at, INF)
    low = sum(b.share_ratio * bounds[i] for i, b in enumerate(found))
    high = sum(b.share_ratio * (bounds[i + 1] - 1) for i, b in enumerate(found) if b.share_ratio)
    mean = sum(b.share_ratio * b.mean_tokens for b in found)
    assert given.mean_tokens is not None
    assert mean == pytest.approx(min(max(given.mean_tokens, low), high), rel=0.05)


@given(given=lengths(), edge=st.integers(2, 12_000))
def test_a_further_edge_divides_a_bucket_and_moves_no_other(given: Lengths, edge: int) -> None:
    whole, halves = mix.buckets(given, ()), mix.buckets(given, (edge,))
    assert sum(bucket.share_ratio for bucket in halves) == pytest.approx(whole[0].share_ratio)
