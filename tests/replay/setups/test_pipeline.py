"""A pipeline as lanes: what a stage more costs and gains, by hand, and that no memory is made up."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import latency, power
from capstan.replay.setups import pipeline
from capstan.replay.setups.kinds import Engine
from support import builders

TP4 = builders.profile()


def engine(pp: int, *, seqs: int = 256, chunk: int = 512) -> Engine:
    return Engine(tp=4, pp=pp, max_num_seqs=seqs, chunk_tokens=chunk)


def test_without_stages_only_the_flags_change() -> None:
    assert pipeline.lane(TP4, engine(1)) == TP4
    assert pipeline.lane(TP4, engine(1, seqs=64, chunk=2048)) == dataclasses.replace(
        TP4, max_num_seqs=64, chunk_tokens=2048
    )


def test_two_stages_by_hand() -> None:
    """One hop: 20 us a step; 16,384 bytes a token over 4 ports of 50e9 bytes/s: 81.92 ns a token.

    Half of 35.25e9 bytes of weights makes room for 35.25e9 / 2 / 81,920 = 215,148 tokens more in each of two lanes.
    """
    lane = pipeline.lane(TP4, engine(2))
    assert lane.tp == 4, "a lane is as wide as the tp engine: it can be played on the same servers"
    assert lane.timing.host_s == pytest.approx(0.00402, abs=1e-12)
    assert lane.timing.prefill_per_token_s == pytest.approx(90e-6 + 81.92e-9, rel=1e-9)
    assert lane.timing.prefill_per_token_long_s == pytest.approx(95e-6 + 81.92e-9, rel=1e-9)
    assert lane.kv_tokens == 400_000 + 215_148
    assert (lane.max_num_seqs, lane.chunk_tokens) == (128, 512)
    assert lane.fit_error_ratio is None
    assert "modelled" in lane.provenance


@given(pp=st.integers(1, 8), batch=st.integers(1, 100), context=st.floats(0, 5e5), x=st.floats(0.2, 1.0))
def test_no_stage_makes_a_token_faster(pp: int, batch: int, context: float, x: float) -> None:
    lane = pipeline.lane(TP4, engine(pp))
    alone_s = latency.decode_step_s(TP4, batch, context, x)
    assert latency.decode_step_s(lane, batch, context, x) >= alone_s
    assert latency.mixed_step_s(lane, batch, context, 512, 0, x) >= latency.mixed_step_s(TP4, batch, context, 512, 0, x)


@given(pp=st.integers(1, 8))
def test_what_lies_on_a_gpu_is_what_lay_there(pp: int) -> None:
    """A GPU of the pipeline holds weights / pp, and of pp lanes' tokens 1 / pp of the layers' keys and values each."""
    lane, work = pipeline.lane(TP4, engine(pp)), TP4.work
    before = work.weight_bytes + TP4.kv_tokens * work.kv_bytes_per_token
    after = work.weight_bytes / pp + pp * lane.kv_tokens * work.kv_bytes_per_token / pp
    assert after == pytest.approx(before, abs=2 * work.kv_bytes_per_token)


@given(pp=st.integers(2, 4), batch=st.integers(1, 60))
def test_lanes_draw_no_less_than_as_many_engines(pp: int, batch: int) -> None:
    """The same work in steps that a hop makes longer: never more watts, never fewer joules a step."""
    lane, context = pipeline.lane(TP4, engine(pp)), 800.0 * batch
    alone_s, step_s = latency.decode_step_s(TP4, batch, context, 1.0), latency.decode_step_s(lane, batch, context, 1.0)
    alone_w, step_w = power.step_w(TP4, batch, context, alone_s, 1.0), power.step_w(lane, batch, context, step_s, 1.0)
    assert step_w <= alone_w * (1 + 1e-12)
    assert step_w * step_s >= alone_w * alone_s * (1 - 1e-12)


def test_a_lane_of_another_degree_is_refused() -> None:
    with pytest.raises(ValueError, match="tp 8"):
        pipeline.lane(TP4, Engine(8, 1, 256, 512))


@pytest.mark.parametrize(
    "flags",
    [(0, 1, 256, 512), (4, 0, 256, 512), (4, 2, 1, 512), (4, 1, 256, 0)],
    ids=["no GPU", "no stage", "fewer sequences than stages", "no chunk"],
)
def test_an_engine_that_cannot_be_is_refused(flags: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="an engine needs"):
        Engine(*flags)
