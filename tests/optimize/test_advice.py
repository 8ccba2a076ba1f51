"""What knobs that only advise would make of a policy: the cheaper degree, the cheaper split, and when it is said."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from capstan import decide
from capstan.model import fleet, plan
from capstan.model.policy import Bounds, Knob, Knobs, Policy, Pools
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample
from capstan.model.slo import Slo
from capstan.optimize import advice
from support.builders import H100, policy
from support.small import BOTH

PERIODS = decide.Settings(cluster_period_s=60, pool_period_s=60, lookback_s=60, rate_window_s=30)
SLOW = decide.Settings(cluster_period_s=1800, pool_period_s=60, lookback_s=60, rate_window_s=30, instance_period_s=30)
KNOBS = Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ADVISE, clock=Knob.ACT, pools=Knob.ADVISE)
SUBJECT = policy(bounds=Bounds(1, 12, tensor_parallel=(4, 8)), knobs=KNOBS)

CLASSES = (
    fleet.ClassDemand(0, 30.0, 100.0, 60.0),
    fleet.ClassDemand(4, 8.0, 500.0, 200.0),
    fleet.ClassDemand(8, 4.0, 6000.0, 500.0),
)
"""Short, middling and long requests: the long ones hold up the short ones' first tokens."""


def observed(
    *subjects: Policy,
    now_s: float,
    tp: int = 8,
    replicas: int = 3,
    rate: Sample[float] | None = None,
    classes: tuple[fleet.ClassDemand, ...] = (),
) -> fleet.Observed:
    total_rps = sum(one.arrival_rps for one in classes) or 2.0
    return fleet.Observed(
        now_s,
        tuple(
            fleet.ServiceObserved(
                subject.key,
                (fleet.PoolObserved("all", tp, desired=replicas, ready=replicas),),
                arrival_rps=rate or Fresh(total_rps, 1.0),
                prompt_tokens=Fresh(1155.0, 1.0),
                output_tokens=Fresh(211.0, 1.0),
                waiting=Fresh(0.0, 1.0),
                gpu_product=H100,
                classes=classes,
            )
            for subject in subjects
        ),
    )


def decided(
    *subjects: Policy,
    cycles: int = 1,
    memory: plan.Memory | None = None,
    begin_s: float = 1000.0,
    periods: decide.Settings = PERIODS,
    **seen: Any,
) -> list[plan.Decision]:
    """Return the decisions of some cycles, each with the memory of the one before."""
    found, memory = [], memory or plan.Memory()
    for cycle in range(cycles):
        look = observed(*subjects, now_s=begin_s + periods.instance_period_s * cycle, **seen)
        found.append(decide.decide(look, subjects, BOTH, memory, periods))
        memory = found[-1].memory
    return found


def test_a_cheaper_degree_is_advised_and_not_planned() -> None:
    """2 rps fit into a replica of four GPUs, with room; eight GPUs each burn idle watts for nothing."""
    (told,) = decided(SUBJECT)[0].policies
    assert {pool.tp for pool in told.pools} == {8}
    assert {pool.tp for pool in told.advice} == {4}
    assert (told.advice_reason, told.tp_reason) == (Reason.LEAST_ENERGY, Reason.ADVISE_ONLY)
    assert told.advice_expected.power_w is not None
    assert told.expected.power_w is not None
    assert told.advice_expected.power_w < told.expected.power_w


def test_advice_is_what_the_decision_itself_does_with_the_knob_free() -> None:
    """Two cluster periods later, when replicas may have fallen twice, the acting policy has what the other was advised.

    An epoch of half an hour, so that a start-up of two minutes pays.
    """
    (advised,) = decided(SUBJECT, periods=SLOW)[0].policies
    free = dataclasses.replace(SUBJECT, knobs=dataclasses.replace(KNOBS, tensor_parallel=Knob.ACT))
    (acting,) = decided(free, cycles=130, periods=SLOW)[-1].policies
    assert {(pool.tp, pool.replicas) for pool in advised.advice} == {(pool.tp, pool.replicas) for pool in acting.pools}


def test_where_the_degree_is_the_best_one_nothing_is_advised() -> None:
    (told,) = decided(SUBJECT, tp=4)[0].policies
    assert (told.advice, told.advice_reason, told.tp_reason) == ((), None, Reason.NO_CHANGE_NEEDED)
    assert told.advice_expected == plan.Effect()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"tensor_parallel": Knob.OFF}, Reason.KNOB_OFF, id="a knob that is off is not planned"),
        pytest.param({"tensor_parallel": Knob.ACT}, Reason.NO_CHANGE_NEEDED, id="one that acts needs no advice"),
    ],
)
def test_only_knobs_that_advise_are_advised(changes: dict[str, Knob], reason: Reason) -> None:
    subject = dataclasses.replace(SUBJECT, knobs=dataclasses.replace(KNOBS, **changes))
    (told,) = decided(subject, tp=4)[0].policies
    assert (told.advice, told.tp_reason) == ((), reason)
    assert decided(subject)[0].memory.of(subject.key).advised_at_s is None


