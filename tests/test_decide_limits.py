"""What no decision may leave: GPUs, watts, bounds; and what more of either may never do."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import decide
from capstan.model import fleet, plan, power
from capstan.model.policy import Bounds, Knob, Knobs, Policy, Pools, Priority
from capstan.model.reasons import Reason
from capstan.model.slo import Slo
from support.builders import H100, policy
from support.strategies import BOTH, QUICK, Loop, demand, mixes, pools_of, service

EVERYTHING = Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ACT, clock=Knob.ACT)
TIERED = Slo(2.0, 0.1, 0.99, ((256, 0.25), (1024, 0.4)))
USUAL = (demand(0, 6.0), demand(1, 4.0), demand(4, 5.0), demand(7, 3.0))


def subject(**changes: Any) -> Policy:
    """Everything moves, over two degrees."""
    base = policy(slo=TIERED, bounds=Bounds(1, 12, tensor_parallel=(4, 8)), knobs=EVERYTHING)
    return dataclasses.replace(base, **changes)


def gpus(decided: plan.PolicyDecision) -> int:
    return sum(pool.gpus for pool in decided.pools)


def replicas(decided: plan.PolicyDecision) -> int:
    return sum(pool.replicas for pool in decided.pools)


# --- limits ------------------------------------------------------------------------------------------


@settings(max_examples=5)
@given(st.lists(mixes(), min_size=1, max_size=8), st.sampled_from((8, 16, 24, 44)), st.sampled_from((None, 1, 2, 3)))
def test_no_history_takes_more_gpus_than_the_bounds_say(
    history: list[tuple[fleet.ClassDemand, ...]], most: int, count: int | None
) -> None:
    """As many as one replica of the smallest degree per pool at least: nobody is left without a pool."""
    loop = Loop(
        subject(
            bounds=Bounds(1, 12, max_gpus=most, tensor_parallel=(4, 8)), pools=Pools(by_class=bool(count), count=count)
        )
    )
    for mix in history:
        decided = loop.cycle(service(mix), times=3)
        assert gpus(decided) <= max(most, 4 * (count or 1))


@settings(max_examples=5)
@given(st.lists(mixes(20.0), min_size=1, max_size=8), st.integers(0, 5), st.integers(0, 8), st.sampled_from((1, 2, 3)))
def test_no_history_leaves_the_bounds_of_replicas(
    history: list[tuple[fleet.ClassDemand, ...]], low: int, spread: int, count: int
) -> None:
    """All pools together; one each is the least that pools can do with."""
    bounds = Bounds(low, max(low + spread, 1), tensor_parallel=(4, 8))
    loop = Loop(subject(bounds=bounds, pools=Pools(by_class=True, count=count)))
    for mix in history:
        decided = loop.cycle(service(mix), times=2)
        assert low <= replicas(decided) <= max(bounds.max_replicas, count)


@settings(max_examples=5)
@given(st.lists(mixes(5.0), min_size=1, max_size=6), st.floats(2000.0, 12000.0), st.sampled_from((1, 3)))
def test_no_plan_is_expected_to_draw_more_than_its_budget(
    history: list[tuple[fleet.ClassDemand, ...]], budget_w: float, count: int
) -> None:
    """Where a lower clock can keep it: the lowest clock's worst case is the least that a fleet may be held to."""
    loop = Loop(subject(power_budget_w=budget_w, pools=Pools(by_class=True, count=count)))
    for mix in history:
        decided = loop.cycle(service(mix), times=4)
        least_w = sum(
            power.worst_case_w(profile, profile.clocks.ratio(profile.clocks.min_mhz)) * pool.gpus
            for pool in decided.pools
            for profile in BOTH
            if profile.tp == pool.tp
        )
        assert decided.expected.power_w is None or decided.expected.power_w <= max(budget_w, least_w) * 1.02


def test_two_services_share_what_the_fleet_has() -> None:
    """24 GPUs; both want 24 and more. High priority is served in full first, equals get half each."""
    heavy = (demand(7, 40.0),)
    for priority, expected in ((Priority.LOW, (12, 12)), (Priority.HIGH, (24, 4))):
        policies = (subject(key="llm/a", priority=priority), subject(key="llm/b"))
        standing: dict[str, tuple[fleet.PoolObserved, ...]] = {
            one.key: (fleet.PoolObserved("all", 4, 2, 2),) for one in policies
        }
        memory = plan.Memory()
        for cycle in range(6):
            seen = tuple(service(heavy, policy=key, pools=pools) for key, pools in standing.items())
            decision = decide.decide(fleet.Observed(5.0 * cycle, seen, ((H100, 24),)), policies, BOTH, memory, QUICK)
            memory = decision.memory
            standing = {decided.policy: pools_of(decided) for decided in decision.policies}
        held = tuple(gpus(decided) for decided in decision.policies)
        assert held[0] <= expected[0]
        assert held[1] <= expected[1]
        assert held[0] >= 8


