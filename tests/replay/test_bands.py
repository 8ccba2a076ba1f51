"""Bands of ratios: order statistics by hand, and what they promise of the next one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.scores import bands
from capstan.replay.scores.bands import Band

ratios = st.lists(st.floats(0.0, 100.0), min_size=1, max_size=200)
enough = st.lists(st.floats(0.0, 100.0), min_size=19, max_size=200)


def test_a_spread_is_the_median_and_what_nine_of_ten_lie_in() -> None:
    """1 to 100 in hundredths: places 5, 50 and 95, nearest rank."""
    found = bands.spread([place / 100 for place in range(100, 0, -1)])
    assert found is not None
    assert (found.median_ratio, found.range, found.count) == (0.50, Band(0.05, 0.95), 100)


PLACES = {
    "the least number: all of them": (19, (1, 19)),
    "twenty: of 21 gaps 1.05 are below": (20, (1, 20)),
    "thirty-nine: of 40 gaps two on each side": (39, (2, 38)),
    "a hundred: of 101 gaps five on each side": (100, (5, 96)),
}


@pytest.mark.parametrize(("count", "places"), PLACES.values(), ids=PLACES)
def test_a_band_ends_at_order_statistics(count: int, places: tuple[int, int]) -> None:
    """floor(0.05 (n + 1)) and ceil(0.95 (n + 1)), counted from 1."""
    found = bands.band([float(place) for place in range(count, 0, -1)])
    assert found == Band(*map(float, places))


@pytest.mark.parametrize("count", [0, 1, 18])
def test_too_few_ratios_promise_nothing(count: int) -> None:
    assert bands.band([1.0] * count) is None


def test_nothing_has_no_spread_and_is_not_covered() -> None:
    assert bands.spread([]) is None
    assert Band(0.5, 1.0).covered_ratio([]) is None


def test_both_ends_of_a_band_are_in_it() -> None:
    assert Band(0.5, 1.5).covered_ratio([0.5, 1.5, 0.49, 1.51]) == 0.5


def test_what_never_came_is_beyond_every_band_that_was_ever_reached() -> None:
    assert Band(0.5, 1.5).covered_ratio([1.0, math.inf]) == 0.5
    found = bands.spread([1.0, math.inf, math.inf])
    assert found is not None
    assert found.median_ratio == math.inf


@pytest.mark.parametrize("ends", [(1.5, 0.5), (-0.1, 1.0), (math.nan, 1.0)], ids=["falling", "below zero", "no number"])
def test_a_band_that_is_none_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="rises from 0"):
        Band(*ends)


def test_the_next_ratio_lies_in_the_band_nine_times_of_ten() -> None:
    """4,000 draws of 39 ratios and a fortieth: 36 of 40 gaps, 90 %; two standard errors are 0.9 points."""
    drawn = np.random.default_rng(5).lognormal(size=(4000, 40))
    hits = 0
    for row in drawn.tolist():
        found = bands.band(row[:39])
        assert found is not None
        hits += found.low_ratio <= row[39] <= found.high_ratio
    assert hits / 4000 == pytest.approx(36 / 40, abs=0.01)


@given(enough)
def test_a_band_holds_nine_tenths_of_what_it_was_made_of(values: list[float]) -> None:
    found = bands.band(values)
    assert found is not None
    covered = found.covered_ratio(values)
    assert covered is not None
    assert covered >= 0.9 - 1e-9


@given(ratios)
def test_the_median_lies_between_the_ends(values: list[float]) -> None:
    found = bands.spread(values)
    assert found is not None
    assert found.range.low_ratio <= found.median_ratio <= found.range.high_ratio


@given(enough, st.permutations(range(5)))
def test_order_is_irrelevant(values: list[float], places: list[int]) -> None:
    turned = [value for place in places for value in values[place::5]]
    assert bands.band(turned) == bands.band(values)
    assert bands.spread(turned) == bands.spread(values)
