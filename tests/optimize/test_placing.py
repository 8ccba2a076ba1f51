"""Replicas without a node, and what their GPUs are instead."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan import decide
from capstan.model import fleet, plan
from capstan.model.policy import Bounds
from capstan.model.reasons import Reason
from capstan.optimize import fleets, placing, replicas
from capstan.optimize.case import Case
from support.builders import CHAT, policy, profile

NOW_S, STARTUP_S = 1000.0, 60.0
PERIODS = decide.Settings(lookback_s=600.0)
BOTH = (profile(tp=4, startup_s=STARTUP_S), profile(tp=8, startup_s=STARTUP_S))
ALL_THREE = (profile(tp=2, startup_s=STARTUP_S), *BOTH)


def pods(tp: int, *, ready: int = 0, starting: int = 0, pending: int = 0) -> fleet.PoolObserved:
    """`starting` holds the pending ones, as the API server's counts do."""
    return fleet.PoolObserved("all", tp, ready + starting, ready, starting, pending=pending)


def case(*pools: fleet.PoolObserved, since_s: float = 0.0, most: int = 8, standing: plan.Fleet = ()) -> Case:
    subject = policy(bounds=Bounds(1, most, tensor_parallel=(4, 8)))
    memory = plan.PoolMemory("all", fleet=standing or None, fleet_since_s=since_s)
    seen = fleet.ServiceObserved(CHAT, pools)
    return Case(NOW_S, subject, subject.slo, "all", (), seen, pools, BOTH, memory, PERIODS)


HALF_PLACED = pods(8, ready=1, starting=1, pending=1)


@pytest.mark.parametrize(
    ("pools", "since_s", "before", "noted"),
    [
        ((pods(8, starting=2, pending=2),), 900.0, (), ((8, NOW_S),)),
        ((pods(8, starting=2, pending=2),), 941.0, (), ()),
        ((pods(8, starting=2),), 0.0, (), ()),
        ((pods(4, starting=2, pending=2),), 0.0, (), ()),
        ((pods(8, ready=2),), 0.0, ((8, 401.0),), ((8, 401.0),)),
        ((pods(8, ready=2),), 0.0, ((8, 400.0),), ()),
        ((HALF_PLACED,), 0.0, ((8, 900.0),), ((8, NOW_S),)),
        ((pods(8, ready=2),), 0.0, ((4, 900.0), (16, 900.0)), ()),
    ],
    ids=[
        "nobody found a node for 100 s",
        "asked for 59 s ago: what makes room may still be going",
        "they start, and have their nodes",
        "the smallest degree waits: where it does not fit nothing does",
        "no room 599 s ago is no room",
        "600 s ago is long ago",
        "still none: the time moves on",
        "degrees that the bounds no longer hold are forgotten, and the smallest is never one",
    ],
)
def test_which_degrees_find_no_room(
    pools: tuple[fleet.PoolObserved, ...], since_s: float, before: placing.Unplaced, noted: placing.Unplaced
) -> None:
    assert placing.noted(before, (case(*pools, since_s=since_s),)) == noted


NOWHERE = ((8, NOW_S),)


@pytest.mark.parametrize(
    ("asked", "pools", "unplaced", "spare", "fitted"),
    [
        (((8, 2),), (HALF_PLACED,), NOWHERE, None, ((4, 2), (8, 1))),
        (((8, 2),), (pods(4, ready=2),), NOWHERE, None, ((4, 4),)),
        (((8, 1),), (HALF_PLACED,), NOWHERE, None, ((8, 1),)),
        (((8, 2),), (pods(4, ready=2),), (), None, ((8, 2),)),
        (((8, 1),), (pods(4, ready=2),), (), 3, ((4, 2),)),
        (((8, 1),), (pods(4, ready=2),), (), 8, ((8, 1),)),
        (((8, 2),), (pods(8, ready=1),), (), 7, ((4, 2), (8, 1))),
        (((4, 5),), (pods(4, ready=2),), (), 3, ((4, 5),)),
        ((), (HALF_PLACED,), NOWHERE, 0, ()),
    ],
    ids=[
        "one of two has its node: the other is two of tp 4",
        "none of two has one",
        "no more is asked for than is there",
        "nothing speaks against it",
        "others hold what it needs: 3 GPUs are spare",
        "8 GPUs are spare",
        "one stands, for the other 7 GPUs are spare",
        "the smallest degree waits for others to go",
        "nothing is asked for",
    ],
)
def test_what_fits(
    asked: plan.Fleet,
    pools: tuple[fleet.PoolObserved, ...],
    unplaced: placing.Unplaced,
    spare: int | None,
    fitted: plan.Fleet,
) -> None:
    assert placing.fitted(case(*pools), asked, unplaced, spare) == fitted


def test_a_degree_falls_through_to_the_next_that_has_a_place() -> None:
    """8 and 4 found none: one of tp 8 is four of tp 2."""
    three = dataclasses.replace(case(), profiles=ALL_THREE)
    assert placing.fitted(three, ((8, 1),), ((4, NOW_S), (8, NOW_S)), None) == ((2, 4),)


def test_the_bounds_of_replicas_hold() -> None:
    """Two of tp 8 would be four of tp 4; three replicas are the most."""
    assert placing.fitted(case(most=3), ((8, 2),), NOWHERE, None) == ((4, 3),)


def test_the_reason_is_told_and_what_stands_keeps_its_time() -> None:
    sized = replicas.Choice(((8, 2),), Reason.FORECAST_PEAK, NOW_S)
    moved = placing.chosen(case(pods(4, ready=2)), sized, NOWHERE, None)
    assert (moved.fleet, moved.reason, moved.since_s) == (((4, 4),), Reason.INSUFFICIENT_GPUS, NOW_S)
    stands = case(pods(4, ready=4), since_s=700.0, standing=((4, 4),))
    assert placing.chosen(stands, sized, NOWHERE, None).since_s == 700.0
    assert placing.chosen(case(pods(8, ready=2)), sized, NOWHERE, None) is sized


COUNTS = st.integers(0, 4)


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.booleans(), st.one_of(st.none(), st.integers(0, 40)))
def test_no_fit_has_more_gpus_or_takes_a_place_away(
    four: int, eight: int, ready: int, pending: int, nowhere: bool, spare: int | None
) -> None:
    asked = fleets.of({4: four, 8: eight})
    seen = case(pods(8, ready=ready, starting=pending, pending=pending), most=16)
    fitted = placing.fitted(seen, asked, NOWHERE if nowhere else (), spare)
    assert fleets.gpus(fitted) <= fleets.gpus(asked)
    assert dict(fitted).get(8, 0) >= min(eight, ready)
    assert placing.fitted(seen, fitted, NOWHERE if nowhere else (), spare) == fitted


@pytest.mark.parametrize(
    ("starting", "pending"), [(1, 2), (0, 1), (1, -1)], ids=["more", "nobody starts", "below none"]
)
def test_pending_pods_are_some_of_those_that_start(starting: int, pending: int) -> None:
    with pytest.raises(ValueError, match="pending pods"):
        pods(8, starting=starting, pending=pending)
