"""The power machine compiled, as replay runs it, and plain, as the live side does: the same states, to the last bit."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.powercap import machine
from capstan.powercap.domains import Scheme, Timers
from capstan.powercap.step import law
from capstan.replay.kernel import compiling
from support import power

Advance = Callable[[machine.Law, machine.State, machine.Seen, float], tuple[machine.State, int]]


@functools.cache
def compiled() -> Advance:
    """The machine as numba makes it."""
    found: dict[str, Callable[..., object]] = compiling.compiled((machine,), ("advance",))
    return found["advance"]  # type: ignore[return-value]  # compiled code has no types


LAWS = st.builds(
    lambda scheme, dwell_s, spread: law(
        power.domain(scheme=scheme, timers=Timers(dwell_s=dwell_s, spread_ratio=spread))
    ),
    st.sampled_from(Scheme),
    st.sampled_from([2.0, 5.0, 30.0]),
    st.sampled_from([0.0, 0.2]),
)
RATIOS = st.floats(0.0, 1.3) | st.sampled_from([0.57, 0.62, 0.67, 0.72, 0.97, 1.0])
SEEN = st.builds(
    lambda ratio, heard, whole, blind, unsafe, armed, confirmed: machine.Seen(
        ratio, heard * ratio, whole, blind and not whole, unsafe, armed, confirmed
    ),
    RATIOS,
    st.floats(0.0, 1.0),
    st.sampled_from([True, True, True, False]),
    st.booleans(),
    st.sampled_from([False] * 9 + [True]),
    st.sampled_from([True] * 9 + [False]),
    st.booleans(),
)
LIVES = st.lists(st.tuples(SEEN, st.integers(1, 40)), min_size=1, max_size=8)
"""Stretches of seconds in which the same is seen, so that dwells do pass."""
FRESH = machine.State(machine.NORMAL, 0.0, math.nan, math.nan, 0, math.nan, 0, math.nan, math.nan, False, math.nan, 0)


def same(one: tuple[machine.State, int], other: tuple[machine.State, int]) -> bool:
    """Equal, where NaN equals NaN."""
    pairs = zip((*one[0], one[1]), (*other[0], other[1]), strict=True)
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in pairs)


@given(LAWS, LIVES)
@settings(max_examples=60)  # the first call compiles
def test_compiled_and_plain_machine_live_the_same_life(law: machine.Law, life: list[tuple[machine.Seen, int]]) -> None:
    state, now_s = FRESH, 0.0
    for seen, seconds in life:
        for _ in range(seconds):
            plain = machine.advance(law, state, seen, now_s)
            assert same(plain, compiled()(law, state, seen, now_s))
            state, now_s = plain[0], now_s + 1.0


def test_two_states_that_differ_are_told_apart() -> None:
    """The comparison above can fail."""
    assert not same((FRESH, 0), (FRESH._replace(calm_since_s=1.0), 0))
    assert not same((FRESH, 0), (FRESH, 1))
