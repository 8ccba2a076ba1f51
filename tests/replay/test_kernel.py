"""The kernel by hand: what one request costs, how replicas come and go, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest

from capstan.model import latency, power
from capstan.replay import kernel
from capstan.replay.kernel import joules, layout
from capstan.replay.world import CLOCK_SWITCH_S
from support.kernels import HOST_S, IDLE_W, PROFILE, ready, trace, world

# --- one request -------------------------------------------------------------------------------------


def test_a_lone_request_takes_host_time_its_chunks_and_one_step_per_token() -> None:
    """512 + 288 prompt tokens, then steps at contexts 801 to 809; the last is the longest gap."""
    made = ready(world(trace((1.0, 800, 10))))
    made.advance(20.0)
    first_s = 1.0 + HOST_S
    first_s += latency.mixed_step_s(PROFILE, 0, 0, 512, 0, 1.0) + latency.mixed_step_s(PROFILE, 0, 0, 288, 512, 1.0)
    gaps_s = [latency.decode_step_s(PROFILE, 1, context, 1.0) for context in range(801, 810)]
    assert made.first_s[0] == pytest.approx(first_s, rel=1e-12)
    assert made.finish_s[0] == pytest.approx(first_s + sum(gaps_s), rel=1e-12)
    assert made.max_tbt_s[0] == pytest.approx(gaps_s[-1], rel=1e-12)
    assert (made.prompt_tokens, made.generation_tokens, made.finished_count, made.unfinished) == (800, 10, 1, 0)


def test_its_joules_are_the_sum_over_its_steps_and_idle_watts_around_them() -> None:
    made = ready(world(trace((1.0, 500, 40))))
    made.advance(20.0)
    prefill_s = latency.mixed_step_s(PROFILE, 0, 0, 500, 0, 1.0)
    joules = prefill_s * power.mixed_w(PROFILE, 0, 0, 500, 0, 0, 1.0)
    for context in range(501, 540):
        joules += latency.decode_step_s(PROFILE, 1, context, 1.0) * power.mixed_w(PROFILE, 1, context, 0, 0, 0, 1.0)
    busy_s = made.finish_s[0] - 1.0 - HOST_S
    totals = made.totals()
    assert totals.serving_j == pytest.approx(4 * joules, rel=1e-9)
    assert totals.idle_j == pytest.approx((20.0 - busy_s) * IDLE_W, rel=1e-9)
    assert totals.transition_j == 0
    assert made.bins_j().sum() == pytest.approx(totals.energy_j, rel=1e-12)


def test_one_output_token_has_no_gap_between_tokens() -> None:
    made = ready(world(trace((0.0, 100, 1))))
    made.advance(5.0)
    assert made.finish_s[0] == made.first_s[0]
    assert math.isnan(made.max_tbt_s[0])


@pytest.mark.parametrize(
    ("ratio", "refused"),
    [(0.0, 0), (0.25, 25), (0.3, 30), (1.0, 100)],
    ids=["nothing", "a quarter", "three tenths", "all"],
)
def test_a_share_of_the_requests_is_refused_as_they_arrive(ratio: float, refused: int) -> None:
    """Every so many, not by chance; who is refused has no first token, and the engine never heard of it."""
    made = ready(world(trace(*((0.1 * i, 50, 2) for i in range(100)))))
    made.shed(ratio)
    made.advance(60.0)
    assert (made.refused, made.finished_count, made.unfinished) == (refused, 100 - refused, 0)
    assert int(sum(math.isnan(first_s) for first_s in made.first_s)) == refused


def test_what_is_shed_may_change_and_end() -> None:
    made = ready(world(trace(*((float(i), 50, 2) for i in range(40)))))
    for to_s, ratio in ((9.5, 0.5), (19.5, 0.0), (60.0, 0.0)):
        made.shed(ratio)
        made.advance(to_s)
    assert made.refused == 5


@pytest.mark.parametrize("ratio", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        world(trace((0.0, 10, 1))).shed(ratio)


def test_a_request_larger_than_the_cache_is_refused_and_ends() -> None:
    made = ready(world(trace((0.0, PROFILE.kv_tokens, 1), (0.0, 10, 1))))
    made.advance(5.0)
    assert (made.refused, made.finished_count, made.unfinished) == (1, 1, 0)
    assert math.isnan(made.first_s[0])


def test_a_cache_that_runs_out_sends_the_newest_back_and_keeps_its_first_token() -> None:
    """Two of 600 + 300 tokens in 1,300: after 50 tokens each the newer goes, and stays when the older has ended.

    Until then it is tried again and again, as vLLM does: its first chunk of 512 fits, the rest does not.
    """
    small = dataclasses.replace(PROFILE, kv_tokens=1300)
    rows = trace((0.0, 600, 300), (0.0, 600, 300))
    made = ready(kernel.World(rows, (small,), slots=1, end_s=100.0, compile_it=False))
    made.advance(100.0)
    assert made.preemptions > 1
    assert made.finished[:2].tolist() == [0, 1]
    assert made.first_s[1] < made.finish_s[0] < made.finish_s[1]
    assert made.max_tbt_s[1] > 100 * made.max_tbt_s[0]
    assert (made.prompt_tokens, made.generation_tokens) == (1200, 600)
    made.check()


def test_who_arrives_at_the_very_end_of_a_step_waits_for_the_end_of_the_next() -> None:
    """The next step has begun by then, as in `replay.world.Engine`; no host time, so that the tie is exact."""
    instant = dataclasses.replace(PROFILE, timing=dataclasses.replace(PROFILE.timing, queue_host_s=0.0))
    alone = ready(kernel.World(trace((0.0, 100, 50)), (instant,), slots=1, end_s=50.0, compile_it=False))
    alone.advance(0.5)
    leap = alone.replicas[0]
    boundary_s, next_s = joules.leap_end_s(leap, 20.0), joules.leap_end_s(leap, 21.0)
    rows = trace((0.0, 100, 50), (boundary_s, 100, 2))
    made = ready(kernel.World(rows, (instant,), slots=1, end_s=50.0, compile_it=False))
    made.advance(20.0)
    step_s = latency.mixed_step_s(PROFILE, 1, 122, 100, 0, 1.0)
    assert made.first_s[1] == pytest.approx(next_s + step_s, rel=1e-12)


# --- start-up, drain ------------------------------------------------------------------------


def test_a_draining_replica_finishes_takes_nothing_new_and_is_gone_when_empty() -> None:
    made = ready(world(trace((0.0, 100, 100), (1.0, 100, 5))), 2)
    made.advance(0.5)
    made.drain(0)
    made.drain(1)
    assert made.take_gone() == [1]
    made.advance(1.0)
    assert made.unrouted == 1
    made.advance(60.0)
    assert made.take_gone() == [0]
    assert made.finished_count == 1
    drawn_j = made.energy_j()
    made.advance(100.0)
    assert made.energy_j().tolist() == drawn_j.tolist()


def test_a_starting_replica_that_is_drained_is_gone_at_once() -> None:
    made = world(trace((50.0, 10, 1)))
    slot = made.create(0, now_s=0.0, ready_s=30.0)
    made.advance(10.0)
    made.drain(slot)
    assert made.take_gone() == [slot]
    assert made.totals().transition_j == pytest.approx(10 * IDLE_W)


def test_a_slot_is_used_again_only_after_its_owner_was_told() -> None:
    made = ready(world(trace((50.0, 10, 1)), slots=1))
    made.drain(0)
    with pytest.raises(RuntimeError, match="give it more `slots`"):
        made.create(0, now_s=0.0, ready_s=0.0)
    made.take_gone()
    assert made.create(0, now_s=0.0, ready_s=0.0) == 0
    assert made.replicas["serial"][0] == 1


# --- clocks and limits -------------------------------------------------------------------------------


def test_a_cap_holds_from_the_first_step_that_begins_50_ms_later() -> None:
    made = ready(world(trace((0.0, 100, 200))))
    made.advance(1.0)
    made.cap(0, 1.0, 0.5, math.inf)
    made.advance(1.0 + CLOCK_SWITCH_S - 1e-6)
    assert made.replicas["cap_ratio"][0] == 1.0
    step_s = latency.decode_step_s(PROFILE, 1, 300, 1.0)
    made.advance(1.0 + CLOCK_SWITCH_S + step_s)
    assert made.replicas["cap_ratio"][0] == 0.5


def test_asking_again_for_what_is_in_force_changes_nothing() -> None:
    once, often = (ready(world(trace((0.0, 100, 100)))) for _ in range(2))
    for made in (once, often):
        made.cap(0, 0.0, 0.5, math.inf)
    for tick in range(1, 30):
        often.advance(tick * 0.01)
        often.cap(0, tick * 0.01, 0.5, math.inf)
    for made in (once, often):
        made.advance(50.0)
    assert once.finish_s.tobytes() == often.finish_s.tobytes()


def test_an_idle_replica_may_be_capped_for_hours_and_serves_under_the_last_cap() -> None:
    made = ready(world(trace((100.0, 100, 20))))
    for tick in range(1, 20):
        made.cap(0, tick * 5.0, 1 - tick / 100, math.inf)
    made.cap(0, 99.0, 0.7, math.inf)
    made.advance(101.0)
    assert made.replicas["cap_ratio"][0] == 0.7
    assert made.replicas["pending"][0] == 0


def test_a_cap_of_a_replica_that_is_gone_is_nobodys_business() -> None:
    made = ready(world(trace((50.0, 10, 1)), slots=1))
    made.drain(0)
    made.cap(0, 0.0, 0.5, math.inf)
    made.take_gone()
    ready(made)
    assert made.replicas["asked_ratio"][0] == 1.0


def test_a_power_limit_slows_decoding() -> None:
    finish_s = []
    for limit_w in (math.inf, 250.0):
        made = ready(world(trace((0.0, 100, 100))))
        made.cap(0, 0.0, 1.0, limit_w)
        made.advance(60.0)
        finish_s.append(made.finish_s[0])
    assert finish_s[1] > finish_s[0]


# --- what it refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (((2.0, 1, 1), (1.0, 1, 1)), "must not run backwards"),
        (((math.nan, 1, 1),), "finite and not negative"),
        (((-1.0, 1, 1),), "finite and not negative"),
        (((0.0, 1, 1), (math.nan, 1, 1), (2.0, 1, 1)), "must not run backwards"),
        (((0.0, 0, 1),), "prompt_tokens must lie between 1"),
        (((0.0, 1, 0),), "output_tokens must lie between 1"),
    ],
)
def test_a_trace_that_cannot_be_played_is_refused_by_field(
    rows: tuple[tuple[float, int, int], ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        world(trace(*rows))


def test_time_and_caps_that_cannot_be_are_refused() -> None:
    made = ready(world(trace((50.0, 10, 1))))
    made.advance(5.0)
    with pytest.raises(ValueError, match="time runs backwards"):
        made.advance(4.0)
    for step in range(layout.PENDING_CAPS):
        made.cap(0, 5.0 + step * 1e-3, 0.5 + step / 100, math.inf)
    with pytest.raises(ValueError, match="caps of slot 0 within"):
        made.cap(0, 5.04, 1.0, math.inf)


def test_a_batch_beyond_the_largest_table_is_refused() -> None:
    huge = dataclasses.replace(PROFILE, max_num_seqs=5000, chunk_tokens=8192)
    with pytest.raises(ValueError, match="max_num_seqs 5000"):
        kernel.World(trace((0.0, 1, 1)), (huge,), slots=1, end_s=1.0, compile_it=False)


# --- parameters and imports --------------------------------------------------------------------------


def test_a_profiles_record_holds_every_number_of_it() -> None:
    record = kernel.parameters(PROFILE)[0]
    for part in dataclasses.fields(PROFILE):
        value = getattr(PROFILE, part.name)
        if dataclasses.is_dataclass(value):
            for inner in dataclasses.fields(value):
                if inner.type in {"float", "int"}:
                    assert record[part.name][inner.name] == getattr(value, inner.name)
        elif part.type in {"float", "int"}:
            assert record[part.name] == value


def test_importing_the_replay_does_not_import_numba(root: Path) -> None:
    code = "import sys, capstan.replay.kernel; sys.exit('numba' in sys.modules)"
    environment = {"PYTHONPATH": str(root / "operator")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
