"""Pools by class: demand of mixtures by hand, smoothing over time, and what a new split inherits."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import fleet, plan
from capstan.model.classes import Edges
from capstan.model.policy import Pools
from capstan.model.sample import Fresh, Missing
from capstan.model.slo import Slo
from capstan.model.workload import Phase
from capstan.optimize import lanes
from support.builders import policy
from support.strategies import demand, mixes, service

TIERED = policy(slo=Slo(2.0, 0.1, 0.99, ((256, 0.25), (1024, 0.4))), pools=Pools(by_class=True))
THREE = ((0, 1, 2), (3, 4, 5), (6, 7, 8))


def one(code: int, rate: float, prompt: float, output: float, cv2: float = 0.0) -> fleet.ClassDemand:
    return fleet.ClassDemand(code, rate, prompt, output, cv2)


def test_lanes_have_the_names_and_limits_of_their_prompts() -> None:
    found = [(lane.name, lane.slo.ttft_s, lane.slo.tiers) for lane in lanes.of(TIERED, THREE)]
    assert found == [("s", 0.25, ()), ("m", 0.4, ()), ("l", 2.0, ())]
    assert lanes.of(TIERED, ())[0].slo == TIERED.slo


def test_phases_share_limits_and_not_requests() -> None:
    """The limits on the first token go with prefill; neither is bound by the other's."""
    apart = policy(slo=TIERED.slo, pools=Pools(phases_apart=True))
    prefill, decode = lanes.of(apart, Edges().whole())
    assert (prefill.name, prefill.codes, prefill.phase) == ("prefill", tuple(range(9)), Phase.PREFILL)
    assert (decode.name, decode.codes, decode.phase) == ("decode", tuple(range(9)), Phase.DECODE)
    assert (prefill.slo.ttft_s, prefill.slo.tiers, prefill.slo.tpot_s) == (2.0, TIERED.slo.tiers, math.inf)
    assert (decode.slo.ttft_s, decode.slo.tiers, decode.slo.tpot_s) == (math.inf, (), 0.1)
    assert [lane.phase for lane in lanes.of(apart, ())] == [Phase.BOTH], "until something is known"


def test_each_phase_inherits_every_request_and_its_part_of_the_replicas() -> None:
    """Eight and a need of 3 to 1: six and two. Of two replicas each gets one, whatever it needs."""
    own = lanes.of(policy(pools=Pools(phases_apart=True)), Edges().whole())
    before = plan.PoolMemory("all", rates=((0.0, 4.0), (5.0, 6.0)), fleet=((4, 8),), fleet_since_s=3.0)
    found = lanes.inherited(plan.PolicyMemory("llm/chat", (before,)), own, lambda: (3.0, 1.0))
    assert [each.fleet for each in found] == [((4, 6),), ((4, 2),)]
    assert [each.rates for each in found] == [before.rates] * 2
    few = dataclasses.replace(before, fleet=((4, 2),))
    found = lanes.inherited(plan.PolicyMemory("llm/chat", (few,)), own, lambda: (99.0, 1.0))
    assert [each.fleet for each in found] == [((4, 1),), ((4, 1),)]


def test_a_phase_sees_its_own_queues_and_the_services_requests() -> None:
    prefill, decode = lanes.of(policy(pools=Pools(phases_apart=True)), Edges().whole())
    own = fleet.ServiceObserved(
        "llm/chat", (), waiting=Fresh(7.0, 1.0), ttft_s=Fresh(0.3, 1.0), tpot_s=Fresh(0.02, 1.0), lane="decode"
    )
    seen = dataclasses.replace(service(rate=5.0), lanes=(own,), capped=True)
    found = lanes.seen_of(decode, seen, (), Edges())
    assert (found.arrival_rps, found.prompt_tokens, found.waiting) == (
        seen.arrival_rps,
        seen.prompt_tokens,
        own.waiting,
    )
    assert found.tpot_s == own.tpot_s
    assert isinstance(found.ttft_s, Missing), "the first token was not made here"
    assert found.capped
    assert isinstance(lanes.seen_of(prefill, seen, (), Edges()).waiting, Missing), "nobody told of it"


