"""Replicas of one service: who goes first when fewer are wanted, who waits for a node, and what caps reach."""

from __future__ import annotations

import math

import numpy as np
import pytest

from capstan.model.headroom import Place
from capstan.model.plan import Move, PowerPlan, Share
from capstan.replay import kernel
from capstan.replay.nodes import Node, Seats
from capstan.replay.pool import Pool
from capstan.replay.runs import Requests
from capstan.replay.seen import Want
from support import builders, small
from support.small import KEY

STARTUP_S = 30.0


def trace(*arrivals_s: float, output: int = 2000) -> Requests:
    count = len(arrivals_s)
    return Requests(np.array(arrivals_s), np.full(count, 100), np.full(count, output))


def pool(requests: Requests | None = None, *, servers: int = 2, tp: int = 4, replicas: int = 1) -> Pool:
    """A pool on the uncompiled kernel; long answers keep whoever got one busy for half a minute."""
    requests = trace(1000.0) if requests is None else requests
    world = kernel.World(requests, small.BOTH, slots=8, end_s=2000.0, compile_it=False)
    seats = Seats(tuple(Node(f"gpu-{i}", 8, builders.H100) for i in range(servers)))
    made = Pool(world, small.BOTH, seats, startup_s=STARTUP_S)
    made.start_ready([Want(KEY, tp, replicas)], 0.0)
    return made


def moved(made: Pool, to_s: float) -> Pool:
    made.world.advance(to_s)
    made.settle(to_s)
    return made


def nodes(made: Pool) -> list[int]:
    return [pod.node for pod in made.pods]


def test_what_stands_at_the_start_is_ready_at_once_and_no_change() -> None:
    made = pool(replicas=3)
    made.world.advance(0.0)
    assert made.counts() == (3, 0, 0)
    assert (made.gpus, made.reconfigurations, nodes(made)) == (12, 0, [0, 0, 1])


def test_a_new_replica_starts_for_its_start_up_time() -> None:
    made = pool()
    made.scale([Want(KEY, 4, 2)], 0.0)
    assert moved(made, 29.9).counts() == (1, 1, 0)
    assert moved(made, 30.0).counts() == (2, 0, 0)


def test_the_same_want_again_changes_nothing() -> None:
    made = pool(replicas=2)
    for _ in range(3):
        made.scale([Want(KEY, 4, 2, reason="NoChangeNeeded")], 0.0)
    assert (made.reconfigurations, made.clock_changes, len(made.pods)) == (0, 0, 2)


def test_a_starting_replica_goes_before_one_that_serves() -> None:
    made = moved(pool(trace(1.0)), 5.0)
    busy = made.pods[0]
    made.scale([Want(KEY, 4, 3)], 5.0)
    made.scale([Want(KEY, 4, 1)], 10.0)
    assert made.pods == [busy], "gone at once: nothing was in them"
    assert (made.gpus, made.gpu_seconds) == (4, 2 * 4 * 5.0)


def test_the_least_loaded_replica_drains_and_finishes_what_it_has() -> None:
    """Three requests on two replicas: the first gets two, the second one."""
    made = moved(pool(trace(1.0, 1.0, 1.0), replicas=2), 5.0)
    first, second = made.pods
    made.scale([Want(KEY, 4, 1)], 5.0)
    assert (first.draining, second.draining) == (False, True)
    assert made.counts() == (1, 0, 1)
    moved(made, 100.0)
    assert made.pods == [first]
    assert made.world.finished_count == 3


def test_a_pod_without_a_node_is_pending_until_one_is_free() -> None:
    """Three of tp 8 on two servers: the third waits for whoever leaves, here a second service."""
    made = pool(tp=8)
    made.scale([Want(KEY, 8, 3)], 0.0)
    assert (made.counts(), made.gpus) == ((1, 2, 0), 16), "one starts, one is pending"
    assert [made.pending((made.wants[0].pool, tp)) for tp in (4, 8)] == [0, 1]
    made._seats.give(0, 8)  # another service's pod is gone: the node has eight more
    moved(made, 5.0)
    assert (made.counts(), made.gpus, made.pending((made.wants[0].pool, 8))) == ((1, 2, 0), 24, 0)
    assert moved(made, 35.0).counts() == (3, 0, 0)


def test_a_change_of_tp_keeps_as_many_old_ones_as_are_not_replaced_yet() -> None:
    made = pool(replicas=2, servers=3)
    made.scale([Want(KEY, 8, 2)], 0.0)
    moved(made, 5.0)
    assert made.counts() == (2, 2, 0), "the old two serve while the new two start"
    assert nodes(made) == [0, 0, 1, 2]
    moved(made, 30.0)
    assert [pod.tp for pod in made.pods] == [8, 8], "idle old ones are gone in the same moment"
    assert made.gpus == 16


