"""The four views of a coming slot, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import views
from capstan.forecast.calendar import Calendar
from capstan.forecast.template import Template

DAY = Calendar(slot_s=3600.0, slots_per_day=24, origin_s=0.0)
ONE = 1 / 3600  # a request a slot
RISING = Template(DAY, tuple(float(hour + 1) for hour in range(24)) * 2, (0.1,) * 48, (5, 2), whole=True)
NOTHING = Template(DAY)


def test_without_a_template_the_last_slots_go_on() -> None:
    """1, 2 and 3 parts of 3, 6 and 9: (3 + 12 + 27) / 6 = 7."""
    seen = views.seen(NOTHING, (3.0, 6.0, 9.0), 10, day_level_ratio=1.0)
    last, steady, *templates = views.of(NOTHING, seen, 4)
    assert (last, templates) == (9.0, [None, None])
    assert steady == pytest.approx(7.0)


def test_an_unknown_slot_among_the_last_is_left_out() -> None:
    """(1 x 3 + 3 x 9) / 4 = 7.5."""
    assert views.seen(NOTHING, (3.0, None, 9.0), 10, day_level_ratio=1.0).steady_rps == pytest.approx(7.5)


def test_a_load_on_its_template_follows_it() -> None:
    seen = views.seen(RISING, (8.0, 9.0, 10.0), 9, day_level_ratio=1.0)
    last, _, shaped, usual = views.of(RISING, seen, 3)
    assert last == 10.0
    assert shaped == usual == pytest.approx(13.0)


def test_a_monday_a_fifth_above_the_last_is_carried_on() -> None:
    """All day 1.2 times the template, so 1.2 times 13 three hours ahead."""
    seen = views.seen(RISING, (9.6, 10.8, 12.0), 9, day_level_ratio=1.2)
    _, _, shaped, usual = views.of(RISING, seen, 3)
    assert shaped == pytest.approx(15.6, abs=2 * ONE)
    assert usual == pytest.approx(15.6, abs=2 * ONE)


def test_a_departure_fades_to_the_level_of_the_day() -> None:
    """Now twice the template on a day at 1: after n slots 2^(f^n), f = 1 - 9 / 24 = 0.625; usual stays at 1."""
    seen = views.seen(RISING, (16.0, 18.0, 20.0), 9, day_level_ratio=1.0)
    for lead, usual_rps in ((1, 11.0), (2, 12.0), (5, 15.0)):
        _, _, shaped, usual = views.of(RISING, seen, lead)
        assert shaped == pytest.approx(usual_rps * 2 ** (0.625**lead), abs=3 * ONE)
        assert usual == pytest.approx(usual_rps)


def test_a_level_is_held_to_four_times() -> None:
    assert views.level(RISING, (1000.0,), 9) == 4.0
    assert views.level(RISING, (0.0,), 9) == 0.25


def test_an_empty_night_divides() -> None:
    """Template and load 0: a request a slot over a request a slot is 1."""
    night = Template(DAY, (0.0,) * 48, (0.1,) * 48, (5, 2), whole=True)
    assert views.level(night, (0.0,), 9) == 1.0
    assert views.of(night, views.seen(night, (0.0,), 9, day_level_ratio=1.0), 2) == (0.0, 0.0, 0.0, 0.0)


def test_nothing_is_said_without_the_newest_slot() -> None:
    with pytest.raises(ValueError, match="newest slot"):
        views.seen(NOTHING, (3.0, None), 10, day_level_ratio=1.0)


RATE = st.floats(0, 1e4)


@given(st.lists(st.none() | RATE, max_size=2), RATE, st.floats(0.25, 4), st.integers(0, 60), st.integers(1, 30))
def test_views_are_rates(
    before: list[float | None], last_rps: float, day_level_ratio: float, last_slot: int, lead: int
) -> None:
    """Never negative, and never above four times the template or the highest rate seen, whichever is more."""
    seen = views.seen(RISING, (*before, last_rps), last_slot, day_level_ratio=day_level_ratio)
    most = max(4.0 * 25, *(rate or 0.0 for rate in before), last_rps)
    for view in views.of(RISING, seen, lead):
        assert view is not None
        assert 0 <= view <= most * (1 + 1e-9)
