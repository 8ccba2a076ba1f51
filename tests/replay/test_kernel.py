"""The kernel by hand: what one request costs, who gets it, how replicas come and go, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from capstan.model import latency, power
from capstan.replay import kernel
from capstan.replay.kernel import joules, layout
from capstan.replay.runs import Requests
from capstan.replay.world import CLOCK_SWITCH_S
from support import builders

PROFILE = builders.profile()
IDLE_W = PROFILE.draw.loaded_idle_w * PROFILE.tp
HOST_S = PROFILE.timing.queue_host_s


def trace(*rows: tuple[float, int, int]) -> Requests:
    arrival_s, prompts, outputs = zip(*rows, strict=True)
    return Requests(np.array(arrival_s, dtype=float), np.array(prompts), np.array(outputs))


def world(requests: Requests, *, slots: int = 4, end_s: float = 200.0, pools: int = 1) -> kernel.World:
    """A world of plain Python: the same source as the compiled one, and nothing to wait for."""
    return kernel.World(requests, (PROFILE,), slots=slots, end_s=end_s, pools=pools, compile_it=False)


def classes(requests: Requests, codes: list[int], *, class_pool: Sequence[int], slots: int = 4) -> kernel.World:
    """Two pools, and requests of these classes."""
    return kernel.World(
        requests, (PROFILE,), slots=slots, end_s=200.0, pools=2, request_class=np.array(codes), class_pool=class_pool,
        compile_it=False,
    )  # fmt: skip


def ready(made: kernel.World, count: int = 1) -> kernel.World:
    for _ in range(count):
        made.create(0, now_s=made.now_s, ready_s=made.now_s)
    return made


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


# --- routing, start-up, drain ------------------------------------------------------------------------


def test_requests_go_to_the_fewest_inside_and_to_the_lowest_slot_on_a_tie() -> None:
    made = ready(world(trace(*[(1.0, 100, 50)] * 5)), 3)
    made.advance(1.0)
    assert made.replicas["waiting"].tolist() == [2, 2, 1, 0]


def test_requests_wait_before_the_pool_until_a_replica_is_ready_at_its_own_moment() -> None:
    made = world(trace((1.0, 100, 2), (2.0, 100, 2)))
    made.create(0, now_s=0.0, ready_s=3.25)
    made.advance(3.0)
    assert (made.unrouted, made.totals().waiting, made.unfinished) == (2, 2, 2)
    assert made.totals().transition_j == pytest.approx(3.0 * IDLE_W)
    assert made.replicas["state"][0] == kernel.STARTING
    made.advance(10.0)
    assert made.unrouted == 0
    assert made.first_s[0] == pytest.approx(3.25 + HOST_S + latency.mixed_step_s(PROFILE, 0, 0, 200, 0, 1.0))
    assert made.totals().transition_j == pytest.approx(3.25 * IDLE_W)


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


def test_pools_share_nothing() -> None:
    rows = trace((0.0, 100, 5), (0.0, 100, 5))
    made = classes(rows, [0, 1], class_pool=(0, 1), slots=2)
    made.create(0, now_s=0.0, ready_s=0.0, pool=1)
    made.advance(20.0)
    assert made.finished[: made.finished_count].tolist() == [1]
    assert made.unrouted == 1


def test_a_new_table_sends_the_next_request_of_a_class_elsewhere_and_moves_nobody_who_is_inside() -> None:
    made = classes(trace((0.0, 100, 200), (1.0, 100, 2)), [0, 0], class_pool=(0, 1))
    for pool in (0, 1):
        made.create(0, now_s=0.0, ready_s=0.0, pool=pool)
    made.advance(0.5)
    made.route((1, 1))
    made.advance(1.0)
    assert (made.replicas["running"] + made.replicas["waiting"]).tolist() == [1, 1, 0, 0]


def test_held_requests_follow_the_table_in_order_of_arrival() -> None:
    """1 and 2 wait before pool 1, 0 before pool 0: all go to pool 0's replica at the moment it is ready."""
    made = classes(trace((0.0, 100, 2), (0.1, 100, 2), (0.2, 100, 2)), [0, 1, 1], class_pool=(0, 1))
    made.create(0, now_s=0.0, ready_s=5.0)
    made.advance(1.0)
    assert made.unrouted == 3
    made.route((0, 0))
    made.advance(30.0)
    assert made.unrouted == 0
    assert made.finished[:3].tolist() == [0, 1, 2]
    assert made.first_s[0] == pytest.approx(5.0 + HOST_S + latency.mixed_step_s(PROFILE, 0, 0, 300, 0, 1.0))


