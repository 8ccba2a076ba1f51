"""The forecast of the next epoch: what it rests on, and the peak to provision for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import ahead, peak, template, track
from capstan.forecast.ahead import Forecast
from capstan.forecast.calendar import Calendar
from capstan.forecast.history import History
from capstan.forecast.peak import Rates
from capstan.forecast.template import Template
from capstan.forecast.track import Closed
from capstan.model.outlook import Source, Tracker

FIVE = Calendar(origin_s=0.0)
DAY = FIVE.slots_per_day
NOTHING = Template(FIVE)
MORNING = 7 * DAY + 8 * 12  # eight o'clock on the Monday after the first week


def swing(slot: int) -> float:
    """5 rps by night, and from eight o'clock on 20."""
    return 20.0 if slot % DAY >= 8 * 12 else 5.0


WEEK = template.of(History(FIVE, 0, tuple(swing(slot) for slot in range(7 * DAY))))


def watched(typical: Template, until: int, first: int = 7 * DAY) -> tuple[Tracker, Rates]:
    """Return the tracker of one who watched up to a slot's start, and the samples of the last half hour."""
    tracker = Tracker()
    for slot in range(first, until):
        tracker = track.closed(tracker, typical, Closed(slot, swing(slot), swing(slot)))
    now_s = FIVE.start_s(until)
    return tracker, tuple(
        (now_s - 1800 + 60.0 * i, swing(FIVE.slot_before(now_s - 1800 + 60.0 * i))) for i in range(1, 31)
    )


def ask(typical: Template, tracker: Tracker, rates: Rates, *, now_s: float, horizon_s: float = 1800.0) -> Forecast:
    return ahead.forecast(typical, tracker, rates, now_s=now_s, horizon_s=horizon_s, window_s=60.0)


def test_the_template_sees_the_morning_come() -> None:
    """A quarter of an hour before eight: the load is 5 and the epoch's peak is planned for 20."""
    now = MORNING - 3
    tracker, rates = watched(WEEK, now)
    told = ask(WEEK, tracker, rates, now_s=FIVE.start_s(now))
    reactive = peak.peak_rps(rates, now_s=FIVE.start_s(now), lead_s=1800.0, window_s=60.0, recent_s=120.0)
    assert told.source is Source.TEMPLATE
    assert told.peak_rps > 15 > 7 > reactive
    assert told.low_rps < told.median_rps < told.high_rps <= told.sustained_rps
    assert 5 < told.mean_rps < 20  # half of the epoch is night


def test_a_day_of_history_is_yesterdays_slots() -> None:
    """History of one Sunday: Monday's morning is seen coming, and the source says what that rests on."""
    sunday = template.of(History(FIVE, 6 * DAY, tuple(swing(slot) for slot in range(6 * DAY, 7 * DAY))))
    tracker, rates = watched(sunday, MORNING - 3)
    told = ask(sunday, tracker, rates, now_s=FIVE.start_s(MORNING - 3))
    assert (told.source, told.peak_rps > 10) == (Source.DAY, True)


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(History(FIVE), id="no-history"),
        pytest.param(History(FIVE, 7 * DAY - 2, (5.0, 5.0)), id="ten-minutes-of-history"),
    ],
)
def test_under_a_day_of_history_the_forecast_is_reactive(known: History) -> None:
    """Exactly the recent peak and its guard: 5 + 3 sqrt(5 / 600), since the load stood still for ten minutes."""
    typical = template.of(known)
    tracker, rates = watched(typical, MORNING - 3)
    told = ask(typical, tracker, rates, now_s=FIVE.start_s(MORNING - 3))
    assert told.source is Source.REACTIVE
    assert told.peak_rps == pytest.approx(5 + 3 * math.sqrt(5 / 600))
    assert (told.mean_rps, told.median_rps) == pytest.approx((5.0, 5.0))


def test_before_the_first_slot_has_closed_the_rates_alone_speak() -> None:
    told = ask(NOTHING, Tracker(), ((10.0, 4.0), (20.0, 6.0)), now_s=20.0)
    assert (told.low_rps, told.median_rps, told.source) == (4.0, 6.0, Source.REACTIVE)
    assert told.peak_rps == peak.peak_rps(
        ((10.0, 4.0), (20.0, 6.0)), now_s=20.0, lead_s=1800.0, window_s=60.0, recent_s=120.0
    )


