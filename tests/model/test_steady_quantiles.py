"""The closed form's quantiles: they rise with the load and with the quantile, and end where the theory says."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import latency, steady, waiting
from capstan.model.workload import Workload
from support.builders import profile

P = profile()
LENGTHS = (st.integers(20, 6000), st.integers(2, 900))
RATE_RPS = st.floats(0.01, 5.0)


@given(RATE_RPS, *LENGTHS, st.floats(1.001, 2.0))
def test_more_load_is_never_faster(rps: float, prompt: int, output: int, factor: float) -> None:
    load = Workload(rps, prompt, output)
    light, heavy = steady.operating_point(P, load), steady.operating_point(P, load.scaled(factor))
    if heavy is None:
        return
    assert light is not None
    assert heavy.ttft_s >= light.ttft_s
    assert heavy.tpot_s >= light.tpot_s * (1 - 1e-3)  # fuller chunks leave less room for prompts: a hair


@given(RATE_RPS, *LENGTHS, st.floats(0.05, 0.9))
def test_a_higher_quantile_is_never_faster(rps: float, prompt: int, output: int, ratio: float) -> None:
    load = Workload(rps, prompt, output)
    low = steady.operating_point(P, load, percentile_ratio=ratio)
    high = steady.operating_point(P, load, percentile_ratio=ratio + 0.09)
    if low is not None and high is not None:
        assert high.ttft_s >= low.ttft_s
        assert high.tpot_s >= low.tpot_s * (1 - 1e-9)


def test_at_no_load_ttft_is_the_host_two_halves_of_a_step_and_a_long_prompt() -> None:
    """1,155 tokens in 1,155 / 512 steps of one sequence; p99 of what varies, without any wait."""
    point = steady.operating_point(P, Workload(1e-9, 1155, 211))
    assert point is not None
    step_s = latency.decode_step_s(P, 1, 1155 + 211 / 2, 1.0)
    chunks = 1155 / P.chunk_tokens
    added_s = latency.linear_s(P, P.chunk_tokens, 1.0)  # no sequence decodes: nothing is streamed already but the step
    prompt_s = chunks * (P.timing.prefill_base_s + added_s)
    low_s, high_s = chunks * step_s, 4 * (chunks * step_s + prompt_s) + 0.1
    assert P.timing.queue_host_s + low_s < point.ttft_s < high_s


def test_tpot_ends_at_a_step_with_a_chunk() -> None:
    """However many prompts come, a step holds one chunk: a quantile far out is no longer than that."""
    load = Workload(2.5, 2028, 20)
    point = steady.operating_point(P, load, percentile_ratio=0.9999)
    assert point is not None
    z = NormalDist().inv_cdf(0.9999)
    batch = point.batch + z * math.sqrt(point.batch)
    longest_s = latency.mixed_step_s(P, batch, batch * 2048, P.chunk_tokens, 3.67 * 2028, 1.0)
    assert point.tpot_s <= longest_s


@pytest.mark.parametrize("cv2", [0.1, 0.5, 1.0])
def test_the_gamma_quantile_is_that_of_the_distribution(cv2: float) -> None:
    """Against the exponential and scipy-free values: Gamma(10), Gamma(2), Gamma(1) at p50 and p99 over their means."""
    exact = {0.1: (0.96687, 1.87831), 0.5: (0.83917, 3.31918), 1.0: (0.69315, 4.60517)}[cv2]
    found = [waiting.gamma_quantile(1.0, cv2, NormalDist().inv_cdf(q)) for q in (0.5, 0.99)]
    assert found == pytest.approx(exact, rel=0.02)


def test_the_published_tail_is_the_tail_of_the_gamma() -> None:
    z = NormalDist().inv_cdf(0.99)
    assert waiting.gamma_quantile(1.0, steady.PROMPT_TAIL_CV2, z) == pytest.approx(steady.PROMPT_TAIL_RATIO)