def test_a_mixture_has_the_moments_that_a_hand_works_out() -> None:
    """1 rps of 100 and 3 rps of 500 tokens, all equal within a class: mean (100 + 3 x 500) / 4 = 400.

    Second moment (100^2 + 3 x 500^2) / 4 = 190,000; over 400^2 = 160,000 it is 1.1875, so cv2 is 0.1875. Answers:
    (200 + 3 x 40) / 4 = 80.
    """
    found = lanes.demand((one(0, 1.0, 100, 200), one(3, 3.0, 500, 40), one(8, 9.0, 4000, 9)), (0, 3))
    assert found is not None
    assert (found.arrival_rps, found.prompt_tokens, found.output_tokens) == (4.0, 400.0, 80.0)
    assert found.prompt_cv2_ratio == pytest.approx(0.1875)


def test_the_spread_within_classes_adds_to_that_between_them() -> None:
    """The same with cv2 1 within both: second moments double, 2 x 1.1875 - 1 = 1.375."""
    found = lanes.demand((one(0, 1.0, 100, 200, 1.0), one(3, 3.0, 500, 40, 1.0)), (0, 3))
    assert found is not None
    assert found.prompt_cv2_ratio == pytest.approx(1.375)


@pytest.mark.parametrize("classes", [(), (one(0, 0.0, 10, 10),), (one(5, 1.0, 10, 10),)], ids=["none", "idle", "other"])
def test_classes_that_nobody_asks_have_no_demand(classes: tuple[fleet.ClassDemand, ...]) -> None:
    assert lanes.demand(classes, (0, 1)) is None


@given(mixes(), st.sampled_from((1, 3, 4, 7)))
def test_a_split_neither_loses_nor_invents_requests_or_tokens(mix: tuple[fleet.ClassDemand, ...], cut: int) -> None:
    whole = lanes.demand(mix, range(9))
    parts = [lanes.demand(mix, codes) for codes in (range(cut), range(cut, 9))]
    known = [part for part in parts if part is not None]
    assert whole is not None
    assert sum(part.arrival_rps for part in known) == pytest.approx(whole.arrival_rps)
    for name in ("prompt_tokens", "output_tokens"):
        tokens_rps = sum(part.arrival_rps * getattr(part, name) for part in known)
        assert tokens_rps == pytest.approx(whole.arrival_rps * getattr(whole, name))


# --- smoothing ---------------------------------------------------------------------------------------


def test_as_many_requests_later_as_are_enough_a_step_is_two_thirds_taken() -> None:
    """200 s of 10 rps are 2,000 requests: exp(-1) = 0.368 of the old 4 rps and 0.632 of the new 10 are 7.79.

    Old requests 1.47, new 6.32: the prompt is (1.47 x 100 + 6.32 x 200) / 7.79 = 181.1 tokens.
    """
    found = lanes.smoothed((one(0, 4.0, 100, 10),), (one(0, 10.0, 200, 10),), age_s=200.0, cycles=10**6)
    assert found[0].arrival_rps == pytest.approx(7.793, abs=0.001)
    assert found[0].prompt_tokens == pytest.approx(181.1, abs=0.1)


def test_who_is_not_seen_fades_and_who_is_new_grows() -> None:
    found = lanes.smoothed((one(0, 4.0, 100, 10),), (one(8, 10.0, 2000, 10),), age_s=200.0, cycles=10**6)
    keep = math.exp(-1)
    assert [(each.code, round(each.arrival_rps, 6)) for each in found] == [
        (0, round(4 * keep, 6)),
        (8, round(10 * (1 - keep), 6)),
    ]