def after(
    cycles: int, rates_rps: tuple[float, float], standing: tuple[int, int], *, total: int, paused_at: int | None = None
) -> tuple[tuple[int, int], plan.Memory]:
    """The GPUs of a high and a low policy of degree 4 after some cycles, and what is remembered of them."""
    bounds = Bounds(1, 28, tensor_parallel=(4,))
    policies = tuple(
        policy(key, slo=Slo(10.0, 0.2, 0.95), bounds=bounds, priority=priority)
        for key, priority in (("llm/a", Priority.HIGH), ("llm/b", Priority.LOW))
    )
    pools: dict[str, tuple[fleet.PoolObserved, ...]] = {
        one.key: (fleet.PoolObserved("all", 4, n, n),) for one, n in zip(policies, standing, strict=True)
    }
    memory = plan.Memory()
    for cycle in range(cycles):
        seen = tuple(
            service((), rate=rps, policy=one.key, pools=pools[one.key])
            for one, rps in zip(policies, rates_rps, strict=True)
        )
        if cycle == paused_at:
            policies = (dataclasses.replace(policies[0], paused=True), policies[1])
        observed = fleet.Observed(1000 + 5.0 * cycle, seen, ((H100, total),))
        decision = decide.decide(observed, policies, BOTH, memory, decide.Settings())
        memory = decision.memory
        pools |= {one.policy: pools_of(one) for one in decision.policies if one.pools}
    held = tuple(sum(pool.tp * pool.desired for pool in pools[one.key]) for one in policies)
    return (held[0], held[1]), memory


@pytest.mark.parametrize(
    ("rates_rps", "standing", "total", "held"),
    [
        ((12.0, 20.0), (8, 2), 40, (24, 16)),
        ((12.0, 20.0), (8, 2), 56, (32, 16)),
        ((12.0, 20.0), (8, 6), 56, (32, 24)),
        ((20.0, 20.0), (4, 4), 28, (16, 12)),
    ],
    ids=[
        "what high does not need serves low", "where both fit nobody gives any", "of low, too, what stands may stay",
        "what both need high has first",
    ],
)  # fmt: skip
def test_nobody_waits_for_gpus_that_others_do_not_need(
    rates_rps: tuple[float, float], standing: tuple[int, int], total: int, held: tuple[int, int]
) -> None:
    """Replicas carry 5.3 rps each: 12 rps need three and 20 rps four. What stands beyond stays if nobody needs it."""
    found, memory = after(8, rates_rps, standing, total=total)
    assert found == held
    needs = [one.needs for one in memory.policies]
    assert [one and one.serving.gpus for one in needs] == [4 * math.ceil(rps / 5.3) for rps in rates_rps]


def test_who_is_paused_gives_nothing_and_others_know() -> None:
    """Paused with eight replicas, of which it needs three: low is dealt what is left, however much it needs."""
    assert after(8, (12.0, 20.0), (8, 2), total=40, paused_at=1)[0] == (32, 8)


def test_what_is_dealt_holds_still_under_a_load_that_does() -> None:
    assert after(8, (12.0, 20.0), (8, 2), total=40)[0] == after(60, (12.0, 20.0), (8, 2), total=40)[0]


def test_a_policy_whose_large_replicas_stay_pending_is_planned_smaller_ones() -> None:
    """Two of tp 8 pend for a start-up: the same GPUs are asked for as tp 4 from then on, and tp 8 no more."""
    heavy = (demand(7, 6.0),)
    loop = Loop(subject(slo=Slo(2.0, 0.1, 0.99)))
    pend = fleet.PoolObserved("all", 8, 2, 0, 2, pending=2)
    plans = [loop.cycle(service(heavy, pools=(pend,)), keep=True) for _ in range(60)]
    degrees = [{pool.tp for pool in decided.pools if pool.replicas} for decided in plans]
    first = degrees.index({4})
    assert degrees[0] == {8}
    assert plans[first].replicas_reason is Reason.INSUFFICIENT_GPUS
    assert all(tps == {4} for tps in degrees[first:])


