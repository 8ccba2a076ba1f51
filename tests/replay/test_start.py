"""What stands when a run begins: enough for the first minutes, and for all services together no more than there is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from capstan.api.scenario import SloSet
from capstan.model.policy import Bounds
from capstan.replay import load, start
from capstan.replay.nodes import Node
from capstan.replay.options import Options
from capstan.replay.runs import Requests
from capstan.replay.seen import Service, Want
from support import api, builders, small


def nodes(servers: int) -> tuple[Node, ...]:
    return tuple(Node(f"gpu-{i}", 8, builders.H100) for i in range(servers))


def service(name: str, tp: int, replicas: int, *, least: int = 1) -> Service:
    (made,) = small.scenario().services
    policy = dataclasses.replace(made.policy, key=f"llm/{name}", bounds=Bounds(least, 16, tensor_parallel=(4, 8)))
    return dataclasses.replace(made, policy=policy, start=Want(policy.key, tp, replicas))


def shared(*services: Service, servers: int) -> list[tuple[int, int]]:
    return [(s.start.tp, s.start.replicas) for s in start.shared(services, nodes(servers))]


def test_what_fits_together_stays() -> None:
    assert shared(service("a", 8, 2), service("b", 4, 4), servers=4) == [(8, 2), (4, 4)]


def test_the_one_with_most_gpus_gives_up_until_all_have_a_place() -> None:
    """Four servers: 32 + 12 GPUs. The first gives two replicas of 8, then 16 + 12 fit."""
    assert shared(service("a", 8, 4), service("b", 4, 3), servers=4) == [(8, 2), (4, 3)]


def test_nobody_falls_below_its_least_count() -> None:
    """Two servers: 16 + 12 GPUs, and the first keeps both; the second gives up all but one."""
    assert shared(service("a", 8, 2, least=2), service("b", 4, 3), servers=2) == [(8, 2), (4, 1)]


def test_gpus_count_where_they_lie() -> None:
    """Three of tp 4 and one of tp 8 are 20 GPUs of 24, and have a place: best fit packs the small ones."""
    assert shared(service("a", 4, 3), service("b", 8, 1), servers=3) == [(4, 3), (8, 1)]


# --- the load that it is sized for -----------------------------------------------------------------------


def test_the_busiest_of_the_first_ten_minutes_counts_and_lengths_vary_as_they_do() -> None:
    """60 in the first minute, 120 in the third, 600 in the twentieth; prompts of 100 and 300: mean 200, cv2 1/4."""
    minutes = np.repeat([0.0, 2.0, 19.0], [60, 120, 600])
    requests = Requests(minutes * 60 + 1, np.tile([100, 300], 390), np.full(780, 7))
    load = start.first_load(requests)
    assert (load.arrival_rps, load.prompt_tokens, load.output_tokens) == (2.0, 200.0, 7.0)
    assert load.prompt_cv2_ratio == pytest.approx(0.25)


def test_who_comes_later_than_ten_minutes_is_what_there_is() -> None:
    requests = Requests(np.array([900.0, 901.0]), np.array([10, 10]), np.array([5, 5]))
    assert start.first_load(requests).arrival_rps == pytest.approx(2 / 60)


# --- a server that one replica fills ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens_per_s", "servers", "expected"),
    [(650, 1, (4, 2)), (650, 2, (4, 3)), (4000, 1, (8, 1))],
    ids=["two halves are a start that can be left", "room for a spare", "nothing smaller carries it"],
)
def test_a_lone_replica_that_fills_the_fleet_is_no_start_where_another_degree_carries_the_load(
    tokens_per_s: int, servers: int, expected: tuple[int, int]
) -> None:
    asked = Options(slo=SloSet.CLASS, servers=(servers,))
    loaded = load.read(api.POLICIES / "scenarios" / f"steady-{tokens_per_s}.yaml", asked)
    (found,) = loaded.scenario(servers=servers).services
    assert (found.start.tp, found.start.replicas) == expected
