"""Fewer points, same drawing: what a thinned series keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.pages import thin

VALUES = st.lists(st.one_of(st.integers(0, 3).map(float), st.just(math.nan)), min_size=1, max_size=60)


@given(VALUES)
def test_changes_draw_the_same_steps(values: list[float]) -> None:
    """At every moment of the series the last kept point has its value."""
    t_s = np.arange(float(len(values)))
    kept_s, kept = thin.changes(t_s, np.array(values))
    again = kept[np.searchsorted(kept_s, t_s, side="right") - 1]
    np.testing.assert_array_equal(again, np.array(values))
    assert kept_s[-1] == t_s[-1]


def test_a_constant_becomes_two_points() -> None:
    t_s, values = thin.changes(np.arange(1000.0), np.full(1000, 7.0))
    assert (t_s.tolist(), values.tolist()) == ([0.0, 999.0], [7.0, 7.0])


def test_an_envelope_keeps_peak_and_mean_and_leaves_unknown_samples_out() -> None:
    values = np.array([1.0, 3.0, 9.0, math.nan, 5.0, math.nan, math.nan, math.nan, math.nan])
    found = thin.envelope(np.arange(9.0), values, 3)
    assert found.t_s.tolist() == [0.0, 3.0, 6.0]
    assert found.low[:2].tolist() == [1.0, 5.0]
    assert found.mean[:2] == pytest.approx([13 / 3, 5.0])
    assert found.high[:2].tolist() == [9.0, 5.0]
    assert np.isnan([found.low[2], found.mean[2], found.high[2]]).all()


def test_an_even_selection_has_at_most_so_many() -> None:
    assert [len(thin.evenly(np.arange(float(n)), 100)) for n in (0, 99, 100, 101, 1000)] == [0, 99, 100, 51, 100]
