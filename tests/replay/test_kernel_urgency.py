"""Emergencies by hand: who is admitted first, who is given up, and that stock engines do neither."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model import latency
from capstan.model.workload import Request
from capstan.replay import kernel
from capstan.replay.runs import Requests
from capstan.replay.waiting import Order
from capstan.replay.world import Engine
from support.kernels import HOST_S, PROFILE, trace

ONE_SEAT = dataclasses.replace(PROFILE, max_num_seqs=1)
Limits = tuple[float, ...]


def world(requests: Requests, limits_s: Limits, order: Order, squash_ratio: float = math.inf) -> kernel.World:
    """One replica with one seat, so that who is admitted next is who finishes next."""
    emergency = kernel.Emergency(np.array(limits_s), order, squash_ratio)
    made = kernel.World(requests, (ONE_SEAT,), slots=1, end_s=200.0, emergency=emergency, compile_it=False)
    made.create(0, now_s=0.0, ready_s=0.0)
    return made


def ended(made: kernel.World) -> list[int]:
    made.advance(150.0)
    made.check()
    return [int(request) for request in made.finished[: made.finished_count]]


# --- order -------------------------------------------------------------------------------------------

BEHIND_A_LONG_ONE = trace((0.0, 100, 100), (0.1, 100, 2), (0.2, 100, 2), (0.3, 100, 2))


@pytest.mark.parametrize(
    ("order", "limits_s", "finished"),
    [
        pytest.param(Order.FIFO, (9, 9, 8, 7), [0, 1, 2, 3], id="first come first served minds no limit"),
        pytest.param(Order.LEAST_LAXITY, (9, 9, 8, 7), [0, 3, 2, 1], id="the nearest deadline first"),
        pytest.param(Order.LEAST_LAXITY, (9, 9, 9, 9), [0, 1, 2, 3], id="equal limits leave the order of arrival"),
        pytest.param(Order.LEAST_LAXITY, (9, 9, 0.1, 9), [0, 1, 3, 2], id="who is late anyway comes last"),
        pytest.param(Order.LEAST_LAXITY, (9, 0.2, 0.1, 9), [0, 3, 1, 2], id="late ones among themselves by arrival"),
    ],
)
def test_who_is_admitted_next(order: Order, limits_s: Limits, finished: list[int]) -> None:
    """Request 0 has the seat for some 1.7 s; the others have waited long when it is free."""
    assert ended(world(BEHIND_A_LONG_ONE, limits_s, order)) == finished


def test_a_long_prompt_has_less_to_spare_than_a_short_one_of_the_same_deadline() -> None:
    rows = trace((0.0, 100, 100), (0.1, 100, 2), (0.1, 6000, 2))
    assert latency.prefill_step_s(PROFILE, 6000, 1.0) > latency.prefill_step_s(PROFILE, 100, 1.0) + 0.1
    assert ended(world(rows, (9, 9, 9), Order.LEAST_LAXITY)) == [0, 2, 1]


def test_the_urgent_one_does_not_block_while_the_host_still_reads_it() -> None:
    """At the boundary where 0 ends, 2 is not ready yet though its limit is the nearest: 1 goes."""
    alone = world(trace((0.0, 100, 30)), (9,), Order.FIFO)
    ended(alone)
    late_s = alone.finish_s[0] - HOST_S / 2
    made = world(trace((0.0, 100, 30), (0.1, 100, 5), (late_s, 100, 2)), (9, 9, 1), Order.LEAST_LAXITY)
    assert ended(made) == [0, 1, 2]


# --- giving up ---------------------------------------------------------------------------------------


def test_who_has_no_token_after_its_limit_is_refused_at_the_next_boundary() -> None:
    """1 gives up after 1 x 0.5 s, 2 after 1 x 9 s: only the first of them is refused, while 0 is still decoding."""
    rows = trace((0.0, 100, 100), (0.1, 100, 2), (0.2, 100, 2))
    made = world(rows, (9, 0.5, 9), Order.FIFO, squash_ratio=1.0)
    made.advance(0.6)
    assert made.squashed == 0
    made.advance(0.7)
    assert (made.squashed, made.replicas["waiting"][0]) == (1, 1)
    assert ended(made) == [0, 2]
    assert np.isnan(made.first_s[1])
    assert np.isnan(made.finish_s[1])
    assert (made.refused, made.unfinished) == (0, 0)


def test_patience_is_a_multiple_of_the_limit() -> None:
    rows = trace((0.0, 100, 100), (0.1, 100, 2))
    assert world_squashed(rows, 0.5, 1.0) == 1
    assert world_squashed(rows, 0.5, 10.0) == 0


def world_squashed(rows: Requests, limit_s: float, ratio: float) -> int:
    made = world(rows, (limit_s,) * len(rows), Order.FIFO, squash_ratio=ratio)
    ended(made)
    return made.squashed


def test_who_has_a_token_is_never_given_up_though_it_lost_its_cache() -> None:
    """Two of 600 + 300 tokens in 1,300: the newer is sent back after its first token, and waits beyond its limit."""
    small = dataclasses.replace(PROFILE, kv_tokens=1300)
    emergency = kernel.Emergency(np.full(2, 1.0), Order.LEAST_LAXITY, 1.0)
    rows = trace((0.0, 600, 300), (0.0, 600, 300))
    made = kernel.World(rows, (small,), slots=1, end_s=100.0, emergency=emergency, compile_it=False)
    made.create(0, now_s=0.0, ready_s=0.0)
    made.advance(100.0)
    assert made.preemptions > 0
    assert made.max_tbt_s[1] > 1.0
    assert (made.squashed, made.finished_count) == (0, 2)


def test_a_draining_replica_that_gives_up_its_last_request_is_gone() -> None:
    made = world(trace((0.0, 100, 2), (0.05, 100, 2)), (9, 0.001), Order.FIFO, squash_ratio=1.0)
    made.advance(0.05)
    made.drain(0)
    made.advance(5.0)
    assert made.squashed == 1
    assert made.take_gone() == [0]


# --- what an emergency may never do ------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from(list(Order)), st.sampled_from([1.0, 2.0, math.inf]))
@settings(max_examples=15)
def test_every_request_ends_once_and_nobody_is_given_up_before_its_time(
    seed: int, order: Order, squash_ratio: float
) -> None:
    """First tokens after the limit exist only where giving up is off, or patience longer than the limit."""
    rng = np.random.default_rng(seed)
    rows = trace(*[(float(at), 200, 20) for at in np.sort(rng.uniform(0, 2, 20))])
    limits_s = rng.uniform(0.1, 5.0, 20)
    made = world(rows, tuple(limits_s), order, squash_ratio)
    finished = ended(made)
    assert len(set(finished)) == len(finished)
    assert len(finished) + made.squashed == 20
    if squash_ratio == math.inf:
        assert made.squashed == 0
    served = ~np.isnan(made.first_s)
    longest_step_s = latency.mixed_step_s(PROFILE, 1.0, 300.0, 200.0, 0.0, 1.0)
    waited_s = (made.first_s - rows.arrival_s)[served]
    assert (waited_s <= squash_ratio * limits_s[served] + longest_step_s).all()


def test_limits_so_wide_that_nobody_is_late_change_nothing() -> None:
    """Same limit, same prompt: the least laxity is the first that came, so every time is the stock engine's."""
    rng = np.random.default_rng(4)
    rows = trace(*[(float(at), 200, 40) for at in np.sort(rng.uniform(0, 3, 40))])
    stock = kernel.World(rows, (PROFILE,), slots=1, end_s=200.0, compile_it=False)
    minding = kernel.World(
        rows, (PROFILE,), slots=1, end_s=200.0, compile_it=False,
        emergency=kernel.Emergency(np.full(40, 1e6), Order.LEAST_LAXITY, 1.0),
    )  # fmt: skip
    for made in (stock, minding):
        made.create(0, now_s=0.0, ready_s=0.0)
        made.advance(150.0)
    assert minding.first_s == pytest.approx(stock.first_s, rel=1e-12)
    assert minding.finish_s == pytest.approx(stock.finish_s, rel=1e-12)


