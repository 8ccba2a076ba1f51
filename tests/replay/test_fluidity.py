"""Bounds of Metron's fluidity index against the index itself, token by token."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.scores import fluidity

TTFT_S, TPOT_S = 2.0, 0.1


def index(ttft_s: float, gaps_s: list[float]) -> float:
    """Metron's algorithm 1: slack is carried on; a late token misses every deadline passed, and then none is left."""
    met, missed, slack_s, tpot_s = 0, 0, Fraction(0), Fraction(TPOT_S)  # exact: a deadline met by a hair is met
    if ttft_s <= TTFT_S:
        met, slack_s = 1, Fraction(TTFT_S) - Fraction(ttft_s)
    else:
        missed = 1 + math.floor((ttft_s - TTFT_S) / TPOT_S)
    for gap_s in map(Fraction, gaps_s):
        if gap_s <= tpot_s + slack_s:
            met, slack_s = met + 1, slack_s + tpot_s - gap_s
        else:
            missed, slack_s = missed + math.floor((gap_s - slack_s) / tpot_s), Fraction(0)
    return met / (met + missed)


def bounds(ttft_s: float, gaps_s: list[float], *, measured: bool = True) -> tuple[float, float]:
    longest = max(gaps_s, default=math.nan) if measured else math.nan
    columns = (np.array([ttft_s]), np.array([sum(gaps_s)]), np.array([longest]), np.array([len(gaps_s) + 1]))
    low, high = fluidity.bounds(*columns, ttft_limit_s=np.array([TTFT_S]), tpot_limit_s=TPOT_S)
    return float(low[0]), float(high[0])


@given(
    st.floats(0, 4),
    st.lists(st.one_of(st.floats(0, 0.3), st.floats(0, 3)), max_size=30),
    st.booleans(),
)
def test_the_index_lies_between_its_bounds(ttft_s: float, gaps_s: list[float], measured: bool) -> None:
    low, high = bounds(ttft_s, gaps_s, measured=measured)
    assert low - 1e-9 <= index(ttft_s, gaps_s) <= high + 1e-9
    assert low >= 0
    assert high <= 1


@pytest.mark.parametrize(
    ("ttft_s", "gaps_s", "low", "high"),
    [
        (0.5, [0.05] * 10, 1.0, 1.0),
        (0.5, [], 1.0, 1.0),
        (2.05, [0.05] * 10, 10 / 11, 10 / 11),
        (2.25, [], 0.0, 0.0),
        (1.0, [0.05, 1.0, 0.05], 1.0, 1.0),
        (2.0, [0.45] + [0.05] * 19, 7 / 21, 1.0),
        (2.0, [0.155] * 10, 1 / 16, 10 / 16),
    ],
    ids=[
        "all in time",
        "one token",
        "the first is late by less than a deadline, the rest in time: 10 met, 1 missed",
        "the first is late by 2.5 deadlines and the only one",
        "a stall of 1 s within the second won by the first token",
        "a stall with no slack: 1.4 s of decoding can hide 14 misses, or none: the end is in time",
        "steadily too slow: late by 0.55 s in all, so at least 5 + 1 misses; 1.55 s cannot hide more than 15",
    ],
)
def test_bounds_by_hand(ttft_s: float, gaps_s: list[float], low: float, high: float) -> None:
    assert bounds(ttft_s, gaps_s) == pytest.approx((low, high))
