"""GPUs over policies, and the arithmetic of replicas."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.policy import Priority
from capstan.optimize import fleets, share
from capstan.optimize.share import Claim

HIGH, LOW = Priority.HIGH, Priority.LOW


def claims(*asked: tuple[str, Priority, int, int, int]) -> list[Claim]:
    """Claims of (policy, priority, needed, ready, planned)."""
    return [
        Claim(key, "H100", priority, planned, needed=needed, ready=ready)
        for key, priority, needed, ready, planned in asked
    ]


@pytest.mark.parametrize(
    ("asked", "total", "limits"),
    [
        ((("a", LOW, 4, 4, 8), ("b", LOW, 4, 8, 8)), 24, {"a": 16, "b": 16}),
        ((("a", HIGH, 8, 8, 16), ("b", LOW, 12, 12, 12)), 24, {"a": 12, "b": 12}),
        ((("a", HIGH, 8, 16, 16), ("b", LOW, 12, 12, 12)), 24, {"a": 12, "b": 12}),
        ((("a", HIGH, 8, 12, 24), ("b", LOW, 8, 12, 24)), 28, {"a": 16, "b": 12}),
        ((("a", HIGH, 16, 16, 16), ("b", LOW, 12, 12, 12)), 24, {"a": 16, "b": 8}),
        ((("a", HIGH, 24, 24, 24), ("b", HIGH, 8, 8, 8), ("c", LOW, 4, 4, 4)), 16, {"a": 12, "b": 4, "c": 0}),
        ((("a", LOW, 24, 24, 24), ("b", LOW, 8, 8, 8)), 16, {"a": 12, "b": 4}),
        ((("a", LOW, 5, 5, 5), ("b", LOW, 5, 5, 5), ("c", LOW, 5, 5, 5)), 10, {"a": 3, "b": 3, "c": 3}),
        ((("a", HIGH, 8, 8, 16), ("b", LOW, 12, 12, 8)), 24, {"a": 16, "b": 12}),
        ((("a", HIGH, 8, 8, 12), ("b", LOW, 4, 4, 8)), 32, {"a": 24, "b": 20}),
        ((("a", LOW, 0, 0, 0), ("b", LOW, 0, 0, 0)), 16, {"a": 16, "b": 16}),
        ((("a", LOW, 8, 8, 8),), 0, {"a": 0}),
    ],
    ids=[
        "all fits: each may grow into what is free", "what serves low goes before what saves high joules",
        "and before what high will be ready with", "what all are ready with goes before what saves joules",
        "what serves high goes before what serves low", "high alone is too much", "equals by what they need",
        "thirds are rounded down", "what low has not planned yet high keeps", "nobody is told apart by what is free",
        "nobody wants any", "no GPUs",
    ],
)  # fmt: skip
def test_who_may_have_what(
    asked: tuple[tuple[str, Priority, int, int, int], ...], total: int, limits: dict[str, int]
) -> None:
    assert share.limits(claims(*asked), {"H100": total}) == limits


def test_products_do_not_mix_and_an_unknown_one_is_not_limited() -> None:
    mixed = [Claim("a", "H100", LOW, 8), Claim("b", "A100", LOW, 8), Claim("c", None, LOW, 8), Claim("d", "L4", LOW, 8)]
    assert share.limits(mixed, {"H100": 4, "A100": 16}) == {"a": 4, "b": 16}


def held(*gpus: int) -> list[Claim]:
    return [Claim(f"p{i}", "H100", LOW, 0, held=each) for i, each in enumerate(gpus)]


@pytest.mark.parametrize(
    ("holding", "total", "spare"),
    [
        ((20, 8, 1), 32, {"p0": 3, "p1": 3, "p2": 3}),
        ((20, 16), 32, {"p0": 0, "p1": 0}),
        ((20, 0), 32, {"p1": 12}),
        ((20,), 32, {}),
        ((0, 0), 32, {}),
    ],
    ids=[
        "three share", "more pods drain than there are GPUs", "the second comes to the first's GPUs",
        "alone", "nobody has any",
    ],
)  # fmt: skip
def test_what_nobody_holds(holding: tuple[int, ...], total: int, spare: dict[str, int]) -> None:
    assert share.spare(held(*holding), {"H100": total}) == spare


def test_only_pods_on_the_same_product_are_in_the_way() -> None:
    both = [Claim("a", "H100", LOW, 0, held=8), Claim("b", "A100", LOW, 0, held=8)]
    assert share.spare(both, {"H100": 16, "A100": 16}) == {}


ASKED = st.lists(st.tuples(st.sampled_from((HIGH, LOW)), *[st.integers(0, 64)] * 3), min_size=1, max_size=6)
TOTALS = st.integers(0, 256)


def drawn(asked: list[tuple[Priority, int, int, int]]) -> list[Claim]:
    return claims(*((f"p{i}", *one) for i, one in enumerate(asked)))


@given(ASKED, TOTALS, st.randoms(use_true_random=False))
def test_order_is_irrelevant_and_no_gpu_is_dealt_twice(
    asked: list[tuple[Priority, int, int, int]], total: int, chance: Random
) -> None:
    own = drawn(asked)
    found, dealt = share.limits(own, {"H100": total}), share.dealt(own, total)
    shuffled = list(own)
    chance.shuffle(shuffled)
    assert share.limits(shuffled, {"H100": total}) == found
    assert sum(dealt.values()) <= total
    assert all(0 <= dealt[claim.policy] <= min(claim.whole, found[claim.policy]) for claim in own)


@given(ASKED, TOTALS)
def test_plans_within_their_limits_fit_once_each_has_planned_what_it_may_have(
    asked: list[tuple[Priority, int, int, int]], total: int
) -> None:
    """What is kept until others take it up is given up in the next cycle: then all plans fit."""
    own = drawn(asked)
    found = share.limits(own, {"H100": total})
    planned = [dataclasses.replace(claim, planned=min(found[claim.policy], claim.whole)) for claim in own]
    then = share.limits(planned, {"H100": total})
    assert sum(min(then[claim.policy], claim.planned) for claim in planned) <= total


@given(ASKED, TOTALS)
def test_nobody_lacks_what_serves_while_others_have_more_than_that(
    asked: list[tuple[Priority, int, int, int]], total: int
) -> None:
    """Of low priority only what high leaves: high lacks nothing of what serves it before low has any."""
    own = drawn(asked)
    dealt = share.dealt(own, total)
    lacking = [claim for claim in own if dealt[claim.policy] < claim.needed]
    assert not lacking or all(dealt[claim.policy] <= claim.needed for claim in own)
    if any(claim.priority is HIGH for claim in lacking):
        assert all(dealt[claim.policy] == 0 for claim in own if claim.priority is LOW)


@given(ASKED, TOTALS)
def test_nobody_lacks_what_makes_ready_while_others_save_joules(
    asked: list[tuple[Priority, int, int, int]], total: int
) -> None:
    own = drawn(asked)
    dealt = share.dealt(own, total)
    ready = {claim.policy: max(claim.needed, claim.ready) for claim in own}
    if any(dealt[policy] < gpus for policy, gpus in ready.items()):
        assert all(dealt[policy] <= gpus for policy, gpus in ready.items())


@given(ASKED, st.integers(0, 200), st.integers(1, 56))
def test_more_gpus_never_take_from_anybody(asked: list[tuple[Priority, int, int, int]], total: int, more: int) -> None:
    own = drawn(asked)
    few, many = (share.limits(own, {"H100": gpus}) for gpus in (total, total + more))
    assert all(many[claim.policy] >= few[claim.policy] for claim in own)


# --- arithmetic --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fleet", "replicas", "gpus", "main"),
    [
        ((), 0, 0, None),
        (((4, 3),), 3, 12, 4),
        (((2, 4), (8, 1)), 5, 16, 2),
        (((2, 3), (8, 1)), 4, 14, 8),
    ],
    ids=["nothing", "one degree", "a tie goes to the smaller", "one of eight is more than three of two"],
)
def test_counts_of_a_fleet(fleet: tuple[tuple[int, int], ...], replicas: int, gpus: int, main: int | None) -> None:
    assert (fleets.replicas(fleet), fleets.gpus(fleet), fleets.main_tp(fleet)) == (replicas, gpus, main)


@pytest.mark.parametrize(
    ("tp", "more", "found"),
    [(4, 2, ((4, 3), (8, 1))), (2, 1, ((2, 1), (4, 1), (8, 1))), (4, -1, ((8, 1),)), (8, -5, ((4, 1),)), (8, 0, None)],
    ids=["more of one", "a new one", "the last of one", "less than nothing", "none"],
)
def test_more_or_less_of_a_degree(tp: int, more: int, found: tuple[tuple[int, int], ...] | None) -> None:
    before = ((4, 1), (8, 1))
    assert fleets.with_more(before, tp, more) == (before if found is None else found)


FLEETS = st.dictionaries(st.sampled_from((1, 2, 4, 8)), st.integers(0, 5)).map(fleets.of)


@given(FLEETS, FLEETS)
def test_a_fleet_covers_another_where_it_has_as_many_of_each(
    one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]
) -> None:
    both = fleets.of({tp: max(dict(one).get(tp, 0), dict(other).get(tp, 0)) for tp in (1, 2, 4, 8)})
    assert fleets.covers(both, one)
    assert fleets.covers(one, one)
    assert fleets.covers(one, other) == (both == one)
    each_rps = {1: 0.5, 2: 1.0, 4: 2.5}
    assert fleets.capacity_rps(both, each_rps) >= fleets.capacity_rps(one, each_rps)