def test_a_degree_that_acts_says_why_it_changes() -> None:
    free = dataclasses.replace(SUBJECT, knobs=dataclasses.replace(KNOBS, tensor_parallel=Knob.ACT))
    reasons = [one.policies[0].tp_reason for one in decided(free, cycles=130, periods=SLOW)]
    assert reasons.count(Reason.LEAST_ENERGY) == 1
    assert set(reasons) == {Reason.LEAST_ENERGY, Reason.NO_CHANGE_NEEDED}


def test_classes_apart_are_advised_where_they_cost_less() -> None:
    """Short prompts have 400 ms to their first token, and together they wait behind those of 6,000 tokens."""
    subject = dataclasses.replace(
        SUBJECT,
        slo=Slo(2.0, 0.1, tiers=((1024, 0.4),)),
        pools=Pools(by_class=True),
        bounds=Bounds(1, 60, tensor_parallel=(4,)),
    )
    (told,) = decided(subject, tp=4, replicas=12, classes=CLASSES)[0].policies
    assert told.advice_reason is Reason.CLASSES_APART
    assert len({pool.pool for pool in told.advice}) > 1
    assert sorted(code for pool in told.advice for code in pool.classes) == list(range(9))
    assert [pool.pool for pool in told.pools] == ["all"]
    assert told.tp_reason is Reason.NO_CHANGE_NEEDED


def test_advice_never_needs_more_gpus_than_there_may_be() -> None:
    bounds = Bounds(1, 12, max_gpus=24, tensor_parallel=(4, 8))
    subject = dataclasses.replace(SUBJECT, pools=Pools(by_class=True), bounds=bounds)
    (told,) = decided(subject, classes=CLASSES)[0].policies
    assert sum(pool.gpus for pool in told.advice) <= 24


# --- when --------------------------------------------------------------------------------------------


def advised_at(decisions: list[plan.Decision], key: str) -> list[float]:
    """Return the moments at which a policy was advised."""
    return sorted({at_s for one in decisions if (at_s := one.memory.of(key).advised_at_s) is not None})


def test_one_policy_a_cycle_and_each_once_a_period() -> None:
    """Three policies in twenty cycles of 5 s, a pool period of 60 s: at 0, 5 and 10 s, and a minute later again."""
    subjects = tuple(dataclasses.replace(SUBJECT, key=f"llm/{name}") for name in "abc")
    decisions = decided(*subjects, cycles=20)
    each = [advised_at(decisions, subject.key) for subject in subjects]
    assert each == [[1000.0, 1060.0], [1005.0, 1065.0], [1010.0, 1070.0]]


def test_advice_stands_between_its_moments_and_while_blind() -> None:
    before = decided(SUBJECT)[0]
    later = decided(SUBJECT, memory=before.memory, begin_s=1030.0)[0]
    assert later.policies[0].advice == before.policies[0].advice != ()
    blind = decided(SUBJECT, cycles=30, memory=before.memory, begin_s=1005.0, rate=Missing(Reason.SOURCE_DOWN))[-1]
    assert blind.policies[0].advice == before.policies[0].advice


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(dataclasses.replace(SUBJECT, key="a", paused=True), id="one that is paused"),
        pytest.param(dataclasses.replace(SUBJECT, key="a", llm="acme/unknown"), id="one without a profile"),
        pytest.param(
            dataclasses.replace(SUBJECT, key="a", bounds=Bounds(1, 2, tensor_parallel=(4,))), id="one without a choice"
        ),
    ],
)
def test_who_cannot_be_advised_takes_nobodys_turn(first: Policy) -> None:
    decisions = decided(first, dataclasses.replace(SUBJECT, key="b"), cycles=3)
    assert decisions[-1].of("b") is not None
    assert decisions[-1].memory.of("b").advised_at_s is not None


def test_the_order_of_policies_gives_nobody_a_turn() -> None:
    subjects = tuple(dataclasses.replace(SUBJECT, key=f"llm/{name}") for name in "abc")
    look = observed(*subjects, now_s=5.0)
    turns = {advice.turn(look, order, plan.Memory(), PERIODS) for order in (subjects, subjects[::-1])}
    assert turns == {"llm/a"}


def test_an_advice_that_was_taken_is_no_longer_shown() -> None:
    """Somebody scales to the degree that was advised: between two turns the advice in memory says nothing new."""
    pools = (plan.PoolPlan("all", 4, 3, 1200.0),)
    told = plan.Advice((plan.PoolPlan("all", 4, 2, 900.0),), Reason.LEAST_ENERGY, plan.Effect())
    assert advice.shown(told, pools) is None
    assert advice.shown(told, (plan.PoolPlan("all", 8, 3),)) is told
    assert advice.shown(None, pools) is None
