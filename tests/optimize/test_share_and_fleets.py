"""GPUs over policies, and the arithmetic of replicas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.policy import Priority
from capstan.optimize import fleets, share
from capstan.optimize.share import Claim

HIGH, LOW = Priority.HIGH, Priority.LOW


def claims(*wanted: tuple[str, Priority, int]) -> list[Claim]:
    return [Claim(key, "H100", priority, gpus) for key, priority, gpus in wanted]


@pytest.mark.parametrize(
    ("wanted", "total", "limits"),
    [
        ((("a", LOW, 8), ("b", LOW, 8)), 24, {"a": 16, "b": 16}),
        ((("a", LOW, 24), ("b", LOW, 8)), 16, {"a": 12, "b": 4}),
        ((("a", HIGH, 12), ("b", LOW, 8)), 16, {"a": 16, "b": 4}),
        ((("a", HIGH, 24), ("b", HIGH, 8), ("c", LOW, 4)), 16, {"a": 12, "b": 4, "c": 0}),
        ((("a", LOW, 0), ("b", LOW, 0)), 16, {"a": 16, "b": 16}),
        ((("a", LOW, 5), ("b", LOW, 5), ("c", LOW, 5)), 10, {"a": 3, "b": 3, "c": 3}),
        ((("a", LOW, 8),), 0, {"a": 0}),
    ],
    ids=[
        "all fits: each may grow into what is free", "equals by what they want", "high first, low has the rest",
        "high alone is too much", "nobody wants any", "thirds are rounded down", "no GPUs",
    ],
)  # fmt: skip
def test_who_may_have_what(wanted: tuple[tuple[str, Priority, int], ...], total: int, limits: dict[str, int]) -> None:
    assert share.limits(claims(*wanted), {"H100": total}) == limits


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


WANTED = st.lists(st.tuples(st.sampled_from((HIGH, LOW)), st.integers(0, 64)), min_size=1, max_size=6)


@given(WANTED, st.integers(0, 128), st.randoms(use_true_random=False))
def test_order_is_irrelevant_and_what_is_wanted_is_never_more_than_there_is(
    wanted: list[tuple[Priority, int]], total: int, chance: object
) -> None:
    own = claims(*((f"p{i}", priority, gpus) for i, (priority, gpus) in enumerate(wanted)))
    found = share.limits(own, {"H100": total})
    shuffled = list(own)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # a Random
    assert share.limits(shuffled, {"H100": total}) == found
    assert sum(min(found[claim.policy], claim.gpus) for claim in own) <= total
    assert all(gpus >= 0 for gpus in found.values())


@given(WANTED, st.integers(0, 100), st.integers(1, 28))
def test_more_gpus_never_take_from_anybody(wanted: list[tuple[Priority, int]], total: int, more: int) -> None:
    own = claims(*((f"p{i}", priority, gpus) for i, (priority, gpus) in enumerate(wanted)))
    few, many = (share.limits(own, {"H100": gpus}) for gpus in (total, total + more))
    assert all(min(many[c.policy], c.gpus) >= min(few[c.policy], c.gpus) for c in own)


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