def test_a_held_request_whose_new_pool_is_ready_goes_there_at_once() -> None:
    made = classes(trace((0.0, 100, 2)), [1], class_pool=(0, 1))
    made.create(0, now_s=0.0, ready_s=0.0)
    made.advance(4.0)
    assert made.unrouted == 1
    made.route((0, 0))
    made.advance(30.0)
    assert made.first_s[0] == pytest.approx(4.0 + HOST_S + latency.mixed_step_s(PROFILE, 0, 0, 100, 0, 1.0))


# --- weights and spill -------------------------------------------------------------------------------


def inside(made: kernel.World) -> list[int]:
    live = made.replicas["state"] != kernel.FREE
    return [int(count) for count in (made.replicas["running"] + made.replicas["waiting"])[live]]


def test_a_replica_of_twice_the_weight_takes_twice_the_requests() -> None:
    """Loads with one more, of weights 1 and 2: (1, .5), (1, 1) a tie to slot 0, (2, 1), (2, 1.5), (2, 2) a tie ..."""
    other = dataclasses.replace(PROFILE, tp=8)
    made = kernel.World(trace(*[(1.0, 100, 50)] * 6), (PROFILE, other), slots=2, end_s=9.0, compile_it=False)
    made.weigh(0, (1.0, 2.0))
    for profile in (0, 1):
        made.create(profile, now_s=0.0, ready_s=0.0)
    made.advance(1.0)
    assert inside(made) == [2, 4]


def test_weights_hold_for_the_replicas_that_stand_and_only_for_their_pool() -> None:
    made = classes(trace(*[(1.0, 100, 50)] * 6), [0, 0, 0, 1, 1, 1], class_pool=(0, 1))
    for pool in (0, 0, 1, 1):
        made.create(0, now_s=0.0, ready_s=0.0, pool=pool)
    made.weigh(1, (3.0,))
    made.advance(1.0)
    assert inside(made) == [2, 1, 2, 1]
    assert made.replicas["weight"].tolist() == [1.0, 1.0, 3.0, 3.0]


def test_what_is_above_the_cap_goes_to_the_next_pool_and_when_both_are_full_to_its_own() -> None:
    """Two a replica in pool 0, one in pool 1: the first two, then one, then the rest comes back."""
    made = classes(trace(*[(1.0, 100, 50)] * 5), [0] * 5, class_pool=(0, 1))
    for pool in (0, 1):
        made.create(0, now_s=0.0, ready_s=0.0, pool=pool)
    made.spill((1, None), (2.0, 1.0))
    made.advance(1.0)
    assert inside(made) == [4, 1]
    assert made.spilled.tolist() == [1, 0]


def test_a_cap_is_per_unit_of_weight() -> None:
    made = classes(trace(*[(1.0, 100, 50)] * 6), [0] * 6, class_pool=(0, 1))
    for pool in (0, 1):
        made.create(0, now_s=0.0, ready_s=0.0, pool=pool)
    made.weigh(0, (2.0,))
    made.spill((1, None), (2.0, math.inf))
    made.advance(1.0)
    assert inside(made) == [4, 2]


