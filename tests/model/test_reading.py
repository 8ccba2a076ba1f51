"""Sums from pods to a policy, and quantiles from summed buckets."""

from __future__ import annotations

import bisect
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.reading import Histogram, Lengths, PodReading, merged, pooled, quantile_s, stress_ratio
from capstan.model.slo import Slo

INF = math.inf


def pod(name: str, **fields: Any) -> PodReading:
    return PodReading("llm", name, **fields)


@pytest.mark.parametrize(
    ("counts", "ratio", "expected"),
    [
        ((0, 100, 100), 0.5, 0.75),  # all in (0.5, 1]: half way
        ((50, 100, 100), 0.5, 0.5),  # exactly on an edge
        ((100, 100, 100), 0.99, 0.495),  # the first bucket begins at 0
        ((0, 98, 100), 0.99, 1.0),  # above the last finite edge: at least that edge
        ((0, 0, 0), 0.99, None),
        ((0, 0, 5), 0.99, 1.0),  # all above
    ],
    ids=["inside a bucket", "on an edge", "first bucket", "above the last edge", "nothing", "everything above"],
)
def test_a_quantile_is_linear_inside_its_bucket(
    counts: tuple[float, ...], ratio: float, expected: float | None
) -> None:
    found = quantile_s(Histogram((0.5, 1.0, INF), counts), ratio)
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_histogram_without_a_finite_edge_says_nothing() -> None:
    assert quantile_s(Histogram((INF,), (5.0,)), 0.5) is None