def test_without_room_one_server_is_cleared_and_the_other_serves_until_the_new_one_is_ready() -> None:
    """Four of tp 4 on two servers, two of tp 8 wanted: 5 s one server is cleared, 10 to 40 s a new one starts there."""
    made = pool(replicas=4)
    made.scale([Want(KEY, 8, 2)], 0.0)
    stood = {}
    for now_s in np.arange(5.0, 90.0, 5.0):
        moved(made, now_s)
        ready = made.counts()[0]
        stood[float(now_s)] = (sum(pod.tp == 4 for pod in made.pods), sum(pod.tp == 8 for pod in made.pods), ready)
        assert ready >= 1, "the pool is never empty"
    assert stood[5.0] == (2, 0, 2)
    assert stood[10.0] == stood[35.0] == (2, 1, 2)
    assert stood[40.0] == (1, 1, 2), "one of two is Ready: half of the old ones may go"
    assert stood[45.0] == (0, 1, 1), "the last one is in the way of the second"
    assert stood[50.0] == stood[75.0] == (0, 2, 1)
    assert stood[80.0] == (0, 2, 2)


def test_room_that_is_coming_is_waited_for() -> None:
    """Both servers are busy to the last replica: two drain for a new one, and no third while they do."""
    made = moved(pool(trace(*[1.0] * 4), replicas=4), 5.0)
    made.scale([Want(KEY, 8, 1)], 5.0)
    for now_s in (10.0, 15.0, 20.0):
        assert moved(made, now_s).counts() == (2, 1, 2)


def test_one_server_has_no_choice() -> None:
    made = pool(servers=1, replicas=2)
    made.scale([Want(KEY, 8, 1)], 0.0)
    moved(made, 5.0)
    assert (made.counts(), made.gpus) == ((0, 1, 0), 0)
    assert moved(moved(made, 10.0), 40.0).counts() == (1, 0, 0)


def test_to_nothing_and_back() -> None:
    made = pool(replicas=2)
    made.scale([Want(KEY, 4, 0)], 10.0)
    assert (made.counts(), made.gpus) == ((0, 0, 0), 0)
    made.scale([Want(KEY, 8, 1)], 20.0)
    assert moved(made, 50.0).counts() == (1, 0, 0)


@pytest.mark.parametrize("cap_mhz", [None, 990.0, 1000.0])
def test_a_cap_reaches_the_replicas_that_stand_and_those_to_come(cap_mhz: float | None) -> None:
    """1000 MHz is not on the grid of 15: 990 holds."""
    made = pool()
    made.cap(0.0)
    made.scale([Want(KEY, 4, 2, clock_cap_mhz=cap_mhz)], 1.0)
    moved(made, 60.0).cap(60.0)
    expected = 1.0 if cap_mhz is None else 990 / 1980
    assert [made.world.replicas[pod.slot]["asked_ratio"] for pod in made.pods] == [expected] * 2


def test_a_nodes_cap_is_that_nodes_alone() -> None:
    made = pool(replicas=3)
    made.cap(0.0, [(None, None), (990.0, 400.0)])
    moved(made, 1.0)
    asked = [
        (made.world.replicas[p.slot]["asked_ratio"], made.world.replicas[p.slot]["asked_limit_w"]) for p in made.pods
    ]
    assert asked == [(1.0, math.inf), (1.0, math.inf), (0.5, 400.0)]


# --- power domains -----------------------------------------------------------------------------------

HOMES = ("tight", "roomy")
AWAY = PowerPlan(moves=(Move("tight", "roomy", 4),))


def test_a_replica_leaves_a_domain_once_another_is_ready_elsewhere() -> None:
    made = pool(replicas=2)
    assert made.places(HOMES) == (Place("tight", 4, 2),)
    made.prefer((2, 0))
    made.follow(AWAY, HOMES)
    assert moved(made, 0.1).places(HOMES) == (Place("roomy", 4, 0, starting=1), Place("tight", 4, 2))
    assert moved(made, 29.9).counts()[0] == 2
    assert moved(made, 31.0).places(HOMES) == (Place("roomy", 4, 1), Place("tight", 4, 1))


def test_nothing_leaves_for_a_domain_without_room() -> None:
    made = pool(replicas=4)
    made.follow(AWAY, HOMES)
    assert moved(made, 0.1).places(HOMES) == (Place("roomy", 4, 2), Place("tight", 4, 2))
    assert moved(made, 100.0).places(HOMES) == (Place("roomy", 4, 2), Place("tight", 4, 2))


def test_weights_of_domains_come_and_go() -> None:
    made = pool(replicas=3)
    shares = (Share("tight", 4, 0.4), Share("roomy", 4, 1.0))
    made.follow(PowerPlan(shares), HOMES)
    assert [float(made.world.replicas[pod.slot]["weight"]) for pod in made.pods] == [0.4, 0.4, 1.0]
    made.follow(PowerPlan(), HOMES)
    assert [float(made.world.replicas[pod.slot]["weight"]) for pod in made.pods] == [1.0, 1.0, 1.0]


def test_new_replicas_go_where_it_is_preferred_then_anywhere() -> None:
    """Best fit alone would fill the first server."""
    made = pool(replicas=1)
    made.prefer((1, 0))
    made.scale([Want(KEY, 4, 4)], 0.0)
    assert nodes(made) == [0, 1, 1, 0]
