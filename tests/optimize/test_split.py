"""Which classes share a pool: made-up costs by hand, then the physics."""

from __future__ import annotations

import dataclasses

import pytest

from capstan.model.classes import Edges, Split
from capstan.model.policy import Bounds, Pools
from capstan.model.slo import Slo
from capstan.optimize import split
from support.builders import policy
from support.strategies import BOTH, demand

NINE = Edges()
S, M, L = (0, 1, 2), (3, 4, 5), (6, 7, 8)
WHOLE = ((*S, *M, *L),)
BY_CLASS = policy(
    slo=Slo(2.0, 0.1, 0.99, ((256, 0.25), (1024, 0.4))),
    bounds=Bounds(1, 12, tensor_parallel=(4, 8)),
    pools=Pools(by_class=True),
)
SOME = (demand(0, 1.0),)


def costs(**watts: float) -> split.Cost:
    """What pools cost by name, 100 W for one that is not named."""
    return lambda codes: watts.get(NINE.pool_name(codes), 100.0)


@pytest.mark.parametrize(
    ("count", "splits"),
    [
        (None, {WHOLE, (S, (*M, *L)), ((*S, *M), L), (S, M, L)}),
        (1, {WHOLE}),
        (2, {(S, (*M, *L)), ((*S, *M), L)}),
        (3, {(S, M, L)}),
    ],
)
def test_candidates_are_neighbouring_buckets(count: int | None, splits: set[Split]) -> None:
    assert set(split.candidates(NINE, count)) == splits


@pytest.mark.parametrize(
    ("watts", "standing", "found"),
    [
        ({"all": 100, "s": 40, "ml": 54}, (), (S, (*M, *L))),
        ({"all": 100, "s": 40, "ml": 56}, (), WHOLE),
        ({"all": 100, "s": 40, "ml": 65}, (S, (*M, *L)), (S, (*M, *L))),
        ({"all": 100, "s": 40, "ml": 66}, (S, (*M, *L)), WHOLE),
        ({"all": float("inf"), "s": 40, "ml": 150}, (), (S, (*M, *L))),
        ({"all": 100, "s": 30, "m": 30, "l": 30}, (), (S, M, L)),
    ],
    ids=[
        "6 % less", "4 % less is not worth it", "a split that costs 4.8 % more stays", "6 % more does not",
        "what one pool cannot carry", "three are cheapest",
    ],
)  # fmt: skip
def test_a_split_changes_where_it_clearly_pays(watts: dict[str, float], standing: Split, found: Split) -> None:
    assert split.best(BY_CLASS, SOME, standing, costs(**watts)) == found


def test_nothing_known_changes_nothing() -> None:
    assert split.best(BY_CLASS, (), (S, (*M, *L)), costs(all=1.0)) == (S, (*M, *L))
    assert split.best(BY_CLASS, (), (), costs(all=1.0)) == WHOLE
    assert split.best(policy(), SOME, (S, (*M, *L)), costs()) == WHOLE, "one pool was asked for"


@pytest.mark.parametrize("count", range(1, 10))
def test_a_count_that_is_asked_for_is_what_there_is(count: int) -> None:
    subject = dataclasses.replace(BY_CLASS, pools=Pools(by_class=True, count=count))
    found = split.best(subject, SOME, (), costs())
    assert len(found) == count
    assert sorted(code for pool in found for code in pool) == list(range(9))


def test_four_pools_join_the_neighbours_whose_union_costs_least_more() -> None:
    """Nine classes of 10 W each. Unions cost what their classes do and 5 W more, save one: ms-mm saves 3 W.

    Joined are codes 3 and 4 first (-3 W), whatever comes after.
    """

    def cost(codes: tuple[int, ...]) -> float:
        return 10.0 * len(codes) + (0 if len(codes) == 1 else -3.0 if codes == (3, 4) else 5.0)

    found = split.best(dataclasses.replace(BY_CLASS, pools=Pools(by_class=True, count=8)), SOME, (), cost)
    assert (3, 4) in found
    assert len(found) == 8


def test_pools_that_nothing_carries_are_joined_all_the_same() -> None:
    """Infinite watts on both sides are no number when taken from each other."""
    found = split.best(
        dataclasses.replace(BY_CLASS, pools=Pools(by_class=True, count=5)), SOME, (), lambda _: float("inf")
    )
    assert len(found) == 5


# --- the physics -------------------------------------------------------------------------------------


def chosen(*rates: tuple[int, float]) -> Split:
    classes = tuple(demand(code, rate) for code, rate in rates)
    cost = split.cost_of(BY_CLASS, BOTH, classes, margin=0.9, window_s=60.0)
    return split.best(BY_CLASS, classes, (), cost)


def test_many_short_prompts_with_tight_limits_do_not_wait_behind_long_ones() -> None:
    """Whether the middle bucket, which nobody asks, goes with the short or the long ones is no matter."""
    found = chosen((0, 60.0), (1, 20.0), (7, 8.0))
    assert len(found) == 2
    assert set(S) <= set(found[0])
    assert set(L) <= set(found[1])


def test_thin_classes_share_one_pool() -> None:
    """Two requests a minute each: two more pools would be two more replicas that stand about."""
    assert chosen((0, 0.03), (4, 0.03), (7, 0.03)) == WHOLE


def test_classes_that_nobody_asks_cost_an_idle_replica() -> None:
    cost = split.cost_of(BY_CLASS, BOTH, (demand(0, 1.0),), margin=0.9, window_s=60.0)
    assert cost(L) == pytest.approx(4 * 115.0), "the smaller degree, idle"
    dear = split.cost_of(BY_CLASS, BOTH, (demand(0, 1.0),), margin=0.9, window_s=60.0, per_gpu_w=50.0)
    assert dear(L) == pytest.approx(4 * 165.0)
