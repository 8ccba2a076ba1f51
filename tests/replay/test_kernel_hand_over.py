"""Prefill here, decode there, by hand: what a transfer costs, who waits for room, and what is never lost."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model import latency
from capstan.model.profile import Profile
from capstan.model.workload import Request
from capstan.replay import kernel
from capstan.replay.runs import Requests
from capstan.replay.world import Engine
from support.kernels import HOST_S, PROFILE, inside, trace

LINK = kernel.HandOver((1, None), link_bytes_per_s=1e9, link_setup_s=0.002)
TOKEN_S = PROFILE.work.kv_bytes_per_token / 1e9  # a token's KV on one GPU's link of 1e9 bytes/s


def world(requests: Requests, *, decode: Profile = PROFILE, decode_ready_s: float = 0.0) -> kernel.World:
    """Slot 0 only prefills, slot 1 only decodes."""
    made = kernel.World(
        requests, (PROFILE, decode), slots=3, end_s=200.0, pools=2, hand_over=LINK, compile_it=False
    )  # fmt: skip
    made.create(0, now_s=0.0, ready_s=0.0, pool=0)
    made.create(1, now_s=0.0, ready_s=decode_ready_s, pool=1)
    return made


# --- one request -------------------------------------------------------------------------------------


def test_a_lone_request_takes_its_prompt_the_transfer_and_a_step_per_token() -> None:
    """300 prompt tokens, then contexts 301 to 309 elsewhere; the first gap holds the transfer and is the longest."""
    made = world(trace((1.0, 300, 10)))
    made.advance(20.0)
    first_s = 1.0 + HOST_S + latency.mixed_step_s(PROFILE, 0, 0, 300, 0, 1.0)
    transfer_s = 0.002 + 300 * TOKEN_S
    gaps_s = [latency.decode_step_s(PROFILE, 1, context, 1.0) for context in range(301, 310)]
    assert made.first_s[0] == pytest.approx(first_s, rel=1e-12)
    assert made.max_tbt_s[0] == pytest.approx(transfer_s + gaps_s[0], rel=1e-9)
    assert made.finish_s[0] == pytest.approx(first_s + transfer_s + sum(gaps_s), rel=1e-12)
    assert (made.prompt_tokens, made.generation_tokens, made.handed, made.unfinished) == (300, 10, 1, 0)
    made.check()


def test_while_its_kv_is_on_its_way_it_is_on_no_replica() -> None:
    made = world(trace((0.0, 300, 10)))
    made.advance(HOST_S + latency.mixed_step_s(PROFILE, 0, 0, 300, 0, 1.0) + 0.001)
    assert (made.moving, inside(made), made.unfinished) == (1, [0, 0], 1)
    assert made.replicas["kv_tokens"].tolist() == [0, 0, 0]
    assert made.next_event_s == pytest.approx(made.first_s[0] + 0.002 + 300 * TOKEN_S)
    made.check()
    made.advance(made.next_event_s)
    assert (made.moving, inside(made)) == (0, [0, 1])


def test_one_output_token_is_done_where_its_prompt_was() -> None:
    made = world(trace((0.0, 300, 1)))
    made.advance(20.0)
    assert made.finish_s[0] == made.first_s[0]
    assert made.replicas["serving_j"][1] == 0


def test_the_shorter_kv_of_two_that_leave_together_lands_first() -> None:
    """Prompts of 400 and 100 tokens end in one step; one seat where they land, so who lands first ends first."""
    made = world(trace((0.0, 400, 5), (0.0, 100, 5)), decode=dataclasses.replace(PROFILE, max_num_seqs=1))
    made.advance(20.0)
    assert made.first_s[0] == made.first_s[1]
    assert made.finished[:2].tolist() == [1, 0]


# --- room, start-up, drain ---------------------------------------------------------------------------


def test_what_lands_waits_for_room_for_all_its_kv() -> None:
    """Two of 600 tokens in a cache of 1,000: the second decodes only when the first is done."""
    made = world(trace((0.0, 600, 50), (0.0, 600, 50)), decode=dataclasses.replace(PROFILE, kv_tokens=1000))
    made.advance(made.next_event_s)
    made.advance(60.0)
    assert made.preemptions == 0
    assert made.max_tbt_s[1] > 48 * latency.decode_step_s(PROFILE, 1, 600, 1.0)
    assert made.finished[:2].tolist() == [0, 1]
    made.check()


def test_what_lands_where_nobody_is_ready_is_held_and_no_table_moves_it() -> None:
    made = world(trace((0.0, 300, 10)), decode_ready_s=9.0)
    made.advance(5.0)
    assert (made.moving, made.unrouted) == (0, 1)
    made.route((0,))
    assert made.unrouted == 1
    made.advance(20.0)
    step_s = latency.decode_step_s(PROFILE, 1, 301, 1.0)
    assert made.max_tbt_s[0] == pytest.approx(9.0 - made.first_s[0] + step_s, rel=1e-9)


def test_a_prefill_replica_may_leave_while_what_it_sent_is_on_its_way() -> None:
    made = world(trace((0.0, 300, 10), (0.0, 300, 10)))
    made.advance(0.02)
    made.drain(0)
    made.advance(20.0)
    assert made.take_gone() == [0]
    assert (made.finished_count, made.unfinished) == (2, 0)


def test_what_lands_in_a_full_pool_spills_along_its_chain() -> None:
    rows = trace(*[(0.0, 300, 50)] * 4)
    made = kernel.World(
        rows, (PROFILE,), slots=3, end_s=99.0, pools=3, hand_over=kernel.HandOver((1, None, None)), compile_it=False
    )  # fmt: skip
    for pool in range(3):
        made.create(0, now_s=0.0, ready_s=0.0, pool=pool)
    made.spill((None, 2, None), (math.inf, 1.0, math.inf))
    made.advance(60.0)
    assert made.spilled.tolist() == [0, 3, 0]
    assert made.unfinished == 0


def test_one_that_loses_its_cache_computes_its_prompt_where_it_decodes() -> None:
    """Two of 600 + 300 tokens decode in 1,300: the newer is sent back, and its KV is not sent again."""
    made = world(trace((0.0, 600, 300), (0.0, 600, 300)), decode=dataclasses.replace(PROFILE, kv_tokens=1300))
    made.advance(100.0)
    assert made.preemptions > 0
    assert made.finished_count == 2
    assert made.prompt_tokens == 1200
    made.check()


# --- what a transfer may never do --------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([1e7, 1e9, 450e9]))
@settings(max_examples=25)
def test_every_request_ends_once_and_no_token_is_lost_or_made_twice(seed: int, link_bytes_per_s: float) -> None:
    rng = np.random.default_rng(seed)
    arrivals_s = np.sort(rng.uniform(0, 2, 15))
    rows = Requests(arrivals_s, rng.integers(1, 900, 15), rng.integers(1, 40, 15))
    hand_over = kernel.HandOver((1, None), link_bytes_per_s=link_bytes_per_s)
    made = kernel.World(rows, (PROFILE,), slots=2, end_s=300.0, pools=2, hand_over=hand_over, compile_it=False)
    for pool in (0, 1):
        made.create(0, now_s=0.0, ready_s=0.0, pool=pool)
    while made.unfinished and made.now_s < 200.0:
        made.advance(made.now_s + 0.37)
        made.check()
    assert sorted(made.finished[:15].tolist()) == list(range(15))
    assert made.generation_tokens == rows.output_tokens.sum()
    assert made.prompt_tokens == rows.prompt_tokens.sum()
    longer = rows.output_tokens > 1
    transfer_s = hand_over.link_setup_s + rows.prompt_tokens * PROFILE.work.kv_bytes_per_token / link_bytes_per_s
    assert (made.max_tbt_s[longer] > transfer_s[longer]).all()


# --- what it refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decode_pool", "next_pool", "message"),
    [
        pytest.param((0, None), (None, None), "lands in pool 0", id="to itself"),
        pytest.param((1, 0), (None, None), "lands in pool 1", id="to one that hands over"),
        pytest.param((2, None), (None, None), "lands in pool 2", id="to none that exists"),
        pytest.param((1,), (None, None), "decode_pool must have one row for each of the 2 pools", id="too few rows"),
        pytest.param((1, None), (None, 0), "lands in pool 0", id="to one that spills into one that hands over"),
    ],
)
def test_kv_that_would_travel_for_ever_is_refused(
    decode_pool: tuple[int | None, ...], next_pool: tuple[int | None, ...], message: str
) -> None:
    def play() -> None:
        hand_over = kernel.HandOver(decode_pool)
        rows = trace((0.0, 1, 1))
        made = kernel.World(rows, (PROFILE,), slots=1, end_s=1.0, pools=2, hand_over=hand_over, compile_it=False)
        made.spill(next_pool, (math.inf, math.inf))

    with pytest.raises(ValueError, match=message):
        play()


@pytest.mark.parametrize(("bytes_per_s", "setup_s"), [(0.0, 0.0), (math.nan, 0.0), (1e9, -1.0), (1e9, math.inf)])
def test_a_link_that_cannot_be_is_refused(bytes_per_s: float, setup_s: float) -> None:
    with pytest.raises(ValueError, match="link_bytes_per_s must be above 0"):
        kernel.HandOver((None,), bytes_per_s, setup_s)


# --- the step-by-step engine -------------------------------------------------------------------------


def test_the_engine_hands_over_with_the_first_token_and_keeps_no_kv() -> None:
    engine = Engine(PROFILE, now_s=0.0, hands_over=True)
    engine.submit(Request(1, 0.0, 100, 5), 0.0)
    (only,) = engine.advance(10.0)
    assert (only.first, only.finished, only.handed) == (True, False, True)
    assert (engine.kv_tokens, engine.running, engine.idle) == (0, 0, True)


def test_the_engine_decodes_what_lands_at_once_and_counts_its_prompt_elsewhere() -> None:
    engine = Engine(PROFILE, now_s=0.0)
    engine.land(Request(1, 0.0, 100, 3), 1.0)
    emissions = engine.advance(10.0)
    second_s = 1.0 + latency.decode_step_s(PROFILE, 1, 101, 1.0)
    third_s = second_s + latency.decode_step_s(PROFILE, 1, 102, 1.0)
    assert [emission.t_s for emission in emissions] == pytest.approx([second_s, third_s])
    assert [emission.tokens_out for emission in emissions] == [2, 3]
    assert (engine.prompt_tokens_total, engine.generation_tokens_total, engine.kv_tokens) == (0, 2, 0)