@pytest.mark.parametrize(
    ("edges", "counts", "says"),
    [
        ((), (), "at least one"),
        ((1.0, INF), (1.0,), "one count per edge"),
        ((1.0, 2.0), (1.0, 2.0), "end in inf"),
        ((2.0, 1.0, INF), (1.0, 1.0, 1.0), "rise"),
        ((1.0, INF), (-1.0, 1.0), "negative"),
        ((1.0, INF), (1.0, math.nan), "not finite"),
    ],
)
def test_what_is_no_histogram_is_refused(edges: tuple[float, ...], counts: tuple[float, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Histogram(edges, counts)


def test_pods_are_summed_and_means_are_weighted_by_requests() -> None:
    busy = pod("a", sample_requests=90, finished_prompt_tokens=90_000, finished_output_tokens=9_000, arrival_rps=3)
    idle = pod("b", sample_requests=10, finished_prompt_tokens=1_000, finished_output_tokens=5_000, arrival_rps=1)
    together = pooled([busy, idle], percentile_ratio=0.99)
    assert together.arrival_rps == 4
    assert together.prompt_tokens == 910  # (90,000 + 1,000) / 100
    assert together.output_tokens == 140


def test_the_slow_pod_decides_the_quantile_not_the_mean_of_quantiles() -> None:
    """90 fast and 10 slow: p99 lies among the slow ones."""
    fast = pod("a", ttft=Histogram((0.5, 1.0, 2.0, INF), (90, 90, 90, 90)))
    slow = pod("b", ttft=Histogram((0.5, 1.0, 2.0, INF), (0, 0, 10, 10)))
    together = pooled([fast, slow], percentile_ratio=0.99)
    assert together.ttft_s == pytest.approx(1.9)  # rank 99 is 9/10 of the way from 1 to 2


# --- stress --------------------------------------------------------------------------------------

SLO = Slo(ttft_s=2.0, tpot_s=0.1, percentile_ratio=0.99)
TENTH = Slo(ttft_s=2.0, tpot_s=0.1, percentile_ratio=0.9)


def lately(first_s: float, each_s: float, count: float = 400.0) -> PodReading:
    """All TTFTs in the bucket that ends at `first_s`, all TPOTs in the one that ends at `each_s`."""
    ttft, tpot = (Histogram((0.9 * edge, edge, INF), (0.0, count, count)) for edge in (first_s, each_s))
    return pod("a", ttft_lately=ttft, tpot_lately=tpot)


@pytest.mark.parametrize(
    ("reading", "slo", "expected"),
    [
        # The 99th of 100 parts of a bucket from 0.9 to 1 of its edge: 0.999 of the edge.
        pytest.param(lately(1.0, 0.08), SLO, 0.999 * 0.8, id="below: 0.08 of 0.1 s is nearer its limit than 1 of 2 s"),
        pytest.param(lately(1.8, 0.05), SLO, 0.999 * 0.9, id="below: TTFT is the nearer"),
        pytest.param(lately(3.0, 0.05), SLO, 0.999 * 1.5, id="above: TTFT"),
        pytest.param(lately(1.0, 0.2), SLO, 0.999 * 2.0, id="above: TPOT"),
        pytest.param(
            lately(1.8, 0.05), Slo(2.0, 0.1, 0.99, ((256, 0.25),)), 0.999 * 0.9, id="a tier is not told apart"
        ),
        pytest.param(lately(3.0, 0.2, count=200.0), SLO, 0.999 * 2.0, id="just enough requests"),
        pytest.param(lately(3.0, 0.2, count=199.0), SLO, None, id="too few requests"),
        pytest.param(pod("a", ttft_lately=lately(3.0, 0.2).ttft_lately), SLO, None, id="no TPOT"),
        pytest.param(pod("a"), SLO, None, id="no histogram"),
    ],
)
def test_stress_is_the_larger_latency_over_its_limit(reading: PodReading, slo: Slo, expected: float | None) -> None:
    found = stress_ratio([reading], slo, least_requests=200.0)
    assert found == (None if expected is None else pytest.approx(expected))


def test_the_requests_of_all_pods_are_enough_and_two_late_in_a_hundred_decide() -> None:
    """150 + 150 requests; 6 of the 300 have a TTFT of 2.7 to 3 s: rank 297 is half way through them, 2.85 s of 2."""
    slow = Histogram((0.9, 1.0, 2.7, 3.0, INF), (0.0, 144.0, 144.0, 150.0, 150.0))
    fast = Histogram((0.9, 1.0, 2.7, 3.0, INF), (0.0, 150.0, 150.0, 150.0, 150.0))
    tpot = Histogram((0.05, INF), (150.0, 150.0))
    pods = [pod(name, ttft_lately=ttft, tpot_lately=tpot) for name, ttft in (("a", slow), ("b", fast))]
    assert stress_ratio(pods, SLO, least_requests=200.0) == pytest.approx(2.85 / 2.0)
    assert stress_ratio(pods[:1], SLO, least_requests=200.0) is None


def exact(values: tuple[float, ...]) -> Histogram:
    ordered = sorted(values)
    edges = (*sorted(set(values)), INF)
    return Histogram(edges, tuple(float(bisect.bisect_right(ordered, edge)) for edge in edges))


@given(st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(0.001, 0.3)), min_size=1, max_size=40))
def test_stress_is_at_most_the_percentile_of_the_larger_latencies(requests: list[tuple[float, float]]) -> None:
    """With an edge at every latency nothing is lost but which TTFT belongs to which TPOT."""
    ttft, tpot = (exact(column) for column in zip(*requests, strict=True))
    found = stress_ratio([pod("a", ttft_lately=ttft, tpot_lately=tpot)], TENTH, least_requests=1)
    joint = sorted(max(ttft_s / TENTH.ttft_s, tpot_s / TENTH.tpot_s) for ttft_s, tpot_s in requests)
    assert found is not None
    assert found <= joint[math.ceil(0.9 * len(joint) - 1e-9) - 1] * (1 + 1e-9)


def test_what_no_pod_has_is_none_and_what_one_has_is_kept() -> None:
    together = pooled([pod("a", running=2.0, age_s=3.0), pod("b", age_s=40.0)], percentile_ratio=0.99)
    assert (together.running, together.waiting, together.ttft_s, together.power_w) == (2.0, None, None, None)
    assert together.age_s == 40.0, "the oldest pod's"
    assert pooled([], percentile_ratio=0.99).age_s is None


