"""Prefill and decode apart: one decision, two pools, each with the limit, replicas and clock that are its own."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import decide
from capstan.model import fleet, plan
from capstan.model.policy import Bounds, Knob, Knobs, Policy, Pools
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh
from capstan.model.slo import Slo
from capstan.model.workload import Phase
from support.builders import policy
from support.strategies import BOTH, QUICK, Loop, service

APART = Pools(phases_apart=True)
EVERYTHING = Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ACT, clock=Knob.ACT)
TIERED = Slo(2.0, 0.1, 0.99, ((256, 0.25), (1024, 0.4)))
STILL = dataclasses.replace(QUICK, cluster_period_s=300.0, pool_period_s=300.0, instance_period_s=60.0)


def subject(**changes: Any) -> Policy:
    """Everything moves, over two degrees."""
    base = policy(slo=TIERED, bounds=Bounds(1, 24, tensor_parallel=(4, 8)), knobs=EVERYTHING, pools=APART)
    return dataclasses.replace(base, **changes)


def asked(rate_rps: float = 20.0, prompt: float = 900.0, output: float = 200.0, **more: Any) -> fleet.ServiceObserved:
    lengths = {"prompt_tokens": Fresh(prompt, 1.0), "output_tokens": Fresh(output, 1.0), "prompt_cv2_ratio": 0.5}
    return service(rate=rate_rps, **{**lengths, **more})


def settled(seen: fleet.ServiceObserved, times: int = 12, **changes: object) -> tuple[Loop, plan.PolicyDecision]:
    loop = Loop(subject(**changes), settings=STILL)
    return loop, loop.cycle(seen, times=times)


def of(decided: plan.PolicyDecision, phase: Phase) -> list[plan.PoolPlan]:
    return [pool for pool in decided.pools if pool.phase is phase]


def gpus(pools: list[plan.PoolPlan]) -> int:
    return sum(pool.gpus for pool in pools)


def clock_mhz(pools: list[plan.PoolPlan]) -> float:
    return pools[0].clock_cap_mhz or BOTH[0].clocks.max_mhz


# --- two pools ---------------------------------------------------------------------------------------


def test_both_phases_have_a_pool_of_their_own_with_every_class() -> None:
    _, decided = settled(asked())
    assert {(pool.pool, pool.phase, pool.classes) for pool in decided.pools} == {
        ("prefill", Phase.PREFILL, ()),
        ("decode", Phase.DECODE, ()),
    }
    assert all(pool.replicas >= 1 for pool in decided.pools)


def test_decode_turns_its_clock_down_further_than_prefill() -> None:
    """Its steps wait for memory, and 100 ms a token are long; short prompts have 250 ms."""
    _, decided = settled(asked())
    assert clock_mhz(of(decided, Phase.DECODE)) < clock_mhz(of(decided, Phase.PREFILL))


def test_longer_prompts_are_prefills_work_and_longer_answers_decodes() -> None:
    """Three times the prompts: nearly three times prefill's work. Three times the answers: decode's alone."""

    def watts(seen: fleet.ServiceObserved) -> dict[Phase, float]:
        loop, decided = settled(seen)
        rates = {own.pool: own.rates[-1][1] for own in loop.memory.policies[0].pools}
        assert set(rates.values()) == {20.0}, "each pool has all requests"
        return {
            phase: gpus(of(decided, phase)) * clock_mhz(of(decided, phase)) for phase in (Phase.PREFILL, Phase.DECODE)
        }

    usual, prompts, answers = watts(asked()), watts(asked(prompt=2700.0)), watts(asked(output=600.0))
    assert prompts[Phase.PREFILL] > 1.8 * usual[Phase.PREFILL]
    assert answers[Phase.PREFILL] == usual[Phase.PREFILL]
    assert answers[Phase.DECODE] > 1.8 * usual[Phase.DECODE]


def test_what_is_expected_adds_up_over_both_and_counts_each_request_once() -> None:
    """Joules of both pools over 20 rps x 200 tokens; TTFT is prefill's and TPOT decode's."""
    loop, decided = settled(asked())
    expected = decided.expected
    assert expected.power_w is not None
    assert expected.j_per_output_token == pytest.approx(expected.power_w / 4000.0)
    assert expected.ttft_s is not None
    assert expected.tpot_s is not None
    assert 0 < expected.ttft_s <= TIERED.ttft_s
    assert 0 < expected.tpot_s <= TIERED.tpot_s
    assert decided.forecast_rps == pytest.approx(20.0, rel=0.3)
    alone = Loop(dataclasses.replace(loop.policy, pools=Pools()), settings=STILL).cycle(asked(), times=20)
    assert alone.forecast_rps == decided.forecast_rps


# --- from one pool to two ----------------------------------------------------------------------------


def test_a_plan_and_lengths_come_first_and_then_no_replica_is_lost_on_the_way() -> None:
    """Nine stand: one cycle plans them as one pool, the next deals them out."""
    loop = Loop(subject(slo=Slo(2.0, 0.1)))
    nine = (fleet.PoolObserved("all", 4, 9, 9),)
    first = loop.cycle(asked(5.0, pools=nine), keep=True)
    assert [(pool.pool, pool.replicas) for pool in first.pools] == [("all", 9)]
    second = loop.cycle(asked(5.0, pools=nine), keep=True)
    assert {pool.pool for pool in second.pools} == {"prefill", "decode"}
    assert gpus(list(second.pools)) == 36
    assert loop.memory.policies[0].of("prefill").rates == loop.memory.policies[0].of("decode").rates


def test_blind_it_stays_one_pool() -> None:
    loop = Loop(subject())
    unknown = fleet.NO_DATA
    decided = loop.cycle(asked(arrival_rps=unknown, prompt_tokens=unknown, output_tokens=unknown), times=5)
    assert [(pool.pool, pool.replicas, pool.phase) for pool in decided.pools] == [("all", 2, Phase.BOTH)]


def test_one_replica_is_enough_to_begin_with() -> None:
    """It goes on with one phase, and the other gets one of its own."""
    loop = Loop(subject())
    loop.cycle(asked(1.0, pools=(fleet.PoolObserved("all", 4, 1, 1),)), keep=True)
    decided = loop.cycle(asked(1.0, pools=(fleet.PoolObserved("all", 4, 1, 1),)), keep=True)
    assert all(gpus(of(decided, phase)) >= 4 for phase in (Phase.PREFILL, Phase.DECODE))


def test_a_policy_edited_back_to_one_pool_has_its_requests_once_and_all_its_replicas() -> None:
    loop, apart = settled(asked())
    loop.policy = dataclasses.replace(loop.policy, pools=Pools())
    decided = loop.cycle(asked())
    (own,) = loop.memory.policies[0].pools
    assert {rate for _, rate in own.rates} == {20.0}
    assert gpus(list(decided.pools)) == gpus(list(apart.pools))


def test_without_a_profile_each_pool_goes_on_as_what_it_is() -> None:
    loop, _ = settled(asked())
    loop.profiles = ()
    decided = loop.cycle(asked())
    assert decided.clock_reason is Reason.PROFILE_MISSING
    assert {(pool.pool, pool.phase, pool.clock_cap_mhz) for pool in decided.pools} == {
        ("prefill", Phase.PREFILL, None),
        ("decode", Phase.DECODE, None),
    }


# --- what is seen of each ----------------------------------------------------------------------------


def lane(name: str, **figures: float) -> fleet.ServiceObserved:
    seen: dict[str, Any] = {field: Fresh(value, 1.0) for field, value in figures.items()}
    return dataclasses.replace(fleet.ServiceObserved("llm/chat", (), lane=name), **seen)


@pytest.mark.parametrize("late", ["prefill", "decode"])
def test_only_the_pool_that_is_late_plans_with_more_room(late: str) -> None:
    other = "decode" if late == "prefill" else "prefill"
    seen = asked(lanes=(lane(late, stress_ratio=1.3), lane(other, stress_ratio=0.95)))
    loop, _ = settled(seen, times=10)
    margins = {own.pool: own.margin_ratio for own in loop.memory.policies[0].pools}
    assert margins[other] == STILL.slo_margin_ratio
    assert (margins[late] or 0.0) < STILL.slo_margin_ratio


@pytest.mark.parametrize("full", ["prefill", "decode"])
def test_only_the_pool_whose_requests_wait_goes_to_full_clock(full: str) -> None:
    loop, before = settled(asked())
    other = "decode" if full == "prefill" else "prefill"
    decided = loop.cycle(asked(lanes=(lane(full, waiting=500.0), lane(other, waiting=0.0))))
    clocks = {pool.pool: pool.clock_cap_mhz for pool in decided.pools}
    assert clocks[full] is None
    assert clocks[other] == next(pool.clock_cap_mhz for pool in before.pools if pool.pool == other)
    assert decided.clock_reason is Reason.REQUESTS_WAITING


def test_a_ttft_that_decode_cannot_help_is_no_alarm_there() -> None:
    """Both lanes show the service's latencies: each looks at its own."""
    late = {"ttft_s": 9.0, "tpot_s": 0.01, "sample_requests": 1000.0}
    loop, _ = settled(asked())
    decided = loop.cycle(asked(lanes=(lane("prefill", **late), lane("decode", **late))))
    clocks = {pool.pool: pool.clock_cap_mhz for pool in decided.pools}
    assert clocks["prefill"] is None
    assert clocks["decode"] is not None


