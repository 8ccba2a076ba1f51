"""A history walked as if it were the present: how it comes true, and what a restarted operator knows again."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import history, walk
from capstan.forecast.calendar import Calendar
from capstan.forecast.history import History
from capstan.forecast.peak import Rates
from capstan.model.outlook import Source

HALF_HOURS = Calendar(slot_s=1800.0, slots_per_day=48, origin_s=0.0)
DAY = HALF_HOURS.slots_per_day
WINDOW_S = 600.0
COURSE = walk.Course(horizon_slots=3, window_s=WINDOW_S, lookback_s=3600.0)


def noisy_days(count: int, *, seed: int = 1, first: int = 0) -> Rates:
    """A day between 50 and 150 rps with 5 % of noise, in windows of ten minutes."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    windows = range(first * 144, (first + count) * 144)
    return tuple(
        (WINDOW_S * (i + 1), (100 + 50 * math.sin(2 * math.pi * i / 144)) * max(1 + chance.gauss(0, 0.05), 0))
        for i in windows
    )


WEEKS = noisy_days(14)
WHOLE = history.of_rates(HALF_HOURS, WEEKS)


def test_two_like_weeks_are_forecast_better_than_by_either_naive_rule() -> None:
    """The band holds 85 to 95 %, and both losses are beaten, at every distance of the second week."""
    steps = list(walk.over(WEEKS[7 * 144 :], history.of_rates(HALF_HOURS, WEEKS[: 7 * 144]), COURSE))
    assert len(steps) == 7 * DAY
    assert {step.told.source for step in steps} == {Source.TEMPLATE}
    for lead in (1, 3):
        found = walk.judged(steps, WHOLE, lead_slots=lead)
        total = found.score
        assert total.slots == total.week_slots == 7 * DAY - lead
        assert 0.85 <= (total.covered_ratio or 0.0) <= 0.95
        assert total.ours_rps < total.last_value_rps
        assert total.ours_rps < total.last_week_rps
        assert found.exceeded <= 0.1 * found.epochs


def test_a_walk_tells_its_sources_as_history_grows() -> None:
    """From nothing: one day reactive, then by the days there are, from the eighth on by the week."""
    steps = list(walk.over(WEEKS, History(HALF_HOURS), COURSE))
    by_day = [{step.told.source for step in steps[day * DAY : (day + 1) * DAY]} for day in range(14)]
    assert by_day == [{Source.REACTIVE}, *[{Source.DAY}] * 6, *[{Source.TEMPLATE}] * 7]


def test_an_hour_of_history_says_nothing_of_days() -> None:
    steps = list(walk.over(WEEKS[6:24], history.of_rates(HALF_HOURS, WEEKS[:6]), COURSE))
    assert {step.told.source for step in steps} == {Source.REACTIVE}


@pytest.mark.parametrize("days", [3, 10])
def test_a_restarted_operator_knows_what_it_knew(days: int) -> None:
    """The history read again gives the forecast of one who never went away, to a few per cent of the rate."""
    before = history.of_rates(HALF_HOURS, WEEKS[: days * 144])
    never_away = list(walk.over(WEEKS[: days * 144], History(HALF_HOURS), COURSE))[-1].tracker
    typical, again = walk.warmed(before, horizon_slots=3)
    assert typical.days[0] + typical.days[1] == days
    for one, other in zip(never_away.ahead, again.ahead, strict=True):
        assert other.slot == one.slot
        assert other.median_rps == pytest.approx(one.median_rps, rel=0.03)
        assert other.high_rps == pytest.approx(one.high_rps, rel=0.12)
    assert again.peak.reach_ratio == pytest.approx(never_away.peak.reach_ratio, rel=0.4)


def test_nothing_known_warms_to_nothing() -> None:
    typical, tracker = walk.warmed(History(HALF_HOURS), horizon_slots=3)
    assert (typical.typical_rps, tracker.last_slot, tracker.horizon_slots) == ((), None, 3)


@given(st.integers(1, 100), st.lists(st.floats(0, 1e3), min_size=1, max_size=12))
def test_what_comes_later_changes_nothing_that_was_said(cut: int, later: list[float]) -> None:
    """Whatever follows the cut, steps of slots that had closed by then are the same."""
    known = WEEKS[:cut]
    changed = (*known, *((WINDOW_S * (cut + 1 + i), rate) for i, rate in enumerate(later)))
    closed_by = HALF_HOURS.slot(known[-1][0])
    last = max(closed_by - 4, 0)  # the last few are enough: the rest was compared when they were the last
    real = [s for s in walk.over(WEEKS[: cut + 12], History(HALF_HOURS), COURSE) if last <= s.slot < closed_by]
    other = [s for s in walk.over(changed, History(HALF_HOURS), COURSE) if last <= s.slot < closed_by]
    assert real == other


def test_a_gap_in_telemetry_is_stepped_over() -> None:
    """Six hours without a sample: nothing is said of them, nothing is judged by them, and the walk goes on."""
    gap = range(5 * 144, 5 * 144 + 36)
    seen = tuple(sample for i, sample in enumerate(WEEKS) if i not in gap)
    steps = list(walk.over(seen, History(HALF_HOURS), COURSE))
    found = walk.judged(steps, history.of_rates(HALF_HOURS, seen), lead_slots=3)
    assert 13.5 * DAY < len(steps) < 14 * DAY
    assert found.score.slots <= 14 * DAY - 12 - 3
    assert 0.85 <= (found.score.covered_ratio or 0.0) <= 0.97  # two weeks of half hours are few


def test_one_unknown_slot_is_not_judged_and_no_epoch_that_holds_it() -> None:
    """Lost at three slots ahead: the slot as a target, and as a last value. Lost epochs: the three that hold it."""
    seen = tuple(sample for i, sample in enumerate(WEEKS) if i not in range(600, 603))
    steps = list(walk.over(seen, History(HALF_HOURS), COURSE))
    found = walk.judged(steps, history.of_rates(HALF_HOURS, seen), lead_slots=3)
    assert len(steps) == 14 * DAY  # a look-back of two slots bridges it
    assert (found.score.slots, found.epochs) == (14 * DAY - 3 - 2, 14 * DAY - 3 - 3)


def test_epochs_and_slots_are_counted_by_hand() -> None:
    """Three windows a slot, always 9, 10, 11 rps; then one slot with a window of 99: three epochs hold it."""
    windows = [9.0, 10.0, 11.0] * 20
    windows[46] = 99.0  # in slot 15
    samples = tuple((WINDOW_S * (i + 1), rate) for i, rate in enumerate(windows))
    steps = list(walk.over(samples, History(HALF_HOURS), COURSE))
    whole = history.of_rates(HALF_HOURS, samples)
    found = walk.judged(steps, whole, lead_slots=1)
    assert (len(steps), found.score.slots, found.epochs) == (20, 19, 17)
    assert (found.exceeded, found.outlasted) == (3, 3)
    assert found.score.last_value_rps == pytest.approx(2 * (119 / 3 - 10) / 2)  # up, and down again