@pytest.mark.parametrize("age_s", [None, 5.0, 1e9, 0.0, -500.0], ids=["first", "next", "much later", "now", "set back"])
def test_a_constant_demand_stays_as_it_is(age_s: float | None) -> None:
    before = (one(0, 4.0, 100, 10, 0.3), one(7, 0.5, 3000, 200, 0.1))
    for old, new in zip(before, lanes.smoothed(before, before[::-1], age_s=age_s, cycles=5), strict=True):
        assert new.arrival_rps == pytest.approx(old.arrival_rps)
        assert new.prompt_tokens == pytest.approx(old.prompt_tokens)


@given(mixes(), mixes(), st.floats(-100, 5000))
def test_smoothing_stays_between_what_was_and_what_is(
    old: tuple[fleet.ClassDemand, ...], new: tuple[fleet.ClassDemand, ...], age_s: float
) -> None:
    before, now = ({each.code: each.arrival_rps for each in side} for side in (old, new))
    for each in lanes.smoothed(old, new, age_s=age_s, cycles=5):
        ends = before.get(each.code, 0.0), now.get(each.code, 0.0)
        assert min(ends) - 1e-9 <= each.arrival_rps <= max(ends) + 1e-9


# --- what is seen of a lane --------------------------------------------------------------------------


def test_a_lane_sees_its_own_rate_now_and_its_usual_lengths() -> None:
    usual = (one(0, 2.0, 120, 60), one(1, 2.0, 160, 200))
    seen = dataclasses.replace(service((one(0, 5.0, 999, 999), one(7, 1.0, 3000, 10))), stress_ratio=Fresh(1.2, 1.0))
    found = lanes.seen_of(lanes.of(TIERED, THREE)[0], seen, usual, Edges())
    assert found.arrival_rps == Fresh(5.0, 1.0)
    assert found.prompt_tokens == Fresh(140.0, 1.0)
    assert isinstance(found.waiting, Missing), "the queue of all pools is not its own"
    assert isinstance(found.stress_ratio, Missing), "nor is it known whose requests were late"


def test_a_lane_that_nobody_asks_is_asked_nothing() -> None:
    found = lanes.seen_of(lanes.of(TIERED, THREE)[2], service((demand(0, 5.0),)), (demand(0, 5.0),), Edges())
    assert found.arrival_rps == Fresh(0.0, 1.0)


# --- inheritance -------------------------------------------------------------------------------------


def memory(classes: tuple[fleet.ClassDemand, ...], *pools: plan.PoolMemory) -> plan.PolicyMemory:
    return plan.PolicyMemory("llm/chat", pools=pools, classes=classes)


def test_under_the_same_names_everybody_keeps_what_is_theirs() -> None:
    pools = tuple(plan.PoolMemory(name, fleet=((4, n),)) for name, n in (("s", 1), ("m", 2), ("l", 3)))
    assert lanes.inherited(memory((), *pools), lanes.of(TIERED, THREE)) == pools


def test_a_split_shares_rates_by_requests_and_replicas_by_tokens() -> None:
    """s: 8 rps x 200 tokens, l: 2 rps x 3,200; requests 0.8 to 0.2, tokens 1,600 to 6,400: one replica to four."""
    classes = (one(0, 8.0, 150, 50), one(7, 2.0, 3000, 200))
    before = memory(classes, plan.PoolMemory("all", rates=((0.0, 10.0),), fleet=((4, 5),), fleet_since_s=7.0))
    small, _, large = lanes.inherited(before, lanes.of(TIERED, THREE))
    assert [pool.rates[0][1] for pool in (small, large)] == pytest.approx([8.0, 2.0])
    assert (small.fleet, large.fleet) == (((4, 1),), ((4, 4),))
    assert large.fleet_since_s == 7.0


