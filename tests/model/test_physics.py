"""Step times and power: the properties that no set of parameters may break."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import latency, power, steady
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
    """4 ms host + 12 ms weights + 31 x 0.09 ms + 32,768 tokens x 25 ns = 16 + 2.79 + 0.8192 ms."""
    assert latency.decode_step_s(P, 32, 32_768, 1.0) == pytest.approx(0.0196092)


def test_prefill_bends_at_2048_tokens() -> None:
    """12 ms + 2,048 x 0.09 ms = 196.32 ms; each token beyond adds 0.095 ms."""
    assert latency.prefill_step_s(P, 2048, 1.0) == pytest.approx(0.19632)
    assert latency.prefill_step_s(P, 3048, 1.0) == pytest.approx(0.19632 + 0.095)


def test_a_short_prompt_takes_the_shortest_step() -> None:
    assert latency.prefill_step_s(P, 1, 1.0) == P.timing.prefill_min_s


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
def test_the_closed_form_batch_is_the_fixed_point(rps: float, prompt: int, output: int) -> None:
    """Little's law must hold at the batch that the closed form returns: B = rate x output x step / (1 - prefill)."""
    load = Workload(rps, prompt, output)
    point = steady.operating_point(P, load)
    if point is None:
        return
    context = prompt + output / 2
    t = P.timing
    step_s = (
        t.host_s + t.weights_s + t.per_sequence_s * (point.batch - 1) + t.per_context_token_s * point.batch * context
    )
    share = rps * latency.chunk_s(P, prompt, prompt / 2, 1.0)
    assert point.batch == pytest.approx(rps * output * step_s / (1 - share), rel=1e-9)


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


def test_an_idle_replica_draws_its_idle_watts() -> None:
    point = steady.operating_point(P, Workload(1e-6, 1155, 211))
    assert point is not None
    assert math.isclose(point.gpu_w, P.draw.loaded_idle_w, rel_tol=0.01)
