"""What decides must survive: nonsense, silence, clocks that go backwards, pools that vanish. Capacity never falls."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from capstan.model import fleet, plan
from capstan.model.classes import Edges
from capstan.model.policy import Bounds, Knob, Knobs, Policy, Pools
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample, Stale
from capstan.model.slo import Slo
from support.builders import policy
from support.strategies import TP4, Loop, demand, service

EVERYTHING = Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ACT, clock=Knob.ACT)
TIERED = Slo(2.0, 0.1, 0.99, ((256, 0.25), (1024, 0.4)))
BY_CLASS = policy(
    slo=TIERED, bounds=Bounds(1, 12, tensor_parallel=(4, 8)), knobs=EVERYTHING, pools=Pools(by_class=True, count=3)
)
ONE_POOL = policy(bounds=Bounds(1, 12, tensor_parallel=(4, 8)), knobs=EVERYTHING)
USUAL = (demand(0, 6.0), demand(1, 4.0), demand(4, 5.0), demand(7, 3.0))


def gpus(decided: plan.PolicyDecision) -> int:
    return sum(pool.gpus for pool in decided.pools)


def settled(subject: Policy) -> Loop:
    """A loop that has served the usual load for a while."""
    loop = Loop(subject)
    loop.cycle(service(USUAL), times=6)
    return loop


NONSENSE: dict[str, dict[str, Any]] = {
    "a rate that is no number": {"arrival_rps": Fresh(math.nan, 1.0)},
    "an infinite rate": {"arrival_rps": Fresh(math.inf, 1.0)},
    "a rate below zero": {"arrival_rps": Fresh(-3.0, 1.0)},
    "prompts that are no number": {"prompt_tokens": Fresh(math.nan, 1.0)},
    "answers that are no number": {"output_tokens": Fresh(math.nan, 1.0)},
    "a queue that is no number": {"waiting": Fresh(math.nan, 1.0)},
    "a stress that is no number": {"stress_ratio": Fresh(math.nan, 1.0)},
    "classes whose rates are no numbers": {"classes": (dataclasses.replace(USUAL[0], arrival_rps=math.nan),)},
    "no prompts at all": {"prompt_tokens": Fresh(0.0, 1.0), "output_tokens": Fresh(0.0, 1.0)},
}


@pytest.mark.parametrize("subject", [ONE_POOL, BY_CLASS], ids=["one pool", "class pools"])
@pytest.mark.parametrize("case", list(NONSENSE), ids=list(NONSENSE))
def test_nonsense_is_no_reason_to_fall(case: str, subject: Policy) -> None:
    usual = service(USUAL) if subject is BY_CLASS else dataclasses.replace(service(USUAL), classes=())
    loop = Loop(subject)
    before = loop.cycle(usual, times=7)
    for _ in range(15):
        after = loop.cycle(dataclasses.replace(usual, **NONSENSE[case]))
        assert gpus(after) >= gpus(before)
    again = loop.cycle(usual, times=2)
    assert gpus(again) >= gpus(before), "what was seen once does not stay in memory"
    assert again.replicas_reason in tuple(Reason)


SILENCE: dict[str, tuple[Sample[float], Reason]] = {
    "Prometheus is down": (Missing(Reason.SOURCE_DOWN), Reason.SOURCE_DOWN),
    "no series": (Missing(Reason.NO_DATA), Reason.NO_DATA),
    "an old sample": (Stale(0.0, 300.0), Reason.STALE_DATA),
}


@pytest.mark.parametrize("case", list(SILENCE), ids=list(SILENCE))
@pytest.mark.parametrize("subject", [ONE_POOL, BY_CLASS], ids=["one pool", "class pools"])
def test_silence_keeps_every_pool_and_gives_up_every_cap(subject: Policy, case: str) -> None:
    rate, reason = SILENCE[case]
    loop = settled(subject)
    before = loop.cycle(service(USUAL))
    after = loop.cycle(service(USUAL, rate=rate), times=40)
    assert [(p.pool, p.tp, p.replicas) for p in after.pools] == [(p.pool, p.tp, p.replicas) for p in before.pools]
    assert {pool.clock_cap_mhz for pool in after.pools} == {None}
    assert (after.replicas_reason, after.clock_reason) == (reason, reason)


@pytest.mark.parametrize("subject", [ONE_POOL, BY_CLASS], ids=["one pool", "class pools"])
def test_counters_that_reset_say_zero_and_nothing_falls_within_a_cluster_period(subject: Policy) -> None:
    loop = settled(subject)
    before = loop.cycle(service(USUAL))
    after = loop.cycle(service((), rate=0.0), times=4)  # 20 s and the 35 before of 60
    assert gpus(after) >= gpus(before)


@pytest.mark.parametrize("subject", [ONE_POOL, BY_CLASS], ids=["one pool", "class pools"])
def test_a_clock_that_goes_backwards_removes_nothing_and_invents_no_demand(subject: Policy) -> None:
    loop = settled(subject)
    before = loop.cycle(service(USUAL))
    loop.now_s -= 500.0
    after = loop.cycle(service(USUAL), times=5)
    assert gpus(after) >= gpus(before)
    for known in loop.memory.policies[0].classes:
        usual = next(one for one in USUAL if one.code == known.code)
        assert known.arrival_rps == pytest.approx(usual.arrival_rps, rel=0.01)


@pytest.mark.parametrize("subject", [ONE_POOL, BY_CLASS], ids=["one pool", "class pools"])
def test_pools_that_vanish_in_mid_change_are_asked_for_again(subject: Policy) -> None:
    loop = settled(subject)
    before = loop.cycle(service(USUAL))
    after = loop.cycle(service(USUAL, pools=()), keep=True)
    assert gpus(after) >= gpus(before)
    assert {pool.pool for pool in after.pools} == {pool.pool for pool in before.pools}


def test_a_class_nobody_asked_for_gets_no_traffic_and_harms_nobody() -> None:
    loop = settled(BY_CLASS)
    before = loop.cycle(service(USUAL))
    after = loop.cycle(service((*USUAL, fleet.ClassDemand(8, 0.0, 3000.0, 500.0))), times=3)
    assert gpus(after) >= gpus(before)
    assert all(one.code != 8 for one in loop.memory.policies[0].classes)


def test_a_service_that_stops_telling_classes_apart_is_asked_as_usual() -> None:
    """18 rps, of which class 7 has 3 as a rule: the pool of long prompts is asked 3 rps, not none."""
    loop = settled(BY_CLASS)
    before = loop.cycle(service(USUAL))
    after = loop.cycle(service((), rate=18.0), times=10)
    assert gpus(after) >= gpus(before)
    rates = {pool.pool: pool.rates[-1][1] for pool in loop.memory.policies[0].pools}
    assert rates == pytest.approx({"s": 10.0, "m": 5.0, "l": 3.0}, rel=0.01)


def test_class_edges_that_are_edited_start_anew() -> None:
    """Nine classes become four: codes of the old edges mean nothing any more."""
    loop = settled(BY_CLASS)
    before = loop.cycle(service(USUAL))
    loop.policy = dataclasses.replace(BY_CLASS, pools=Pools(by_class=True, edges=Edges((256,), (100,))))
    after = loop.cycle(service((demand(0, 10.0), demand(3, 8.0))), times=2)
    assert gpus(after) >= gpus(before)
    codes = sorted(code for pool in {pool.pool: pool for pool in after.pools}.values() for code in pool.classes)
    assert codes in ([], list(range(4)))


def test_a_profile_that_is_deleted_keeps_every_pool() -> None:
    loop = settled(BY_CLASS)
    before = loop.cycle(service(USUAL))
    loop.profiles = ()
    after = loop.cycle(service(USUAL))
    assert (after.replicas_reason, after.clock_reason) == (Reason.PROFILE_MISSING, Reason.PROFILE_MISSING)
    assert [(p.pool, p.tp, p.replicas) for p in after.pools] == [(p.pool, p.tp, p.replicas) for p in before.pools]
    assert {pool.clock_cap_mhz for pool in after.pools} == {None}


def test_a_degree_without_a_profile_is_left_out() -> None:
    loop = Loop(ONE_POOL, (TP4,))
    decided = loop.cycle(service(USUAL), times=20)
    assert {pool.tp for pool in decided.pools} == {4}


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (Bounds(3, 6, max_gpus=8, tensor_parallel=(4,)), Reason.AT_MAXIMUM),
        (Bounds(2, 2, tensor_parallel=(4,)), Reason.AT_MAXIMUM),
        (Bounds(8, 8, tensor_parallel=(4,)), Reason.AT_MINIMUM),
    ],
    ids=["three replicas of four GPUs on eight", "exactly two that are too few", "exactly eight that are too many"],
)
def test_bounds_that_leave_nothing_to_choose_are_kept_with_one_reason(bounds: Bounds, reason: Reason) -> None:
    loop = Loop(policy(bounds=bounds), (TP4,))
    decided = loop.cycle(service((), rate=60.0 if reason is Reason.AT_MAXIMUM else 0.5), times=30)
    assert decided.pools[0].replicas == bounds.min_replicas
    assert decided.replicas_reason is reason


def test_a_limit_that_no_degree_keeps_serves_on_at_full_clock() -> None:
    """10 ms to the first token is less than the host takes."""
    loop = Loop(dataclasses.replace(ONE_POOL, slo=Slo(0.01, 0.1)))
    decided = loop.cycle(service(USUAL), times=20)
    assert gpus(decided) >= 8
    assert {pool.clock_cap_mhz for pool in decided.pools} == {None}
    assert (decided.replicas_reason, decided.clock_reason) == (Reason.SLO_INFEASIBLE, Reason.SLO_INFEASIBLE)


def test_a_memory_of_a_degree_that_bounds_no_longer_have_is_no_trouble() -> None:
    loop = Loop(ONE_POOL)
    loop.standing = (fleet.PoolObserved("all", 8, 3, 3),)
    before = loop.cycle(service(USUAL), times=3)
    loop.policy = dataclasses.replace(ONE_POOL, bounds=Bounds(1, 12, tensor_parallel=(4,)))
    after = loop.cycle(service(USUAL), times=3)
    assert gpus(after) >= gpus(before)
