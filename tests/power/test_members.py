"""What a node is to a ledger: whole watts at both ends, and who can hold no grant."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.power import members, ports
from capstan.powercap import grants
from capstan.powercap.domains import Domain

RACK = Domain("rack-7", 12_000, non_gpu_worst_w=500, supply_efficiency_ratio=0.94)


def gpu(index: int = 0, *, enforced_w: float | None = 700, min_w: float = 200, max_w: float = 700) -> ports.GpuReport:
    return ports.GpuReport(index, "", "", 100.0, max_w, min_w, None, enforced_limit_w=enforced_w, persistent=True)


def report(*gpus: ports.GpuReport, kept: tuple[int, int] | None = (1, 1)) -> ports.AgentReport:
    return ports.AgentReport("gpu-0", 1, 1, 1, 0.2, safe=False, gpus=gpus, kept=kept)


@pytest.mark.parametrize(
    "said",
    [
        report(gpu(), gpu(1, enforced_w=None)),
        report(gpu(min_w=0)),
        report(),
        report(gpu(), kept=None),
    ],
    ids=["a board that hides its limit", "one that was never described", "no board", "an agent of before grants"],
)
def test_a_node_that_can_hold_no_grant_is_no_member(said: ports.AgentReport) -> None:
    assert members.member(said, (RACK,), high=False) is None


@given(st.integers(1, 16), st.floats(50, 400), st.floats(1, 800), st.floats(0, 5000), st.floats(0.5, 1))
def test_floor_and_ceiling_are_whole_and_their_limits_are_in_the_boards_range(
    count: int, min_w: float, more_w: float, non_gpu_w: float, supplies: float
) -> None:
    """A grant of whole watts and the whole limit made of it never say less than what the board then enforces."""
    boards = tuple(gpu(i, min_w=min_w, max_w=min_w + more_w) for i in range(count))
    domain = dataclasses.replace(RACK, non_gpu_worst_w=non_gpu_w, supply_efficiency_ratio=supplies)
    one = members.member(report(*boards), (domain,), high=False)
    assert one is not None
    for watts in (one.floor_w, one.ceiling_w):
        assert abs(watts - round(watts)) < 1e-5
    for granted_w in (members.whole_up(one.floor_w), members.whole_up(one.ceiling_w)):
        enforced_w = min(max(members.limit_w(one, granted_w), min_w), min_w + more_w)
        assert grants.grant_w(one, enforced_w) <= granted_w + 1e-6


def test_a_node_in_two_domains_counts_by_the_worse_of_what_they_state() -> None:
    """95 % and 450 W in one, 94 % and 500 W in the other: 94 % and 500 W."""
    other = dataclasses.replace(RACK, name="row-1", non_gpu_worst_w=450, supply_efficiency_ratio=0.95)
    one = members.member(report(gpu()), (RACK, other), high=True)
    assert one is not None
    assert (one.domains, one.non_gpu_worst_w, one.supply_efficiency_ratio) == (("rack-7", "row-1"), 500, 0.94)


@pytest.mark.parametrize(
    ("boards", "expected_w"),
    [
        ((gpu(enforced_w=300), gpu(1, enforced_w=400)), 400),
        ((gpu(enforced_w=300), gpu(1, enforced_w=None)), None),
        ((gpu(enforced_w=300), dataclasses.replace(gpu(1, enforced_w=300), persistent=False)), None),
    ],
    ids=["the loosest board counts for all", "one is not known", "one may forget its limit"],
)
def test_what_a_nodes_limits_amount_to(boards: tuple[ports.GpuReport, ...], expected_w: float | None) -> None:
    one = members.member(report(gpu(), gpu(1)), (RACK,), high=False)
    assert one is not None
    found = members.enforced_w(one, boards)
    assert found == (None if expected_w is None else grants.grant_w(one, expected_w))


@given(st.floats(0, 1e6))
def test_rounding_goes_its_way(watts: float) -> None:
    assert members.whole_down(watts) <= watts + 1e-6
    assert members.whole_up(watts) >= watts - 1e-6
    assert math.isclose(members.whole_up(members.whole_down(watts)), members.whole_down(watts))
