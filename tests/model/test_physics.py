"""Step times and power: the properties that no set of parameters may break."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import latency, power, steady, workload
from capstan.model.profile import ClockResponse, with_clock_response
from capstan.model.workload import Workload
from support.builders import profile

P = profile()
RATIOS = st.floats(0.2, 1.0)


@given(RATIOS, RATIOS, st.integers(1, 256), st.integers(0, 400_000), st.integers(0, 512), st.integers(0, 8000))
def test_a_higher_clock_never_lengthens_a_step(
    x: float, y: float, batch: int, context: int, chunk: int, prior: int
) -> None:
    low, high = sorted((x, y))
    steps = [latency.mixed_step_s(P, batch, context, chunk, prior, ratio) for ratio in (low, high)]
    assert steps[1] <= steps[0]


def test_a_decode_step_by_hand() -> None:
    """4 ms host + (12^4 + 2.88^4)^(1/4) = 12.00994 ms matrices + 31 x 0.09 ms + 32,768 tokens x 25 ns = 0.8192 ms."""
    assert latency.decode_step_s(P, 32, 32_768, 1.0) == pytest.approx(0.01961914, rel=1e-6)


def test_prefill_bends_at_2048_tokens() -> None:
    """4 + 2 ms, 184.32 ms of matrices (weights hardly count), 1 ns x 2,048^2 / 2; then 0.095 ms a token."""
    at_kink_s = latency.prefill_step_s(P, 2048, 1.0)
    assert at_kink_s == pytest.approx(0.006 + 0.18432 + 2048**2 / 2 * 1e-9, rel=1e-5)
    added_s = 0.095 + (3048**2 - 2048**2) / 2 * 1e-9
    assert latency.prefill_step_s(P, 3048, 1.0) == pytest.approx(at_kink_s + added_s, rel=1e-5)


def test_a_short_prompt_takes_the_shortest_step() -> None:
    assert latency.prefill_step_s(P, 1, 1.0) == P.timing.prefill_min_s


def test_chunks_of_a_prompt_attend_as_often_as_the_whole() -> None:
    """Attention of 1,024 tokens at once and of two chunks of 512 is the same; only the steps' constants come twice."""
    whole_s = latency.prefill_step_s(P, 1024, 1.0)
    chunks_s = latency.mixed_step_s(P, 0, 0, 512, 0, 1.0) + latency.mixed_step_s(P, 0, 0, 512, 512, 1.0)
    linear_s = 2 * latency.linear_s(P, 512, 1.0) - latency.linear_s(P, 1024, 1.0)
    assert chunks_s - whole_s == pytest.approx(0.006 + linear_s, rel=1e-9)


@given(st.integers(1, 256), st.integers(0, 200_000), st.integers(1, 200_000), RATIOS)
def test_a_decode_step_is_affine_in_its_context(batch: int, context: int, more: int, x: float) -> None:
    fixed_s, per_context_token_s = latency.decode_parts(P, batch, x)
    step_s = latency.decode_step_s(P, batch, context + more, x)
    assert step_s == pytest.approx(fixed_s + per_context_token_s * (context + more), rel=1e-12)


@given(st.floats(0, 1e3), st.floats(1e-6, 1e3), st.floats(1.0, 12.0))
def test_a_soft_maximum_lies_between_the_longer_and_the_sum(a: float, b: float, bend: float) -> None:
    found = latency.soft_max(a, b, bend)
    assert max(a, b) * (1 - 1e-12) <= found <= (a + b) * (1 + 1e-12)


def test_experts_are_read_as_tokens_meet_them() -> None:
    """8 experts, 2 per token: one token reads a quarter, two 1 - (3/4)^2 = 7/16; a large batch reads all."""
    experts = replace(
        P,
        timing=replace(P.timing, expert_weights_s=0.016),
        work=replace(P.work, expert_bytes=8e9, expert_share_ratio=0.25),
    )
    assert latency.weights_s(experts, 1) == pytest.approx(0.012 + 0.004)
    assert latency.weights_s(experts, 2) == pytest.approx(0.012 + 0.007)
    assert latency.weights_s(experts, 500) == pytest.approx(0.028)
    alone, dense = power.utilisation(experts, 1, 0, 0.02)[0], power.utilisation(P, 1, 0, 0.02)[0]
    assert alone - dense == pytest.approx(8e9 * 0.25 / (0.02 * P.work.peak_bytes_per_s))


def test_a_board_that_throttled_when_measured_is_not_slowed_twice() -> None:
    """Measured at 0.8 of the maximum clock: caps above change nothing, 0.4 takes (0.1 + 0.9/0.4) / (0.1 + 0.9/0.8)."""
    held = replace(P, timing=replace(P.timing, stock_clock_ratio=0.8))
    assert latency.prefill_slowdown(held, 0.9) == latency.prefill_slowdown(held, 1.0) == 1.0
    assert latency.prefill_slowdown(held, 0.4) == pytest.approx((0.1 + 0.9 / 0.4) / (0.1 + 0.9 / 0.8))


@given(st.floats(150, 700), st.floats(150, 700), st.integers(0, 256), st.integers(0, 512))
def test_a_lower_limit_never_shortens_a_step(one: float, other: float, batch: int, chunk: int) -> None:
    if batch + chunk == 0:
        return
    steps = []
    for limit_w in sorted((one, other)):
        x = power.limited_ratio(P, batch, batch * 500, chunk, 0, 0, 1.0, limit_w)
        steps.append(latency.mixed_step_s(P, batch, batch * 500, chunk, 0, x))
    assert steps[0] >= steps[1]