# --- limits ------------------------------------------------------------------------------------------


@settings(max_examples=5)
@given(
    st.lists(st.tuples(st.floats(0.1, 60.0), st.floats(50, 4000), st.floats(2, 600)), min_size=1, max_size=3),
    st.sampled_from((8, 16, 28, 64)),
    st.integers(2, 9),
)
def test_no_history_takes_more_gpus_or_replicas_than_the_bounds_say(
    history: list[tuple[float, float, float]], most_gpus: int, most: int
) -> None:
    """Of both pools together; each has one replica at least, so that every request can be played."""
    loop = Loop(subject(bounds=Bounds(1, most, max_gpus=most_gpus, tensor_parallel=(4, 8))))
    for rate, prompt, output in history:
        decided = loop.cycle(asked(rate, prompt, output), times=2)
        assert gpus(list(decided.pools)) <= most_gpus
        assert sum(pool.replicas for pool in decided.pools) <= most
        assert all(gpus(of(decided, phase)) >= 4 for phase in {pool.phase for pool in decided.pools})


def test_a_budget_of_watts_holds_for_both_together() -> None:
    _, free = settled(asked())
    assert free.expected.power_w is not None
    budget_w = 0.9 * free.expected.power_w
    _, held = settled(asked(), power_budget_w=budget_w)
    assert held.expected.power_w is None or held.expected.power_w <= budget_w * 1.02


