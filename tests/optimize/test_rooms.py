"""What pools of one policy may have where they want more together than there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.policy import Bounds, Policy
from capstan.model.slo import Slo
from capstan.optimize import rooms

PLENTY = 10_000


def policy(most_replicas: int = PLENTY, power_budget_w: float | None = None) -> Policy:
    return Policy("llm/chat", "model", Slo(2.0, 0.1), bounds=Bounds(1, most_replicas), power_budget_w=power_budget_w)


def gpus(found: tuple[rooms.Room, ...]) -> list[int | None]:
    return [room.gpus for room in found]


@pytest.mark.parametrize(
    ("wanted", "standing", "limit", "expected"),
    [
        ([5, 20], [5, 16], 25 * 4, []),
        ([5, 20], [5, 16], 24 * 4, [20, 76]),
        ([5, 20], [5, 16], 23 * 4, [20, 72]),
        ([5, 20], [3, 16], 23 * 4, [12 + 16 * 8 // 24, 64 + 16 * 16 // 24]),
        ([2, 20], [5, 16], 20 * 4, [8, 72]),
        ([20, 20], [20, 20], 30 * 4, [4 + 112 * 76 // 152, 4 + 112 * 76 // 152]),
    ],
    ids=[
        "all of it fits",
        "one replica too few",
        "who grows leaves the other what it has and needs",
        "two that grow share by how much more they want",
        "what a pool no longer wants is free",
        "less than what stands: all share by what they want",
    ],
)
def test_gpus_are_dealt(wanted: list[int], standing: list[int], limit: int, expected: list[int]) -> None:
    """Replicas of four GPUs."""
    found = rooms.of(
        policy(), [((4, count),) for count in wanted], [((4, count),) for count in standing], limit, smallest_tp=4
    )
    assert gpus(found) == expected


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=2, max_size=5),
    st.integers(20, 200),
)
def test_no_more_than_there_is_and_nobody_loses_what_it_needs_while_another_grows(
    pools: list[tuple[int, int]], limit: int
) -> None:
    wanted, standing = [((4, want),) for want, _ in pools], [((4, has),) for _, has in pools]
    found = rooms.of(policy(), wanted, standing, limit, smallest_tp=4)
    if not found:
        assert sum(4 * want for want, _ in pools) <= limit
        return
    given_gpus = [room.gpus or 0 for room in found]
    assert sum(given_gpus) <= max(limit, 4 * len(pools))
    needed = [4 * max(min(want, has), 1) for want, has in pools]
    if sum(needed) <= limit:
        assert all(own >= need for own, need in zip(given_gpus, needed, strict=True))


def test_replicas_are_dealt_as_gpus_are_and_watts_by_what_is_wanted() -> None:
    found = rooms.of(policy(10, 1000.0), [((4, 4),), ((4, 12),)], [((4, 4),), ((4, 5),)], None, smallest_tp=4)
    assert [room.replicas for room in found] == [4, 6]
    assert [room.power_w for room in found] == [250.0, 750.0]
    assert gpus(found) == [None, None]
