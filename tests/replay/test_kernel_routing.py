"""Who gets a request: loads and weights, tables of classes, spill, and what waits before a pool."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from capstan.model import latency
from capstan.replay import kernel
from support.kernels import HOST_S, IDLE_W, PROFILE, classes, inside, ready, trace, world

# --- a pool, and the table of classes ----------------------------------------------------------------


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


# --- a replica changes its pool -----------------------------------------------------------------------


def test_a_replica_that_changes_its_pool_keeps_what_it_has_and_takes_the_new_pools_requests() -> None:
    made = classes(trace((0.0, 100, 200), (1.0, 100, 200), (1.0, 100, 200)), [0, 0, 1], class_pool=(0, 1))
    made.create(0, now_s=0.0, ready_s=0.0, pool=0)
    made.weigh(1, (2.0,))
    made.advance(0.5)
    made.move(0, 1)
    made.advance(1.0)
    assert inside(made) == [2]
    assert made.unrouted == 1
    assert (made.replicas["pool"][0], made.replicas["weight"][0]) == (1, 2.0)


def test_a_replica_that_moves_into_a_chain_is_given_what_was_held_for_it() -> None:
    """Pool 1 is where pool 0 spills; nobody is ready in either until the only replica of pool 2 comes."""
    made = kernel.World(trace((1.0, 100, 2)), (PROFILE,), slots=1, end_s=50.0, pools=3, compile_it=False)
    made.spill((1, None, None), (math.inf,) * 3)
    made.create(0, now_s=0.0, ready_s=0.0, pool=2)
    made.advance(4.0)
    assert made.unrouted == 1
    made.move(0, 1)
    made.advance(20.0)
    assert made.first_s[0] == pytest.approx(4.0 + HOST_S + latency.mixed_step_s(PROFILE, 0, 0, 100, 0, 1.0))


def test_a_draining_replica_stays_where_it_is() -> None:
    made = classes(trace((0.0, 100, 200)), [0], class_pool=(0, 1))
    made.create(0, now_s=0.0, ready_s=0.0, pool=0)
    made.advance(0.5)
    made.drain(0)
    made.move(0, 1)
    assert made.replicas["pool"][0] == 0


# --- what it refuses ---------------------------------------------------------------------------------


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
