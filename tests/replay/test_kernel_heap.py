"""The finish heap and the stack of step times against plain lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.kernel import heap, layout

SEATS = 8


def tables() -> tuple[np.void, np.void, layout.Records]:
    r, d = np.zeros(1, layout.REPLICA)[0], np.zeros(1, layout.deep(SEATS))[0]
    return r, d, np.zeros(100, layout.REQUEST)


@given(st.lists(st.tuples(st.sampled_from(["push", "pop", "drop"]), st.integers(0, 20)), max_size=60))
def test_the_heap_gives_the_next_to_finish_whatever_is_taken_from_the_middle(moves: list[tuple[str, int]]) -> None:
    r, d, _ = tables()
    inside: list[int] = []
    for request, (move, step) in enumerate(moves):
        if move == "push" and len(inside) < SEATS:
            inside.append(heap.key(step, request))
            heap.push(r, d, inside[-1])
        elif inside:
            wanted = min(inside) if move == "pop" else inside[step % len(inside)]
            inside.remove(wanted)
            assert heap.take(r, d, heap.place(r, d, wanted & layout.ID_MASK)) == wanted
        assert r["decoding"] == len(inside)
        if inside:
            assert d["heap"][0] == min(inside)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=200), st.lists(st.integers(0, 199), max_size=SEATS))
def test_the_longest_gap_is_exact_for_everybody_who_decodes_also_after_compaction(
    durations_s: list[float], joins: list[int]
) -> None:
    """The stack holds 32 entries here, and falling durations fill it."""
    r, d, q = tables()
    durations_s = sorted(durations_s, reverse=True)
    for step, duration_s in enumerate(durations_s, start=1):
        for request, joined in enumerate(joins):
            if joined == step - 1:
                q[request]["joined"] = joined
                heap.push(r, d, heap.key(1000, request))
        heap.note(r, d, q, step, duration_s)
    for request, joined in enumerate(joins):
        if joined < len(durations_s):
            assert heap.longest_s(r, d, joined) == max(durations_s[joined:])
            assert q[request]["joined"] == joined
