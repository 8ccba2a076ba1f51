"""Where a moment stands in the pattern of a week."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import calendar
from capstan.forecast.calendar import Calendar

MONDAY_S = 0.0
WEEK = Calendar(origin_s=MONDAY_S)


@pytest.mark.parametrize(
    ("t_s", "slot", "kind", "place"),
    [
        pytest.param(0.0, 0, 0, 0, id="monday-midnight"),
        pytest.param(299.9, 0, 0, 0, id="the-end-of-its-first-slot"),
        pytest.param(300.0, 1, 0, 1, id="a-start-belongs-to-its-slot"),
        pytest.param(86_400.0, 288, 0, 0, id="tuesday-is-a-workday-like-monday"),
        pytest.param(4 * 86_400.0 + 86_399, 1439, 0, 287, id="the-last-slot-of-friday"),
        pytest.param(5 * 86_400.0, 1440, 1, 288, id="saturday-comes-after-the-workdays-slots"),
        pytest.param(6 * 86_400.0 + 3600, 1740, 1, 300, id="one-o-clock-on-sunday"),
        pytest.param(7 * 86_400.0, 2016, 0, 0, id="the-next-monday"),
        pytest.param(-1.0, -1, 1, 575, id="before-the-origin-it-was-sunday"),
    ],
)
def test_a_moment_has_a_slot_a_kind_of_day_and_a_place(t_s: float, slot: int, kind: int, place: int) -> None:
    assert WEEK.slot(t_s) == slot
    assert (WEEK.kind(slot), WEEK.place(slot)) == (kind, place)


def test_unix_time_began_on_a_thursday() -> None:
    """1970-01-03 was a Saturday; 2026-11-21 12:00 UTC (1795262400) is one, too, and the Monday after is a workday."""
    shipped = Calendar()
    assert shipped.kind(shipped.slot(2 * 86_400.0)) == 1
    assert shipped.kind(shipped.slot(1_795_262_400.0)) == 1
    assert shipped.kind(shipped.slot(1_795_262_400.0 + 2 * 86_400.0)) == 0


def test_a_window_that_ends_with_a_slot_tells_of_it() -> None:
    assert [WEEK.slot_before(t_s) for t_s in (1.0, 300.0, 300.1)] == [0, 0, 1]


def test_a_week_in_an_hour_has_the_same_pattern() -> None:
    """168 times as fast a week takes 3,600 s: Saturday begins 5/7 into it."""
    fast = WEEK.faster(168.0)
    saturday_s = 3600 * 5 / 7
    assert fast.slot_s == pytest.approx(300 / 168)
    assert fast.place(fast.slot(saturday_s + 0.1)) == WEEK.place(WEEK.slot(5 * 86_400.0 + 16.8))


def test_a_faster_calendar_keeps_the_moment_where_it_is_in_the_week() -> None:
    """The trace begins on a Sunday: its moment 0 is a Sunday, however fast it passes."""
    sunday = Calendar(origin_s=-6 * 86_400.0)
    assert sunday.kind(sunday.slot(0.0)) == 1
    assert sunday.faster(60.0).kind(sunday.faster(60.0).slot(0.0)) == 1


def test_lengths_in_seconds_make_a_calendar() -> None:
    assert calendar.of(60.0) == Calendar(60.0, 1440)
    assert calendar.of(5.0, day_s=1440.0, week_s=10_080.0, origin_s=0.0) == Calendar(5.0, 288, 7, origin_s=0.0)


@pytest.mark.parametrize(
    ("slot_s", "day_s", "slots"),
    [
        pytest.param(300.0, 86_400.0, 288, id="the shipped pool period"),
        pytest.param(7.0, 86_400.0, 12_343, id="seven seconds do not divide a day, 6.99993 do"),
        pytest.param(60.0, 210.0, 4, id="a rehearsed day of three and a half minutes: 52.5 s"),
        pytest.param(300.0, 60.0, 1, id="a period longer than the day"),
    ],
)
def test_near_lengths_make_whole_slots(slot_s: float, day_s: float, slots: int) -> None:
    found = calendar.near(slot_s, day_s=day_s)
    assert found.slots_per_day == slots
    assert found.slot_s * slots == pytest.approx(day_s)
    assert found.kind(found.slot(found.origin_s + 4.5 * day_s)) == 0, "a Friday"
    assert found.kind(found.slot(found.origin_s + 5.5 * day_s)) == 1, "a Saturday"


def test_a_trace_that_begins_on_a_sunday_has_its_monday_a_day_later() -> None:
    found = calendar.near(300.0, begins_s=6 * 86_400.0)
    assert [found.kind(found.slot(day * 86_400.0 + 1.0)) for day in (0, 1)] == [1, 0]


@pytest.mark.parametrize(
    "lengths", [{"slot_s": 7.0}, {"slot_s": 300.0, "week_s": 100_000.0}, {"slot_s": 90_000.0}], ids=str
)
def test_lengths_that_do_not_divide_are_refused(lengths: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="whole number of times"):
        calendar.of(**lengths)


@pytest.mark.parametrize(
    ("slot_s", "slots", "days", "workdays"), [(0.0, 288, 7, 5), (300.0, 0, 7, 5), (300.0, 288, 7, 8), (300.0, 1, 0, 0)]
)
def test_a_calendar_without_slots_or_days_is_refused(slot_s: float, slots: int, days: int, workdays: int) -> None:
    with pytest.raises(ValueError, match="slot"):
        Calendar(slot_s, slots, days, workdays)


@given(st.integers(-10_000, 10_000), st.sampled_from([5.0, 300.0 / 168, 300.0]))
def test_a_slots_start_lies_in_it_and_its_end_tells_of_it(slot: int, slot_s: float) -> None:
    known = Calendar(slot_s, origin_s=17.0)
    assert known.slot(known.start_s(slot)) == slot
    assert known.slot_before(known.start_s(slot + 1)) == slot