# --- what it refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit_s", "ratio", "message"),
    [
        (0.0, 1.0, "ttft_s must be above zero"),
        (math.nan, 1.0, "ttft_s must be above"),
        (1.0, 0.9, "squash_ratio must be 1"),
    ],
)
def test_limits_that_cannot_be_are_refused(limit_s: float, ratio: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel.Emergency(np.array([limit_s]), Order.FIFO, ratio)


def test_a_limit_for_each_request_or_none() -> None:
    with pytest.raises(ValueError, match="one row per request"):
        world(trace((0.0, 1, 1)), (1.0, 1.0), Order.FIFO)


# --- the step-by-step engine -------------------------------------------------------------------------


def test_the_engine_gives_its_seat_to_the_least_laxity_and_gives_up_who_is_late() -> None:
    engine = Engine(PROFILE, now_s=0.0, max_num_seqs=1, order=Order.LEAST_LAXITY)
    engine.submit(Request(0, 0.0, 100, 50), 0.0)
    engine.advance(0.1)
    for request_id, deadline_s, patience_s in ((1, 9.0, math.inf), (2, 8.0, math.inf), (3, 7.0, 0.2)):
        engine.submit(Request(request_id, 0.1, 100, 2), 0.1, deadline_s=deadline_s, patience_s=patience_s)
    ends = [emission.request_id for emission in engine.advance(60.0) if emission.finished]
    assert ends == [0, 2, 1]
    assert engine.squashed_total == 1
    assert engine.idle