def test_no_finished_request_is_no_mean_and_not_zero() -> None:
    together = pooled([pod("a", sample_requests=0.0, finished_prompt_tokens=0.0)], percentile_ratio=0.99)
    assert (together.prompt_tokens, together.sample_requests) == (None, None)


def test_different_buckets_are_added_over_the_union_of_their_edges() -> None:
    """A rolling change of --custom-histogram-buckets: 10 in (0, 1] count as 5 within 0.5."""
    coarse, fine = Histogram((1.0, INF), (10, 10)), Histogram((0.5, 1.0, INF), (4, 8, 8))
    assert merged([coarse, None, fine]) == Histogram((0.5, 1.0, INF), (9, 18, 18))
    assert merged([None]) is None


COUNTS = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=4, max_size=4).map(
    lambda rises: tuple(sum(rises[: i + 1]) for i in range(4))
)


@given(COUNTS, st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_higher_quantile_is_never_lower_and_stays_inside_the_edges(
    counts: tuple[float, ...], one: float, other: float
) -> None:
    histogram = Histogram((0.1, 0.5, 2.0, INF), counts)
    low, high = quantile_s(histogram, min(one, other)), quantile_s(histogram, max(one, other))
    if low is None or high is None:
        assert low is high is None
    else:
        assert 0 <= low <= high * (1 + 1e-9) <= 2.0 * (1 + 1e-9)


@given(COUNTS, COUNTS, st.floats(0.01, 1.0))
def test_a_sum_of_two_lies_between_them(one: tuple[float, ...], other: tuple[float, ...], ratio: float) -> None:
    edges = (0.1, 0.5, 2.0, INF)
    parts = [quantile_s(Histogram(edges, counts), ratio) for counts in (one, other)]
    both = merged([Histogram(edges, one), Histogram(edges, other)])
    assert both is not None
    known = [part for part in parts if part is not None]
    found = quantile_s(both, ratio)
    if known and found is not None:
        assert min(known) * (1 - 1e-6) - 1e-9 <= found <= max(known) * (1 + 1e-6) + 1e-9


@given(COUNTS, st.floats(0, 3))
def test_within_never_exceeds_the_total(counts: tuple[float, ...], limit_s: float) -> None:
    histogram = Histogram((0.1, 0.5, 2.0, INF), counts)
    assert 0 <= histogram.within(limit_s) <= histogram.total * (1 + 1e-9)


@given(
    st.lists(st.lists(st.floats(0, 1000), min_size=4, max_size=4), min_size=1, max_size=4),
    st.floats(0.0, 12.0),
)
def test_engines_with_the_same_buckets_are_summed_as_any_others_are(counts: list[list[float]], limit: float) -> None:
    """The short way (counts added) and the long one (over a union of edges, which one more edge forces) agree."""
    same = [Histogram((1.0, 5.0, 10.0, INF), tuple(sorted(own))) for own in counts]
    other = Histogram((2.0, INF), (0.0, 0.0))
    short, long = merged(same), merged([*same, other])
    assert short is not None
    assert long is not None
    assert short.within(limit) == pytest.approx(long.within(limit))
    assert short.total == pytest.approx(long.total)


def test_lengths_of_pods_are_one_and_their_mean_is_by_requests() -> None:
    """90 requests of 100 tokens on one pod, 10 of 1,000 on another: 190 on average."""
    edges = (200.0, INF)
    one = Lengths(Histogram(edges, (90.0, 90.0)), 9_000.0)
    other = Lengths(Histogram(edges, (0.0, 10.0)), 10_000.0)
    found = pooled([pod("a", prompts=one), pod("b", prompts=other), pod("c")], percentile_ratio=0.99)
    assert found.prompts == Lengths(Histogram(edges, (90.0, 100.0)), 19_000.0)
    assert found.prompts.mean_tokens == 190
    assert found.outputs is None
