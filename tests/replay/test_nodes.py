"""Who gets which GPUs: best fit, whole replicas on one node, products kept apart."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.nodes import Node, Seats, room
from support import builders

H100, A100 = builders.H100, "NVIDIA-A100-SXM4-80GB"
TP4 = builders.profile()


def nodes(*gpus: int, product: str = H100) -> tuple[Node, ...]:
    return tuple(Node(f"gpu-{i}", count, product) for i, count in enumerate(gpus))


def test_the_fullest_node_with_room_is_taken_so_that_whole_nodes_stay_free() -> None:
    """Free 8, 5 and 6: three GPUs go to the node with 5, then to the one with 6, then 8; then 8 has 5 left."""
    seats = Seats(nodes(8, 5, 6))
    assert [seats.take(3, (H100,)) for _ in range(6)] == [1, 2, 2, 0, 0, None]
    assert seats.free == [2, 2, 0]


def test_a_tie_goes_to_the_first_node() -> None:
    assert Seats(nodes(8, 8)).take(4, (H100,)) == 0


def test_what_was_given_back_can_be_taken_again() -> None:
    seats = Seats(nodes(8))
    assert [seats.take(8, (H100,)), seats.take(1, (H100,))] == [0, None]
    seats.give(0, 8)
    assert seats.take(8, (H100,)) == 0


def test_another_product_is_no_room() -> None:
    mixed = (*nodes(4, product=A100), *nodes(8))
    assert Seats(mixed).take(4, (H100,)) == 1, "the A100 node would be the better fit"
    assert Seats(nodes(8, product=A100)).take(4, (H100,)) is None
    assert room(mixed, TP4) == 2


def test_a_replica_never_spans_nodes() -> None:
    assert Seats(nodes(3, 3)).take(4, (H100,)) is None
    assert room(nodes(3, 3, 7), TP4) == 1
    assert room(nodes(7, 9), dataclasses.replace(TP4, tp=8)) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=60))
def test_gpus_are_conserved_whatever_comes_and_goes(moves: list[tuple[bool, int]]) -> None:
    seats = Seats(nodes(8, 8, 4))
    held: list[tuple[int, int]] = []
    for take, gpus in moves:
        if take:
            fits = any(free >= gpus for free in seats.free)
            node = seats.take(gpus, (H100,))
            assert (node is not None) == fits, "refused only where nobody has room"
            held += [] if node is None else [(node, gpus)]
        elif held:
            seats.give(*held.pop())
        assert min(seats.free) >= 0
        assert sum(seats.free) + sum(gpus for _, gpus in held) == 20
