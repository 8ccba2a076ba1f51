"""A node is lost: its replicas and the requests in them are gone, the rest serves on, what was wanted starts anew."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from capstan.replay import engine, kernel
from capstan.replay.nodes import Node, Seats
from capstan.replay.pool import Pool
from capstan.replay.runs import Requests, Run
from capstan.replay.scenario import NodeLoss, Scenario
from capstan.replay.seen import Want
from support import builders, small
from support.small import KEY, STARTUP_S, Scripted

LONG = 4000
"""Output tokens of an answer that is still being made when its node goes."""


def trace(*arrivals_s: float, output: int = LONG) -> Requests:
    count = len(arrivals_s)
    return Requests(np.array(arrivals_s), np.full(count, 100), np.full(count, output))


def world(requests: Requests, replicas: int = 2) -> kernel.World:
    made = kernel.World(requests, small.BOTH, slots=4, end_s=2000.0, compile_it=False)
    for _ in range(replicas):
        made.create(0, now_s=0.0, ready_s=0.0)
    return made


# --- the kernel --------------------------------------------------------------------------------------


def test_what_is_in_a_lost_replica_never_ends_and_what_is_elsewhere_does() -> None:
    """Two long answers, one in each replica: one is lost half-way, its first token was made."""
    made = world(trace(1.0, 1.0))
    made.lose(0, 10.0)
    made.advance(1000.0)
    assert np.isfinite(made.first_s).all()
    assert np.isnan(made.finish_s).tolist() == [True, False]
    assert (made.refused, made.finished_count, made.unfinished) == (1, 1, 0)
    made.check()


def test_requests_that_waited_in_it_are_lost_too() -> None:
    """One replica, two requests: the second has had no step when the replica goes 1 ms after its arrival."""
    made = world(trace(1.0, 2.0), replicas=1)
    made.lose(0, 2.001)
    made.advance(100.0)
    assert made.refused == 2
    assert made.totals().running == made.totals().waiting == 0


@pytest.mark.parametrize("at_s", [0.5, 1.05, 1.5, 20.0], ids=["idle", "in its prompt", "decoding", "long decoding"])
def test_joules_up_to_the_loss_are_kept_and_none_come_after_it(at_s: float) -> None:
    """The replica drew what it would have drawn without the loss, up to that moment; then nothing more."""
    whole, lost = world(trace(1.0), replicas=1), world(trace(1.0), replicas=1)
    whole.advance(at_s)
    lost.lose(0, at_s)
    assert lost.totals().energy_j == pytest.approx(whole.totals().energy_j, rel=1e-9)
    lost.advance(at_s + 100)
    assert lost.totals().energy_j == pytest.approx(whole.totals().energy_j, rel=1e-9)
    lost.check()


def test_its_slot_is_used_again_by_a_replica_without_a_past() -> None:
    made = world(trace(1.0, 30.0), replicas=1)
    made.lose(0, 10.0)
    assert made.take_gone() == [0]
    assert made.create(0, now_s=20.0, ready_s=25.0) == 0
    made.advance(1000.0)
    alone = world(trace(30.0), replicas=1)
    alone.advance(1000.0)
    assert made.finish_s[1] == alone.finish_s[0], "as if nobody had been there before"
    made.check()


def test_losing_what_is_gone_is_nothing() -> None:
    made = world(trace(1.0), replicas=1)
    made.lose(0, 5.0)
    made.lose(0, 6.0)
    assert made.refused == 1


# --- the fleet ---------------------------------------------------------------------------------------


def test_nobody_is_placed_on_a_lost_node_until_it_is_back_empty() -> None:
    seats = Seats((Node("gpu-0", 8, builders.H100), Node("gpu-1", 8, builders.H100)))
    assert seats.take(4, (builders.H100,)) == 0
    seats.lose(0)
    seats.give(0, 4)  # the pod that was on it
    assert seats.free == [0, 8]
    assert seats.take(4, (builders.H100,)) == 1
    seats.back(0)
    assert seats.free == [8, 4]


def test_replicas_of_a_lost_node_are_pending_again() -> None:
    """Three of tp 4 on two nodes of 8 GPUs: two go with the first node, and the second has room for one of them."""
    seats = Seats(tuple(Node(f"gpu-{i}", 8, builders.H100) for i in range(2)))
    made = Pool(world(trace(1000.0), replicas=0), small.BOTH, seats, startup_s=STARTUP_S)
    made.start_ready([Want(KEY, 4, 3)], 0.0)
    made.world.advance(10.0)
    seats.lose(0)
    made.lose(0, 10.0)
    assert made.counts() == (1, 2, 0)
    made.settle(15.0)
    assert [pod.node for pod in made.pods] == [1, 1]
    assert made.gpu_seconds == 2 * 4 * 10.0
    made.world.advance(15.0 + STARTUP_S)
    assert made.counts() == (2, 1, 0)


# --- whole runs --------------------------------------------------------------------------------------


def lossy(*losses: NodeLoss, replicas: int = 3) -> Scenario:
    return dataclasses.replace(small.scenario(replicas=replicas), losses=losses)


def play(scenario: Scenario) -> Run:
    start = scenario.services[0].start
    return engine.run(scenario, Scripted({0.0: start}))


def test_a_run_says_when_and_its_answers_on_that_node_are_missing() -> None:
    """Two of three replicas go: a share of what was inside is lost, everything later is served."""
    run = play(lossy(NodeLoss(40.0, "gpu-0", back_s=60.0)))
    assert [(mark.t_s, mark.text) for mark in run.marks] == [(40.0, "gpu-0 is lost"), (60.0, "gpu-0 is back")]
    outcomes = run.services[0].outcomes
    missing = np.isnan(outcomes.finish_s)
    assert 1 <= missing.sum() <= 20
    assert outcomes.requests.arrival_s[missing].max() < 45.0, "lost at the end of the tick, at 45 s at the latest"


def test_new_pods_start_on_what_is_left_and_on_the_node_when_it_is_back() -> None:
    series = play(lossy(NodeLoss(42.0, "gpu-0", back_s=62.0))).services[0].series
    at = {
        float(t_s): (int(ready), int(gpus))
        for t_s, ready, gpus in zip(series.t_s, series.replicas_ready, series.gpus, strict=True)
    }
    assert at[40.0] == (3, 12)
    assert at[45.0] == (1, 4)
    assert at[50.0] == (1, 8), "room for one of two on the node that is left"
    assert at[70.0] == (1, 12), "the other on the node that is back"
    assert (at[85.0], at[100.0]) == ((2, 12), (3, 12)), "30 s after each of them came"


def test_a_node_that_is_away_draws_nothing() -> None:
    """The second server is empty; while it is away, 8 GPUs less draw their unloaded watts: exactly that is missing."""
    whole, lost = play(lossy(replicas=1)), play(lossy(NodeLoss(40.0, "gpu-1"), replicas=1))
    away_s = whole.duration_s - 40.0
    unloaded_w = small.TP4.draw.unloaded_w * 8
    tick = 5.0 * unloaded_w
    assert whole.energy_unassigned_j - lost.energy_unassigned_j == pytest.approx(away_s * unloaded_w, abs=tick)


@pytest.mark.parametrize(("t_s", "back_s"), [(-1.0, 5.0), (5.0, 5.0), (math.nan, 9.0)])
def test_a_loss_has_a_time_and_a_later_return(t_s: float, back_s: float) -> None:
    with pytest.raises(ValueError, match="a node is lost at 0 or later"):
        NodeLoss(t_s, "gpu-0", back_s)
