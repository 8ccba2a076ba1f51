"""While racks are capped, in virtual time: route, shed, move, then debt; and no quarrel with the loop that keeps SLOs.

A system that answers a cap with more replicas draws more watts, which cap more (facts/polca.md, fact 9).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

from capstan.model.policy import Priority
from capstan.model.reasons import Reason
from support import racks
from support.racks import AMPLE_W, Cycle, Load, Played, cut

HIGH, LOW = "llm/high", "llm/low"
CUT_S, BACK_S, SPAN_S = 300.0, 3900.0, 5100.0


@functools.cache
def hour() -> Played:
    """One rack for an hour above its high threshold, low priority at 110 % of what its deep cap carries."""
    loads = (
        Load(HIGH, Priority.HIGH, ((0, 6.0),), most=3),
        Load(LOW, Priority.LOW, ((0, 7.0), (CUT_S, 12.3)), most=3),  # 1.1 x 2 replicas x 5.6
    )
    return racks.play(loads, (cut(CUT_S), cut(BACK_S, budget_w=AMPLE_W)), span_s=SPAN_S, servers=3)


def capped(key: str) -> list[Cycle]:
    return hour().between(key, CUT_S, BACK_S)


def changes(values: Sequence[object]) -> int:
    return sum(before != after for before, after in itertools.pairwise(values))


def test_no_replica_comes_or_goes_in_the_hour() -> None:
    """There are eight free GPUs in the rack, and low priority asks for a third replica: watts say no."""
    for key in (HIGH, LOW):
        assert {sum(count for count, _ in cycle.shape) for cycle in capped(key) if cycle.capped} == {2}
    assert Reason.POWER_LIMITED in {cycle.decided.replicas_reason for cycle in capped(LOW)}


def test_clocks_do_not_swing() -> None:
    """Up in steps as watts are granted, then at most one change in ten minutes."""
    for key in (HIGH, LOW):
        clocks = [(cycle.now_s, [mhz for _, mhz in cycle.shape]) for cycle in capped(key)]
        assert changes([mhz for at_s, mhz in clocks if at_s < CUT_S + 300]) <= 10
        assert changes([mhz for at_s, mhz in clocks if at_s >= CUT_S + 300]) <= 6


def test_high_priority_keeps_its_slo_and_is_never_shed() -> None:
    """99 % are asked for."""
    assert hour().good(HIGH, CUT_S, BACK_S)[1] >= 0.99
    assert {cycle.decided.power.shed_ratio for cycle in hour().cycles[HIGH]} == {0.0}


def test_low_priority_is_shed_so_that_who_is_answered_is_answered_in_time() -> None:
    """1 - 0.9 / 1.1 = 18 % at the deep cap, in steps of 5 % and of the highest rate lately: a fifth to a quarter."""
    answered, good = hour().good(LOW, CUT_S + 120, BACK_S)
    assert 0.72 < answered < 0.85
    assert good / answered > 0.95


def test_queues_stay_short_and_what_is_shed_changes_seldom() -> None:
    """Of a queue that grew without end there would be hundreds: 0.1 x 12.3 a second for an hour are 4,400."""
    assert max(cycle.waiting for cycle in capped(LOW)) < 60
    assert changes([cycle.decided.power.shed_ratio for cycle in capped(LOW)]) <= 36


def test_after_the_hour_everything_is_as_before() -> None:
    """The machine lets go a level at a time; then nothing is shed, and what a cap has slowed has taught nobody."""
    last = hour().between(LOW, SPAN_S - 600, SPAN_S)
    assert not any(cycle.capped for cycle in last)
    assert {cycle.decided.power.shed_ratio for cycle in last} == {0.0}
    assert hour().good(LOW, SPAN_S - 600, SPAN_S)[0] == 1.0
    assert {sum(count for count, _ in cycle.shape) for cycle in last} <= {2, 3}
    assert {domain.level[-1] for domain in hour().run.domains} == {"Normal"}


# --- one rack, low priority alone capped -----------------------------------------------------------------


def test_low_priority_grows_at_its_capped_clock_before_any_of_it_is_refused_for_long() -> None:
    """A rack of 64 GPUs a little above its low threshold; the load rises by a third, and two replicas more carry it.

    All the while it stays below its high threshold, so that high priority is never capped, and nothing swings.
    """
    loads = (
        Load(HIGH, Priority.HIGH, ((0, 6.0),), most=3),
        Load(LOW, Priority.LOW, ((0, 36.0), (150.0, 46.0)), replicas=8, most=13),
    )
    played = racks.play(loads, (cut(0.0, budget_w=33_000.0),), span_s=330.0, servers=8)
    last = played.between(LOW, 270.0, 330.0)
    assert all(cycle.capped for cycle in last)
    counts = [sum(count for count, _ in cycle.shape) for cycle in played.cycles[LOW]]
    assert (counts, counts[-1]) == (sorted(counts), 10)
    assert {cycle.decided.power.shed_ratio for cycle in last} == {0.0}
    assert played.good(LOW, 270.0, 330.0)[1] > 0.95
    assert set(played.run.domains[0].level) <= {"Normal", "LowBase", "LowDeep"}


# --- two racks, one of them capped ---------------------------------------------------------------------


@functools.cache
def routed() -> Played:
    """Four replicas in the capped rack and two in the other, which carry the load together."""
    return racks.play(
        (Load(LOW, Priority.LOW, ((0, 24.0),), replicas=6, most=6),), (cut(150.0),), span_s=400.0, racks=2
    )


def test_requests_go_where_there_is_headroom_before_any_is_refused() -> None:
    cycles = routed().between(LOW, 160.0, 400.0)
    weights = [{share.domain: share.weight_ratio for share in cycle.decided.power.shares} for cycle in cycles]
    assert all(each["rack-1"] == 1.0 and each["rack-0"] <= 0.8 for each in weights)
    assert {cycle.decided.power.shed_ratio for cycle in cycles} == {0.0}
    assert routed().good(LOW, 150.0, 400.0)[0] == 1.0


def test_weights_are_not_pushed_at_every_look() -> None:
    """48 looks."""
    cycles = routed().between(LOW, 160.0, 400.0)
    assert changes([cycle.decided.power.shares for cycle in cycles]) <= 12


def test_a_replica_starts_elsewhere_before_it_ends_where_it_is_capped() -> None:
    """Four replicas fill the capped rack, and the load is more than they carry there: some move, one at a time."""
    loads = (Load(LOW, Priority.LOW, ((0, 22.0),), replicas=4, most=4),)
    played = racks.play(loads, (cut(150.0),), span_s=600.0, racks=2)
    cycles = played.between(LOW, 100.0, 600.0)
    assert min(sum(cycle.ready_by_rack.values()) for cycle in cycles) == 4
    assert max(sum(cycle.by_rack.values()) for cycle in cycles) == 5
    assert cycles[-1].by_rack["rack-1"] >= 1
    assert cycles[-1].decided.power.shed_ratio == 0.0
    shed = [cycle.decided.power.shed_ratio for cycle in cycles if cycle.decided.power.moves]
    assert min(shed) > 0.0, "nothing moves while routing alone is enough"


def test_a_scale_out_goes_where_nothing_is_capped() -> None:
    """The load rises by half while the first rack, which has half of its GPUs free, is capped."""
    loads = (Load(LOW, Priority.LOW, ((0, 8.0), (200.0, 15.0)), replicas=2, most=8),)
    played = racks.play(loads, (cut(100.0, budget_w=3_000.0),), span_s=400.0, racks=2)
    grown = [cycle for cycle in played.between(LOW, 200.0, 400.0) if sum(cycle.by_rack.values()) > 2]
    assert grown
    assert max(cycle.by_rack["rack-0"] for cycle in grown) <= 2


def test_where_nothing_helps_the_plan_says_that_the_slo_is_owed() -> None:
    """High priority alone in a rack whose budget is below what it needs: it is not shed, and its limits are missed."""
    loads = (Load(HIGH, Priority.HIGH, ((0, 20.0),), replicas=4, most=4),)
    played = racks.play(loads, (cut(100.0, budget_w=6_500.0),), span_s=300.0)
    owed = [cycle for cycle in played.between(HIGH, 110.0, 300.0) if cycle.decided.power.indebted]
    assert owed
    assert {cycle.decided.power.shed_ratio for cycle in owed} == {0.0}
    assert Reason.POWER_LIMITED in {reason for cycle in owed for reason in (cycle.decided.clock_reason,)} | {
        cycle.decided.replicas_reason for cycle in owed
    }