@pytest.mark.parametrize("rate_rps", [6.0, 30.0])
def test_at_a_fixed_point_nothing_changes_for_an_hour(rate_rps: float) -> None:
    """The same input every minute: after four cluster periods, an hour of cycles with one plan."""
    loop, _ = settled(asked(rate_rps))
    plans = {loop.cycle(asked(rate_rps)).pools for _ in range(60)}
    assert len(plans) == 1


def test_the_same_cycle_decided_twice_is_the_same_decision() -> None:
    loop, _ = settled(asked())
    observed = fleet.Observed(loop.now_s, (asked(),))
    one, two = (decide.decide(observed, (loop.policy,), BOTH, loop.memory, STILL) for _ in range(2))
    assert one == two


# --- advice ------------------------------------------------------------------------------------------


def test_where_nobody_hands_over_it_is_advice_with_a_reason_and_a_price() -> None:
    """Tight limits for the first token, loose ones for the rest: apart, decode need not keep pace with prefill."""
    knobs = dataclasses.replace(EVERYTHING, pools=Knob.ADVISE)
    _, decided = settled(asked(40.0, 600.0, 200.0), knobs=knobs)
    assert {pool.phase for pool in decided.pools} == {Phase.BOTH}
    assert decided.advice_reason is Reason.PHASES_APART
    assert {pool.phase for pool in decided.advice} == {Phase.PREFILL, Phase.DECODE}
    assert decided.expected.power_w is not None
    assert decided.advice_expected.power_w is not None
    assert decided.advice_expected.power_w < decided.expected.power_w
    assert not math.isinf(decided.advice_expected.ttft_s or 0.0)


def test_pools_are_by_class_or_by_phase() -> None:
    with pytest.raises(ValueError, match="not both"):
        Pools(by_class=True, phases_apart=True)