def test_a_tracker_that_was_left_behind_is_not_believed() -> None:
    """Blind for hours: what was said of the past says nothing of the next half hour."""
    tracker, _ = watched(WEEK, MORNING - 3)
    now_s = FIVE.start_s(MORNING + 50)
    assert ask(WEEK, tracker, ((now_s - 5, 7.0),), now_s=now_s).source is Source.REACTIVE


def test_a_burst_is_met_at_once() -> None:
    """By night 50 requests a second come out of nothing: the peak is above them in the same cycle."""
    now = 7 * DAY + 12
    tracker, rates = watched(WEEK, now)
    now_s = FIVE.start_s(now) + 10
    told = ask(WEEK, tracker, (*rates, (now_s, 50.0)), now_s=now_s)
    assert told.peak_rps > 50


def test_a_night_is_not_planned_as_the_evening_was() -> None:
    """A quarter of an hour after midnight, and a minute of 7: the reactive rule still holds on to 20."""
    now = 8 * DAY + 3
    tracker, rates = watched(WEEK, now)
    rates = (*rates[:-1], (rates[-1][0], 7.0))
    told = ask(WEEK, tracker, rates, now_s=FIVE.start_s(now))
    reactive = peak.peak_rps(rates, now_s=FIVE.start_s(now), lead_s=1800.0, window_s=60.0, recent_s=120.0)
    assert reactive > 20 > told.peak_rps


def test_drift_is_told() -> None:
    tracker = Tracker()
    for slot in range(7 * DAY, 8 * DAY):
        tracker = track.closed(tracker, WEEK, Closed(slot, 12.0 + slot % 2, 13.0))
    now_s = FIVE.start_s(8 * DAY)
    assert ask(WEEK, tracker, ((now_s, 12.0),), now_s=now_s).drifted


def test_without_a_rate_there_is_nothing_to_forecast() -> None:
    with pytest.raises(ValueError, match="at least one rate"):
        ask(NOTHING, Tracker(), ((50.0, 1.0),), now_s=40.0)


TRACKED, RATES = watched(WEEK, MORNING - 3)
NOW_S = FIVE.start_s(MORNING - 3)


@given(st.lists(st.tuples(st.floats(1, 1e5), st.floats(0, 1e5)), max_size=10).map(sorted))
def test_nothing_later_than_now_changes_a_forecast(later: list[tuple[float, float]]) -> None:
    future = tuple((NOW_S + after_s, rate) for after_s, rate in later)
    assert ask(WEEK, TRACKED, RATES + future, now_s=NOW_S) == ask(WEEK, TRACKED, RATES, now_s=NOW_S)
    assert ask(NOTHING, Tracker(), RATES + future, now_s=NOW_S) == ask(NOTHING, Tracker(), RATES, now_s=NOW_S)


@given(st.floats(1, 1800), st.floats(1, 1800))
def test_looking_further_ahead_never_lowers_the_peak(one_s: float, other_s: float) -> None:
    near, far = (ask(WEEK, TRACKED, RATES, now_s=NOW_S, horizon_s=s) for s in sorted((one_s, other_s)))
    assert near.peak_rps <= far.peak_rps
    assert near.sustained_rps <= far.sustained_rps


@given(st.floats(0, 500), st.floats(0, 500))
def test_more_load_now_never_lowers_the_peak(one_rps: float, other_rps: float) -> None:
    less, more = (
        ask(WEEK, TRACKED, (*RATES[:-1], (NOW_S, rate)), now_s=NOW_S).peak_rps for rate in sorted((one_rps, other_rps))
    )
    assert less <= more


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=30), st.sampled_from([NOTHING, WEEK]), st.floats(60, 3600))
def test_a_forecast_is_finite_and_in_order(rates_rps: list[float], typical: Template, horizon_s: float) -> None:
    rates: Rates = tuple((NOW_S - 60.0 * (len(rates_rps) - i), rate) for i, rate in enumerate(rates_rps, start=1))
    told = ask(typical, track.after(Tracker(), typical, rates, now_s=NOW_S), rates, now_s=NOW_S, horizon_s=horizon_s)
    assert 0 <= told.low_rps <= told.median_rps <= told.high_rps <= told.sustained_rps < math.inf
    assert rates_rps[-1] <= told.peak_rps < math.inf
