"""A trace as a few loads: nothing is lost, the busiest minute stands alone, and few groups are enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model.policy import Bounds
from capstan.replay import traces
from capstan.replay.runs import Requests
from capstan.replay.setups import demand
from capstan.replay.setups.demand import Stretch
from capstan.replay.setups.kinds import Setup
from support import builders, setups, small

TP4 = builders.profile()


def trace(*minutes: int, prompt: int = 600, output: int = 2) -> Requests:
    """`minutes[k]` requests evenly over minute k, answered in it."""
    at = [60.0 * k + 60.0 * i / count for k, count in enumerate(minutes) for i in range(count)]
    return Requests(np.array(at), np.full(len(at), prompt), np.full(len(at), output))


def arrivals(found: tuple[Stretch, ...]) -> float:
    return sum(each.lasting_s * each.load.arrival_rps for each in found if each.load is not None)


def test_the_busiest_minute_comes_first_and_alone() -> None:
    found = demand.stretches(trace(30, 90, 60, 30), TP4, groups=2)
    assert found[0].lasting_s == 60
    assert found[0].load is not None
    assert found[0].load.arrival_rps == pytest.approx(1.5)
    assert sum(each.lasting_s for each in found) == 240


def test_lengths_that_do_not_vary_have_no_variation() -> None:
    load = demand.stretches(trace(30, 30), TP4)[0].load
    assert load is not None
    assert (load.prompt_tokens, load.prompt_cv2_ratio) == (600, 0)


def test_minutes_without_a_request_are_idle() -> None:
    """Two requests of two tokens, nine minutes apart: between them nothing is to be done."""
    requests = Requests(np.array([0.0, 599.0]), np.array([10, 10]), np.array([2, 2]))
    found = demand.stretches(requests, TP4, groups=9)
    assert sum(each.lasting_s for each in found if each.load is None) == 480


@settings(max_examples=30)
@given(minutes=st.lists(st.integers(1, 40), min_size=1, max_size=30), groups=st.integers(1, 12))
def test_no_request_and_no_second_is_lost(minutes: list[int], groups: int) -> None:
    requests = trace(*minutes)
    found = demand.stretches(requests, TP4, groups=groups)
    assert arrivals(found) == pytest.approx(len(requests), rel=1e-9)
    assert sum(each.lasting_s for each in found) >= 60 * len(minutes)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_groups_do_not_depend_on_the_order_of_minutes(seed: int) -> None:
    counts = np.random.default_rng(seed).permutation([10, 20, 30, 40, 50, 60])
    one, other = (demand.stretches(trace(*c), TP4, groups=3) for c in (counts.tolist(), sorted(counts)))
    rates = [[each.load.arrival_rps for each in found if each.load is not None] for found in (one, other)]
    assert rates[0] == pytest.approx(rates[1])


def test_groups_are_as_good_as_every_minute_by_itself(shared_data: Path) -> None:
    """The figure that `demand.GROUPS` states, on Azure's conversation hour (the shared half)."""
    file = shared_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.first_half.csv"
    requests = traces.read(file).requests
    joules = []
    for groups in (demand.GROUPS, 60):
        parts = demand.stretches(requests, small.TP4, groups=groups)
        screen = setups.screen(stretches=parts, bounds=Bounds(1, 8))
        joules.append(screen.at(Setup(setups.OWN, 2, 1500.0)).energy_j)
    assert joules[0] == pytest.approx(joules[1], rel=3e-3)
