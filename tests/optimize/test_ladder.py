"""What is done for a policy while a domain caps it: weights, shares to refuse, moves; each by hand, then for all."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import headroom, plan
from capstan.model.headroom import DomainSeen, Place
from capstan.model.policy import Policy, Priority
from capstan.model.sample import Fresh
from capstan.optimize import ladder, sizing, watts
from capstan.optimize.case import Case, Settings
from capstan.optimize.watts import Allowance
from support.builders import policy
from support.strategies import TP4, service

NOW_S = 5000.0
LENGTHS = (1000.0, 200.0, 0.9)
DEEP_MHZ = 1560.0


def domain(name: str, left_w: float, *, low_mhz: float | None = None, free: int | None = None) -> DomainSeen:
    """20 kW; low priority may grow below 16 kW."""
    ratios: dict[str, Any] = {"low_ratio": 0.8, "high_ratio": 0.9, "brake_ratio": 0.97}
    return DomainSeen(name, 20_000.0, Fresh(left_w, 1.0), low_mhz=low_mhz, free_gpus=free, **ratios)


TIGHT = domain("tight", 2000, low_mhz=DEEP_MHZ)
ROOMY = domain("roomy", 16_000)
BOTH = headroom.by_name((TIGHT, ROOMY))
FREE = ladder.PlannedClock()
SPLIT = (Place("roomy", 4, 2), Place("tight", 4, 2))


def case(rate_rps: float, places: tuple[Place, ...], own: Policy | None = None, **changes: Any) -> Case:
    """A pool of four replicas that has stood for an hour under one rate."""
    own = own or policy()
    rates = tuple((NOW_S - 5.0 * i, rate_rps) for i in reversed(range(130)))
    base = Case(
        now_s=NOW_S,
        policy=own,
        slo=own.slo,
        pool="all",
        classes=(),
        seen=service((), rate=rate_rps, capped=True, places=places),
        pools=(),
        profiles=(TP4,),
        memory=plan.PoolMemory("all", rates, LENGTHS, fleet=((4, 4),)),
        settings=Settings(),
        allowance=Allowance(growth_gpus=8),
    )
    return dataclasses.replace(base, **changes)


def planned(
    rate_rps: float,
    places: tuple[Place, ...] = SPLIT,
    *,
    before: plan.PowerMemory = plan.NO_POWER_MEMORY,
    moves: bool = True,
    own: Policy | None = None,
) -> plan.PowerPlan:
    return ladder.power_plan(case(rate_rps, places, own), BOTH, before, clock=FREE, moves=moves)


def capacity_rps(places: tuple[Place, ...]) -> float:
    """What the places carry at the clocks that they may have."""
    load = case(1.0, places).load(1.0)
    assert load is not None
    return sum(g.capacity_rps for g in ladder.groups_of(case(1.0, places), BOTH, load, FREE))


FULL_RPS, DEEP_RPS = (capacity_rps((Place(name, 4, 1),)) for name in ("roomy", "tight"))


def test_a_capped_replica_carries_less_by_what_its_clock_costs() -> None:
    assert 0.75 * FULL_RPS < DEEP_RPS < 0.9 * FULL_RPS


def test_nothing_is_done_while_nobody_is_capped() -> None:
    assert planned(50.0, (Place("roomy", 4, 4),)) == plan.NO_POWER_PLAN


@pytest.mark.parametrize(
    ("lacking", "before", "expected"),
    [
        (0.25, 0.0, 0.25),
        (0.251, 0.0, 0.3),
        (-0.2, 0.0, 0.0),
        (0.2, 0.25, 0.25),
        (0.16, 0.25, 0.25),
        (0.14, 0.25, 0.15),
        (-0.04, 0.05, 0.05),
        (-0.06, 0.05, 0.0),
        (1.0, 0.0, 1.0),
    ],
    ids=[
        "as much as lacks",
        "up to the next step",
        "room is no share",
        "it stands where a step less would do",
        "and where two would not",
        "two steps less",
        "the last step stands a little longer",
        "then it goes",
        "everything at most",
    ],
)
def test_what_is_shed(lacking: float, before: float, expected: float) -> None:
    assert ladder.shed_ratio(lacking, before) == pytest.approx(expected)


@given(st.floats(0.5, 80.0), st.integers(1, 4), st.integers(0, 4))
def test_where_latencies_are_not_known_low_priority_loads_no_replica_above_nine_tenths(
    rate: float, tight: int, roomy: int
) -> None:
    places = (Place("roomy", 4, roomy), Place("tight", 4, tight))
    found = planned(rate, places)
    assert rate * (1 - found.shed_ratio) <= 0.9 * capacity_rps(places) * 1.001
    assert found.shed_ratio <= max(1 - 0.9 * capacity_rps(places) / rate, 0) + ladder.SHED_STEP_RATIO


@pytest.mark.parametrize(
    ("utilisation", "ttft_s", "tpot_s", "requests", "shed"),
    [
        (0.97, 0.4, 0.05, 500.0, 0.0),
        (1.005, 0.4, 0.05, 500.0, 0.0),
        (1.03, 0.4, 0.05, 500.0, 0.05),
        (0.97, 1.1, 0.05, 500.0, 0.1),
        (0.97, 0.4, 0.095, 500.0, 0.1),
        (0.97, 0.4, 0.05, 150.0, 0.1),
        (0.97, None, 0.05, 500.0, 0.1),
        (0.89, None, None, 500.0, 0.0),
    ],
    ids=[
        "in time",
        "a queue that stays below half of the limit until the next window",
        "one that does not",
        "past half of the limit",
        "tokens near theirs",
        "too few to know",
        "nobody knows",
        "there is room",
    ],
)
def test_nobody_is_refused_while_who_waits_is_in_time(
    utilisation: float, ttft_s: float | None, tpot_s: float | None, requests: float, shed: float
) -> None:
    """Limits of 2 s and 100 ms: at 0.4 s a queue may grow by (1 - 0.4) / 60 s, 1 %, until the next window shows it."""
    quantiles = {"ttft_s": ttft_s, "tpot_s": tpot_s, "sample_requests": requests}
    one = case(utilisation * capacity_rps(SPLIT), SPLIT)
    known: dict[str, Any] = {name: Fresh(value, 1.0) for name, value in quantiles.items() if value is not None}
    one = dataclasses.replace(one, seen=dataclasses.replace(one.seen, **known))
    found = ladder.power_plan(one, BOTH, plan.NO_POWER_MEMORY, clock=FREE, moves=False)
    assert found.shed_ratio == pytest.approx(shed)


@given(st.floats(0.5, 80.0), st.integers(1, 4))
def test_high_priority_is_never_shed_and_owes_what_it_lacks(rate: float, count: int) -> None:
    tight = dataclasses.replace(TIGHT, high_mhz=DEEP_MHZ)
    places = (Place("tight", 4, count),)
    own = policy(priority=Priority.HIGH)
    found = ladder.power_plan(
        case(rate, places, own), headroom.by_name((tight,)), plan.NO_POWER_MEMORY, clock=FREE, moves=False
    )
    assert found.shed_ratio == 0
    assert found.indebted == (rate > 0.9 * capacity_rps(places))


def test_requests_leave_the_capped_domain_as_far_as_the_other_has_room() -> None:
    """Light load: the uncapped replicas take nearly all. Heavy load: each takes what it can."""
    light, heavy = (planned(share * capacity_rps(SPLIT)) for share in (0.4, 0.95))
    assert [share.domain for share in light.shares] == ["roomy", "tight"]
    assert light.shares[0].weight_ratio == 1.0
    assert light.shares[1].weight_ratio <= 0.3
    assert heavy.shares[1].weight_ratio >= 0.8


def test_no_more_is_sent_than_the_watts_of_the_other_domain_carry() -> None:
    """2 kW below the line instead of 12: a few requests a second more, and the capped ones keep the rest."""
    rate = 0.4 * capacity_rps(SPLIT)
    scarce = headroom.by_name((TIGHT, domain("roomy", 4500)))
    found = ladder.power_plan(case(rate, SPLIT), scarce, plan.NO_POWER_MEMORY, clock=FREE, moves=False)
    assert found.shares[1].weight_ratio > planned(rate).shares[1].weight_ratio


def test_weights_in_force_stand_while_none_is_more_than_a_step_off() -> None:
    rate = 0.6 * capacity_rps(SPLIT)
    found = planned(rate).shares
    for steps, stands in ((1, True), (2, False)):
        moved = (found[0], dataclasses.replace(found[1], weight_ratio=found[1].weight_ratio + steps / 10))
        again = planned(rate, before=plan.PowerMemory(shares=moved)).shares
        assert (again == moved) is stands


ALL_TIGHT = (Place("tight", 4, 4),)


@pytest.mark.parametrize(
    ("rate_ratio", "allowance", "free", "moves"),
    [
        (0.95, Allowance(growth_gpus=8), None, 1),
        (0.95, Allowance(growth_gpus=None), None, 1),
        (0.8, Allowance(growth_gpus=8), None, 0),
        (0.95, Allowance(growth_gpus=3), None, 0),
        (0.95, Allowance(growth_gpus=8), 3, 0),
    ],
    ids=["watts for both", "watts limit nobody", "nothing lacks", "no watts for it", "no GPUs for it"],
)
def test_a_replica_moves_when_something_lacks_and_there_is_room(
    rate_ratio: float, allowance: Allowance, free: int | None, moves: int
) -> None:
    own = case(rate_ratio * capacity_rps(ALL_TIGHT), ALL_TIGHT, allowance=allowance)
    known = headroom.by_name((TIGHT, domain("roomy", 16_000, free=free)))
    found = ladder.power_plan(own, known, plan.NO_POWER_MEMORY, clock=FREE, moves=True)
    assert found.moves == (plan.Move("tight", "roomy", 4),) * moves
    assert ladder.power_plan(own, known, plan.NO_POWER_MEMORY, clock=FREE, moves=False).moves == ()


def test_at_a_clock_that_keeps_no_limit_only_what_is_not_served_at_all_is_shed() -> None:
    """At the brake's clock one token takes longer than its limit: the SLO is owed, and the queue stays bounded."""
    brake = headroom.by_name((domain("tight", 0, low_mhz=345),))
    strict = dataclasses.replace(policy().slo, tpot_s=0.005)
    own = case(1.0, ALL_TIGHT, slo=strict)
    found = ladder.power_plan(own, brake, plan.NO_POWER_MEMORY, clock=FREE, moves=False)
    assert sizing.capacity_rps(TP4, own.load(0.0), strict, x=345 / 1980) == 0
    assert found.indebted
    assert found.shed_ratio == 0.0


def test_a_class_of_four_domains_at_most_is_claimed_for() -> None:
    """The roomiest first; a capped one is none of them."""
    many = [domain(f"d{i}", 10_000 + 100 * i) for i in range(6)]
    assert watts.roomiest(headroom.by_name([*many, TIGHT]), Priority.LOW)[:2] == ["d5", "d4"]