def test_a_pool_without_a_ready_replica_gives_to_the_first_of_its_chain_that_has_one() -> None:
    rows = trace((1.0, 100, 50), (1.0, 100, 50))
    made = kernel.World(
        rows, (PROFILE,), slots=2, end_s=50.0, pools=3, request_class=np.array([0, 1]), class_pool=(0, 1),
        compile_it=False,
    )  # fmt: skip
    made.spill((1, 2, None), (math.inf,) * 3)
    made.create(0, now_s=0.0, ready_s=9.0, pool=0)
    made.create(0, now_s=0.0, ready_s=0.0, pool=2)
    made.advance(1.0)
    assert inside(made) == [0, 2]
    assert made.spilled.tolist() == [1, 1, 0]


def test_a_held_request_goes_to_whoever_of_its_chain_is_ready_first() -> None:
    made = classes(trace((1.0, 100, 2)), [0], class_pool=(0, 1))
    made.spill((1, None), (math.inf, math.inf))
    made.create(0, now_s=0.0, ready_s=9.0, pool=0)
    made.create(0, now_s=0.0, ready_s=4.0, pool=1)
    made.advance(3.0)
    assert made.unrouted == 1
    made.advance(20.0)
    assert made.first_s[0] == pytest.approx(4.0 + HOST_S + latency.mixed_step_s(PROFILE, 0, 0, 100, 0, 1.0))
    assert made.spilled.tolist() == [1, 0]


@pytest.mark.parametrize("way", ["spill", "create"])
def test_what_is_held_leaves_as_soon_as_a_way_opens(way: str) -> None:
    """A chain that is said later, or a replica that is made ready, is found at that moment."""
    made = classes(trace((1.0, 100, 2)), [0], class_pool=(0, 1))
    if way == "create":
        made.spill((1, None), (math.inf, math.inf))
    else:
        made.create(0, now_s=0.0, ready_s=0.0, pool=1)
    made.advance(3.0)
    assert made.unrouted == 1
    if way == "create":
        made.create(0, now_s=3.0, ready_s=3.0, pool=1)
    else:
        made.spill((1, None), (math.inf, math.inf))
    made.advance(20.0)
    assert made.first_s[0] == pytest.approx(3.0 + HOST_S + latency.mixed_step_s(PROFILE, 0, 0, 100, 0, 1.0))


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


@pytest.mark.parametrize("table", [(), (0,), (0, 2), (-1, 0), (0, 0, 0)])
def test_a_table_that_is_not_one_pool_per_class_is_refused(table: tuple[int, ...]) -> None:
    made = classes(trace((0.0, 1, 1)), [1], class_pool=(0, 1))
    with pytest.raises(ValueError, match="one pool for each of the 2 classes, each between 0 and 1"):
        made.route(table)


@pytest.mark.parametrize(
    ("next_pool", "cap", "message"),
    [
        ((1, 0), (math.inf, math.inf), "next_pool of pool 0 comes round"),
        ((0, None), (math.inf, math.inf), "next_pool of pool 0 comes round"),
        ((2, None), (math.inf, math.inf), "next_pool of pool 0 leads to pool 2: there are 2"),
        ((1,), (math.inf,), "one row for each of the 2 pools"),
        ((1, None), (0.0, math.inf), "a cap be above 0"),
        ((1, None), (math.nan, math.inf), "a cap be above 0"),
    ],
)
def test_a_spill_that_leads_nowhere_is_refused(
    next_pool: tuple[int | None, ...], cap: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        classes(trace((0.0, 1, 1)), [1], class_pool=(0, 1)).spill(next_pool, cap)


@pytest.mark.parametrize("weights", [(), (1.0, 1.0), (0.0,), (math.inf,), (math.nan,)])
def test_weights_that_are_not_one_number_above_zero_per_profile_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="above zero, one for each of the 1 profiles"):
        world(trace((0.0, 1, 1))).weigh(0, weights)


def test_a_class_without_a_row_in_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="request_class must lie between 0 and 1"):
        classes(trace((0.0, 1, 1)), [2], class_pool=(0, 1))


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