# --- order and stillness -----------------------------------------------------------------------------


@settings(max_examples=5)
@given(st.lists(mixes(8.0), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_policies_changes_nobodys_plan(mixed: list[tuple[fleet.ClassDemand, ...]], chance: object) -> None:
    policies = [subject(key=f"llm/p{i}", pools=Pools(by_class=i % 2 == 0)) for i in range(len(mixed))]
    seen = tuple(service(mix, policy=one.key) for mix, one in zip(mixed, policies, strict=True))
    observed = fleet.Observed(0.0, seen, ((H100, 32),))
    shuffled = list(policies)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # a Random
    first, second = plan.Memory(), plan.Memory()
    for cycle in range(3):
        moment = dataclasses.replace(observed, now_s=5.0 * cycle)
        one = decide.decide(moment, tuple(policies), BOTH, first, QUICK)
        other = decide.decide(moment, tuple(shuffled), BOTH, second, QUICK)
        first, second = one.memory, other.memory
        assert {d.policy: d for d in one.policies} == {d.policy: d for d in other.policies}


@pytest.mark.parametrize(
    "pools", [Pools(), Pools(by_class=True), Pools(by_class=True, count=3)], ids=["one pool", "as pays", "three pools"]
)
@pytest.mark.parametrize("factor", [0.3, 1.5])
def test_at_a_fixed_point_nothing_changes_for_an_hour(pools: Pools, factor: float) -> None:
    """The same input every minute: after four cluster periods, an hour of cycles with one plan."""
    mix = tuple(dataclasses.replace(one, arrival_rps=factor * one.arrival_rps) for one in USUAL)
    still = dataclasses.replace(QUICK, cluster_period_s=300.0, pool_period_s=300.0, instance_period_s=60.0)
    loop = Loop(subject(pools=pools), settings=still)
    loop.cycle(service(mix), times=20)
    plans = {loop.cycle(service(mix)).pools for _ in range(60)}
    assert len(plans) == 1


def test_the_same_cycle_decided_twice_is_the_same_decision() -> None:
    """What `replay.verify` rests on: no clock, no chance, no solver that gives up on time."""
    loop = Loop(subject(pools=Pools(by_class=True)))
    loop.cycle(service(USUAL), times=10)
    observed = fleet.Observed(loop.now_s, (service(USUAL),))
    one, two = (decide.decide(observed, (loop.policy,), BOTH, loop.memory, QUICK) for _ in range(2))
    assert one == two


# --- more never hurts --------------------------------------------------------------------------------


@settings(max_examples=5)
@given(mixes(6.0), st.floats(2500.0, 8000.0), st.floats(1.05, 3.0))
def test_more_watts_never_lengthen_what_is_expected(
    mix: tuple[fleet.ClassDemand, ...], budget_w: float, factor: float
) -> None:
    """A fixed fleet, so that watts alone decide: latencies inside the limits, or not above those under fewer watts."""
    bounds = Bounds(2, 2, tensor_parallel=(4,))
    expected = []
    for watts in (budget_w, budget_w * factor):
        loop = Loop(subject(slo=Slo(2.0, 0.1), bounds=bounds, power_budget_w=watts))
        expected.append(loop.cycle(service(mix), times=8).expected)
    few, many = expected
    if few.ttft_s is not None and few.tpot_s is not None:
        assert many.ttft_s is not None
        assert many.tpot_s is not None
        assert many.ttft_s <= max(few.ttft_s * 1.001, 2.0)
        assert many.tpot_s <= max(few.tpot_s * 1.001, 0.1)


@settings(max_examples=5)
@given(mixes(6.0), st.sampled_from((8, 12, 16)), st.sampled_from((4, 8, 16)))
def test_more_gpus_never_break_a_limit_that_fewer_kept(
    mix: tuple[fleet.ClassDemand, ...], most: int, more: int
) -> None:
    kept = []
    for limit in (most, most + more):
        loop = Loop(subject(slo=Slo(2.0, 0.1), bounds=Bounds(1, 12, max_gpus=limit, tensor_parallel=(4, 8))))
        effect = loop.cycle(service(mix), times=8).expected
        kept.append(effect.ttft_s is not None and effect.ttft_s <= 2.0 and (effect.tpot_s or 0.0) <= 0.1)
    assert kept[1] >= kept[0]