@given(st.floats(1, 4096), st.floats(0, 4e5), st.floats(1e-3, 1.0))
def test_shares_of_the_data_sheet_lie_between_nothing_and_all(tokens: float, context: float, step_s: float) -> None:
    shares = (*power.utilisation(P, tokens, context, step_s), power.context_share(P, context, step_s))
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize(("level", "v_min"), [("low", 0.60), ("nominal", 0.72), ("high", 0.85)])
def test_an_assumed_clock_response_has_a_band(level: str, v_min: float) -> None:
    moved = with_clock_response(P, ClockResponse(level))
    assert moved.clocks.v_min_ratio == v_min
    assert power.step_w(moved, 64, 50_000, 0.02, 1.0) == power.step_w(P, 64, 50_000, 0.02, 1.0)
    measured = replace(P, clocks=replace(P.clocks, assumed=False))
    assert with_clock_response(measured, ClockResponse(level)) == measured


@given(RATIOS, RATIOS)
def test_a_higher_clock_never_draws_less(x: float, y: float) -> None:
    low, high = sorted((x, y))
    assert power.step_w(P, 64, 50_000, 0.02, low) <= power.step_w(P, 64, 50_000, 0.02, high)
    assert power.worst_case_w(P, low) <= power.worst_case_w(P, high)


def test_utilisation_never_exceeds_the_data_sheet() -> None:
    assert power.utilisation(P, 1e9, 1e12, 1e-3) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("wanted_mhz", "snapped_mhz"),
    [(1980, 1980), (2500, 1980), (1409, 1395), (1410, 1410), (345, 345), (100, 345)],
    ids=["the maximum", "above it", "between two", "on the grid", "the minimum", "below it"],
)
def test_a_clock_snaps_down_to_the_grid(wanted_mhz: float, snapped_mhz: float) -> None:
    assert P.clocks.snapped_mhz(wanted_mhz) == snapped_mhz


@given(st.floats(0.05, 3.0), st.integers(50, 3000), st.integers(5, 800))
def test_the_batch_is_the_fixed_point(rps: float, prompt: int, output: int) -> None:
    """Little's law must hold at the batch that is found: B = rate x output x step / (1 - share of prompts)."""
    load = Workload(rps, prompt, output)
    point = steady.operating_point(P, load)
    if point is None:
        return
    full = max(point.batch, 1.0)
    step_s = latency.decode_step_s(P, full, full * (prompt + output / 2), 1.0)
    chunk = min(prompt, P.chunk_tokens)
    added_s = latency.linear_s(P, point.batch + chunk, 1.0) - latency.linear_s(P, point.batch, 1.0)
    prompt_s = (
        prompt / chunk * (P.timing.prefill_base_s + added_s)
        + P.timing.attention_per_token2_s * prompt**2 * (1 + workload.PROMPT_CV2) / 2
    )
    assert point.batch == pytest.approx(rps * output * step_s / (1 - rps * prompt_s), rel=1e-5)


@given(st.floats(0.1, 1.0), st.floats(1.01, 2.0))
def test_more_load_never_shortens_a_wait_or_saves_a_watt(rps: float, factor: float) -> None:
    load = Workload(rps, 1155, 211)
    light, heavy = steady.operating_point(P, load), steady.operating_point(P, load.scaled(factor))
    assert light is not None
    if heavy is not None:
        assert heavy.ttft_s >= light.ttft_s
        assert heavy.tpot_s >= light.tpot_s
        assert heavy.gpu_w >= light.gpu_w * 0.999


def test_an_overload_has_no_steady_state() -> None:
    assert steady.operating_point(P, Workload(50, 1155, 211)) is None


@given(st.floats(0.0, 12.0), st.integers(50, 3000), st.integers(5, 800), st.sampled_from([1.0, 0.6]))
def test_latencies_alone_are_those_of_the_operating_point(rps: float, prompt: int, output: int, x: float) -> None:
    """To the last bit, and there where it is, tiers included: plans must not depend on who asked for watts."""
    load, tiers = Workload(rps, prompt, output), (64.0, 2048.0)
    point = steady.operating_point(P, load, x=x, replicas=3, tiers_tokens=tiers)
    found = steady.latencies(P, load, x=x, replicas=3, tiers_tokens=tiers)
    known = None if point is None else (point.ttft_s, point.tpot_s, point.tiered)
    assert known == (None if found is None else (found.ttft_s, found.tpot_s, found.tiered))


def test_profiles_of_one_name_are_told_apart_where_they_are_keys() -> None:
    """The hash is the name's alone; what is remembered for one set of figures must not answer for another."""
    faster = replace(P, startup_s=P.startup_s + 1)
    assert hash(faster) == hash(P)
    assert {P: "first", faster: "second"} == {replace(P): "first", faster: "second"}
    assert len({P, faster}) == 2


def test_an_idle_replica_draws_its_idle_watts() -> None:
    point = steady.operating_point(P, Workload(1e-6, 1155, 211))
    assert point is not None
    assert math.isclose(point.gpu_w, P.draw.loaded_idle_w, rel_tol=0.01)
