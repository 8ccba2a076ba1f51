"""The shape of a week: medians of workdays and of weekend days, and how far slots lie from them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import template
from capstan.forecast.calendar import Calendar
from capstan.forecast.history import History
from capstan.forecast.template import Template
from capstan.model.outlook import Source

DAY = 24
HOURS = Calendar(slot_s=3600.0, slots_per_day=DAY, origin_s=0.0)


QUARTERS = Calendar(slot_s=21_600.0, slots_per_day=4, origin_s=0.0)


def days(*levels: float | None, first: int = 0) -> History:
    """Return flat days from `first` (0: a Monday) on; None: a day that was not seen."""
    rates = tuple(level for level in levels for _ in range(DAY))
    return History(HOURS, first * DAY, rates)


def test_the_median_of_workdays_and_of_the_weekend_are_kept_apart() -> None:
    """Workdays 10, 30, 20, 90, 20: the median is 20, whatever happened on Thursday; weekend (4 + 6) / 2 = 5."""
    found = template.of(days(10, 30, 20, 90, 20, 4, 6))
    assert (found.days, found.whole) == ((5, 2), True)
    middle = DAY // 2  # away from midnights, where neighbours of the day before are averaged in
    assert found.at(7 * DAY + middle) == pytest.approx(20.0)
    assert found.at(12 * DAY + middle) == pytest.approx(5.0)
    assert found.source(7 * DAY) is Source.TEMPLATE


def test_a_day_alone_is_lent_to_every_day() -> None:
    found = template.of(days(8, first=6))  # a Sunday
    assert (found.at(7 * DAY + 5), found.at(13 * DAY + 5)) == (8.0, 8.0)
    assert (found.days, found.source(7 * DAY)) == ((0, 1), Source.DAY)


def test_less_than_half_a_day_is_no_template() -> None:
    found = template.of(History(HOURS, 0, (5.0,) * (DAY // 2 - 1)))
    assert found == Template(HOURS)
    assert (found.at(5), found.source(5), found.spread(5)) == (None, Source.REACTIVE, template.SPREAD_RATIO)


def test_an_empty_history_is_no_template() -> None:
    assert template.of(History(HOURS)) == Template(HOURS)


def test_a_week_without_its_weekend_is_no_whole_week() -> None:
    found = template.of(days(9, 9, 9, 9, 9, None, None, 9, 9, 9))
    assert (found.days, found.whole) == ((8, 0), False)
    assert found.source(0) is Source.DAY


def test_a_slot_that_was_never_seen_stays_unknown() -> None:
    """Nobody looked at three o'clock, on any day: the neighbours do not stand in for it."""
    rates = tuple(None if hour == 3 else 5.0 for hour in range(DAY))
    found = template.of(History(HOURS, 0, rates))
    assert (found.at(3), found.source(3), found.at(4), found.source(4)) == (None, Source.REACTIVE, 5.0, Source.DAY)


def test_a_slot_is_averaged_with_its_known_neighbours() -> None:
    """One hour of 10 in a day of 5 counts for a fifth: (4 x 5 + 10) / 5 = 6; beside an unknown hour it is a quarter."""
    rates: list[float | None] = [5.0] * DAY
    rates[10] = 10.0
    assert template.of(History(HOURS, 0, tuple(rates))).at(10) == pytest.approx(6.0)
    rates[11] = None
    assert template.of(History(HOURS, 0, tuple(rates))).at(10) == pytest.approx(25 / 4)


def test_only_the_last_four_weeks_count() -> None:
    old, new = (100.0,) * 7, (10.0,) * 28
    found = template.of(days(*old, *new))
    assert found.at(DAY // 2) == pytest.approx(10.0)
    assert found.days == (20, 8)


def test_the_spread_of_days_that_agree_shrinks_and_of_days_that_do_not_grows() -> None:
    """Two Mondays, both flat, agree: 0.1 sqrt(12 / (12 + n)). Where one rises and one falls, the log of each is off."""
    flat = template.of(days(10, 10, 10, 10, 10, 10, 10))
    assert flat.spread(5) == pytest.approx(0.1 * math.sqrt(12 / 17))  # one slot a block, five workdays: n = 5
    wild = tuple(10.0 * (1.5 if (hour // 6 + day) % 2 else 0.6) for day in range(7) for hour in range(DAY))
    assert template.of(History(HOURS, 0, wild)).spread(DAY // 2) > 0.2


def test_a_day_at_another_level_is_no_spread() -> None:
    """Workdays of 10 and of 20 have the same shape: their level is taken out before the spread is measured."""
    same, other = (template.of(days(*levels, 5, 5)) for levels in ((10,) * 5, (10, 10, 20, 10, 10)))
    assert other.spread(DAY // 2) == pytest.approx(same.spread(DAY // 2))


def test_an_empty_service_has_a_template_of_nothing() -> None:
    """Nobody came for a week: that is known, and it is 0."""
    found = template.of(days(*(0.0,) * 7))
    assert (found.at(5), found.source(5)) == (0.0, Source.TEMPLATE)


@given(st.lists(st.none() | st.floats(0, 100), min_size=4, max_size=40))
def test_a_typical_rate_lies_within_what_was_seen(rates: list[float | None]) -> None:
    found = template.of(History(QUARTERS, 0, tuple(rates)))
    seen = [rate for rate in rates if rate is not None]
    for rate in found.typical_rps:
        assert rate is None or min(seen) - 1e-9 <= rate <= max(seen) + 1e-9
    assert all(math.isfinite(spread) and spread > 0 for spread in found.spread_ratio)


@given(st.lists(st.floats(0.1, 100), min_size=28, max_size=28), st.floats(0.1, 10))
def test_twice_the_load_is_twice_the_template(rates: list[float], times: float) -> None:
    one = template.of(History(QUARTERS, 0, tuple(rates)))
    other = template.of(History(QUARTERS, 0, tuple(rate * times for rate in rates)))
    assert other.typical_rps == pytest.approx(tuple((rate or 0.0) * times for rate in one.typical_rps))
    assert other.spread_ratio == pytest.approx(one.spread_ratio)