@given(
    st.lists(st.dictionaries(st.sampled_from((1, 2, 4, 8)), st.integers(1, 6), max_size=3), min_size=1, max_size=3),
    mixes(),
    st.sampled_from((((0, 1, 2), (3, 4, 5, 6, 7, 8)), THREE, (tuple(range(9)),))),
)
def test_no_replica_is_lost_or_found_on_the_way(
    held: list[dict[int, int]], mix: tuple[fleet.ClassDemand, ...], split: tuple[tuple[int, ...], ...]
) -> None:
    old = tuple(plan.PoolMemory(f"was-{i}", fleet=tuple(sorted(own.items()))) for i, own in enumerate(held))
    after: dict[int, int] = {}
    for lane in lanes.inherited(memory(mix, *old), lanes.of(TIERED, split)):
        for tp, count in lane.fleet or ():
            after[tp] = after.get(tp, 0) + count
    assert after == {tp: n for tp in (1, 2, 4, 8) if (n := sum(own.get(tp, 0) for own in held))}


def test_a_policy_that_never_planned_hands_on_no_fleet() -> None:
    found = lanes.inherited(memory((), plan.PoolMemory("all", rates=((0.0, 6.0),))), lanes.of(TIERED, THREE))
    assert [lane.fleet for lane in found] == [None, None, None]
    assert sum(lane.rates[0][1] for lane in found) == pytest.approx(6.0)


@pytest.mark.parametrize("capped", [True, False])
def test_a_domain_that_caps_the_service_caps_each_of_its_pools(capped: bool) -> None:
    """Or a pool of several would scale out into a power cap."""
    lane = lanes.of(TIERED, THREE)[0]
    own = dataclasses.replace(service((demand(0, 5.0),)), lane=lane.name)
    seen = dataclasses.replace(service((demand(0, 5.0),)), lanes=(own,), capped=capped)
    assert lanes.seen_of(lane, seen, (demand(0, 5.0),), Edges()).capped is capped


# --- who has which limit -----------------------------------------------------------------------------


def test_tiers_are_told_how_many_prompts_they_have() -> None:
    """Of 4 rps one is short, of 100 and 120 tokens half and half; two are of the middle, of 500."""
    classes = (one(0, 0.5, 100, 50), one(2, 0.5, 120, 900), one(3, 2.0, 500, 50), one(8, 1.0, 3000, 400))
    every, edges = range(9), Edges()
    assert lanes.short_prompts(TIERED.slo, classes, every, edges) == (
        (256.0, 0.25, 110.0, 0.125),
        (1024.0, 0.75, 500.0, 0.5),
    )
    assert lanes.short_prompts(TIERED.slo, classes[2:], every, edges) == (
        (256.0, 0.0, 128.0, 0.0),
        (1024.0, 2 / 3, 500.0, 2 / 3),
    )
    middle_and_long = lanes.of(TIERED, ((0, 1, 2), (3, 4, 5, 6, 7, 8)))[1]
    found = lanes.short_prompts(middle_and_long.slo, classes, middle_and_long.codes, edges)
    assert found == ((1024.0, 2 / 3, 500.0, 2 / 3),)


def test_a_tier_that_ends_within_a_class_is_not_told() -> None:
    slo = Slo(2.0, 0.1, 0.99, ((300, 0.25), (1024, 0.4)))
    classes = (one(0, 1.0, 100, 50), one(3, 1.0, 500, 50))
    assert lanes.short_prompts(slo, classes, range(9), Edges()) == ((1024.0, 1.0, 300.0, 0.5),)
    assert lanes.short_prompts(slo, (), range(9), Edges()) == ()


@pytest.mark.parametrize(
    ("tiers", "by_class", "expected"),
    [((), False, False), (((256, 0.25),), False, True), (((300, 0.25),), False, False), ((), True, True)],
    ids=["one limit", "tiers of classes", "tiers of none", "class pools"],
)
def test_classes_are_counted_where_a_plan_rests_on_them(
    tiers: tuple[tuple[int, float], ...], by_class: bool, expected: bool
) -> None:
    assert policy(slo=Slo(2.0, 0.1, 0.99, tiers), pools=Pools(by_class=by_class)).tells_classes is expected
