"""The running state of one stream: slots close, forecasts are judged and made, nothing is learnt from the future."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import template, track
from capstan.forecast.calendar import Calendar
from capstan.forecast.history import History
from capstan.forecast.peak import Rates
from capstan.forecast.template import Template
from capstan.forecast.track import Closed
from capstan.journal import codec
from capstan.model import outlook
from capstan.model.outlook import Source, Tracker

FIVE = Calendar(origin_s=0.0)
NOTHING = Template(FIVE)
DAY = FIVE.slots_per_day


def wave(slot: int, times: float = 1.0) -> float:
    """A day that swings between 5 and 15 rps."""
    return times * (10 + 5 * math.sin(2 * math.pi * slot / DAY))


WEEK = template.of(History(FIVE, 0, tuple(wave(slot) for slot in range(7 * DAY))))


def watched(rates_rps: list[float], typical: Template = NOTHING, first: int = 7 * DAY) -> Tracker:
    tracker = Tracker()
    for slot, rate_rps in enumerate(rates_rps, start=first):
        tracker = track.closed(tracker, typical, Closed(slot, rate_rps, rate_rps))
    return tracker


def test_a_slot_closes_when_its_time_is_over() -> None:
    """Samples every 100 s; at 299 s nothing has closed, at 300 s the first slot has, with the mean of three."""
    rates: Rates = ((100.0, 3.0), (200.0, 6.0), (300.0, 9.0), (400.0, 99.0))
    assert track.after(Tracker(), NOTHING, rates[:2], now_s=299.0) == Tracker()
    then = track.after(Tracker(), NOTHING, rates, now_s=300.0)
    assert (then.last_slot, then.recent_rps, then.peak.seen) == (0, (6.0,), ((0, 9.0),))
    assert [ahead.slot for ahead in then.ahead] == [1, 2, 3, 4, 5, 6, 7]
    assert {ahead.median_rps for ahead in then.ahead} == {6.0}


def test_cycles_within_a_slot_change_nothing() -> None:
    rates: Rates = tuple((10.0 * i, 5.0) for i in range(1, 60))
    then = track.after(Tracker(), NOTHING, rates, now_s=310.0)
    assert all(track.after(then, NOTHING, rates, now_s=now_s) is then for now_s in (310.0, 450.0, 599.0))


def test_slots_may_be_closed_late() -> None:
    """Twenty minutes of cycles that did not close slots, then one that does: the same as if each had."""
    rates: Rates = tuple((50.0 * i, 5.0 + i % 7) for i in range(1, 30))
    prompt = Tracker()
    for now_s in range(0, 1450, 50):
        prompt = track.after(prompt, NOTHING, rates, now_s=float(now_s))
    assert track.after(Tracker(), NOTHING, rates, now_s=1400.0) == prompt


def test_a_slot_without_samples_is_unknown_not_empty() -> None:
    """Telemetry was away from 300 to 600 s: the rates around it stay 4, and nothing is judged by the gap."""
    rates: Rates = (*((60.0 * i, 4.0) for i in range(1, 6)), *((60.0 * i, 4.0) for i in range(11, 16)))
    then = track.after(Tracker(), NOTHING, rates, now_s=900.0)
    assert then.recent_rps == (4.0, None, 4.0)
    assert {ahead.median_rps for ahead in then.ahead} == {4.0}
    assert then.near.score.slots == 0  # what was said of slot 1 never came true or false


def test_after_a_long_gap_only_what_is_seen_counts() -> None:
    then = track.closed(watched([9.0] * 5), NOTHING, Closed(8 * DAY, 2.0))
    assert then.recent_rps == (None, None, 2.0)
    assert then.far.waiting[0].ahead.slot == 8 * DAY + 6


def test_time_that_goes_back_changes_nothing() -> None:
    """Clock skew: the same slot again, or an older one."""
    then = watched([9.0] * 5)
    for slot in (7 * DAY + 4, 7 * DAY):
        assert track.closed(then, NOTHING, Closed(slot, 500.0)) is then
    assert track.after(then, NOTHING, ((5.0, 500.0),), now_s=400.0) is then


def test_on_its_template_the_forecast_follows_it() -> None:
    """A day that repeats last week's: six slots ahead the median is right to 1 %, although the load moves by 5 %."""
    tracker = watched([wave(slot) for slot in range(7 * DAY, 8 * DAY)], WEEK)
    end = tracker.ahead[5]
    assert end.source is Source.TEMPLATE
    assert end.median_rps == pytest.approx(wave(8 * DAY + 5), rel=0.01)
    assert tracker.far.score.ours_rps < 0.4 * tracker.far.score.last_value_rps


def test_a_monday_a_fifth_above_the_last_is_met() -> None:
    tracker = watched([wave(slot, 1.2) for slot in range(7 * DAY, 7 * DAY + DAY // 2)], WEEK)
    assert tracker.day_level_ratio == pytest.approx(1.2, rel=0.03)
    assert tracker.ahead[5].median_rps == pytest.approx(wave(7 * DAY + DAY // 2 + 5, 1.2), rel=0.02)
    assert not tracker.drifted


def test_a_load_that_has_nothing_to_do_with_its_template_drifts_and_is_followed_all_the_same() -> None:
    """Flat where the template swings: drift is told, the last value wins, and the band is a quarter wider for it."""
    tracker = watched([20.0 + 0.5 * (slot % 2) for slot in range(DAY)], WEEK)
    assert tracker.drifted
    assert tracker.widening_ratio == outlook.DRIFT_WIDENING_RATIO
    assert tracker.ahead[5].median_rps == pytest.approx(20.25, abs=0.5)


def test_drift_ends_with_the_template_that_knows_the_new_load() -> None:
    """A flat load with noise of 5 %, seed 1: lost to a template that swings, found by one that is flat."""
    chance = random.Random(1)  # noqa: S311 - no secret
    rates = [20.0 + chance.gauss(0, 1) for _ in range(4 * DAY)]
    tracker = watched(rates[:DAY], WEEK)
    assert tracker.drifted
    known = template.of(History(FIVE, 0, (20.0,) * (7 * DAY)))
    for slot, rate_rps in enumerate(rates[DAY:], start=8 * DAY):
        tracker = track.closed(tracker, known, Closed(slot, rate_rps))
    assert not tracker.drifted


def test_without_a_template_nothing_drifts() -> None:
    assert not watched([wave(slot, 1 + slot % 5) for slot in range(DAY)]).drifted


def test_the_peak_learns_how_far_windows_lie_above_the_median() -> None:
    """Slots of 10 rps with a window of 16: sigma is 1.017, so 5.9 of them; the epochs under way make it overshoot."""
    tracker = Tracker()
    for slot in range(7 * DAY):
        tracker = track.closed(tracker, NOTHING, Closed(slot, 10.0, 16.0))
    assert 5.8 < tracker.peak.reach_ratio < 5.9 * math.exp(0.06 * 7)


def test_an_epoch_with_an_unseen_slot_teaches_no_peak() -> None:
    tracker = Tracker(horizon_slots=3)
    for slot in (0, 1, 2, 4, 5, 7, 8):
        tracker = track.closed(tracker, NOTHING, Closed(slot, 10.0, 99.0))
    assert tracker.peak.reach_ratio == outlook.PEAK_START_SIGMAS


def test_where_nobody_looked_at_windows_no_peak_is_learnt() -> None:
    tracker = Tracker()
    for slot in range(50):
        tracker = track.closed(tracker, NOTHING, Closed(slot, 10.0))
    assert (tracker.peak.reach_ratio, tracker.peak.seen) == (outlook.PEAK_START_SIGMAS, ())


def test_an_epoch_of_one_slot_is_possible() -> None:
    tracker = Tracker(horizon_slots=1)
    for slot in range(5):
        tracker = track.closed(tracker, NOTHING, Closed(slot, 10.0, 11.0))
    assert [ahead.slot for ahead in tracker.ahead] == [5, 6]
    assert tracker.near.score.slots == tracker.far.score.slots == 4


@pytest.mark.parametrize("wrong", [{"mean_rps": -1.0}, {"mean_rps": math.nan}, {"mean_rps": 2.0, "highest_rps": 1.0}])
def test_an_absurd_slot_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="highest window"):
        Closed(0, **wrong)


def test_a_horizon_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Tracker(horizon_slots=0)


def test_memory_is_small_and_survives_the_journal() -> None:
    """What waits is bounded by the horizon, and a recorded tracker decides the same again."""
    tracker = watched([wave(slot) for slot in range(2 * DAY)], WEEK)
    assert len(tracker.far.waiting) == len(tracker.peak.waiting) == 6
    assert (len(tracker.near.waiting), len(tracker.ahead), len(tracker.peak.seen)) == (1, 7, 6)
    recorded = json.dumps(codec.encode(tracker))
    assert codec.decode(Tracker, json.loads(recorded)) == tracker
    assert codec.decode(Template, json.loads(json.dumps(codec.encode(WEEK)))) == WEEK


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=40), st.sampled_from([NOTHING, WEEK]))
def test_a_band_holds_its_median(rates_rps: list[float], typical: Template) -> None:
    for ahead in watched(rates_rps, typical).ahead:
        assert 0 <= ahead.low_rps <= ahead.median_rps <= ahead.high_rps < math.inf
        assert ahead.sigma_rps > 0


@given(st.lists(st.floats(0.1, 100), min_size=20, max_size=40), st.integers(1, 19), st.lists(st.floats(0, 1e4)))
def test_nothing_later_than_now_changes_what_is_said(rates_rps: list[float], now: int, later: list[float]) -> None:
    """Samples after `now_s` may be in the list already: they are not looked at, whatever they are."""
    samples = tuple((60.0 * (i + 1), rate) for i, rate in enumerate(rates_rps))
    now_s = 60.0 * now * len(samples) / 20
    known = tuple((t_s, rate) for t_s, rate in samples if t_s <= now_s)
    future = tuple((now_s + 1 + i, rate) for i, rate in enumerate(later))
    for typical in (NOTHING, WEEK):
        assert track.after(Tracker(), typical, known + future, now_s=now_s) == track.after(
            Tracker(), typical, known, now_s=now_s
        )


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=30), st.floats(0.5, 20))
def test_the_order_of_scale_is_kept(rates_rps: list[float], times: float) -> None:
    """Without counting noise to speak of, `times` the load is `times` the forecast."""
    one, other = (watched([1e4 * scale * rate for rate in rates_rps]).ahead[-1].median_rps for scale in (1.0, times))
    assert other == pytest.approx(times * one, rel=1e-2)


def test_last_week_is_only_compared_with() -> None:
    """Telling the week before changes the score, and no forecast."""
    told, untold = Tracker(), Tracker()
    for slot in range(20):
        now = Closed(slot, wave(slot))
        told = track.closed(told, NOTHING, now, last_week_rps=3.0)
        untold = track.closed(untold, NOTHING, now)
    assert told.ahead == untold.ahead
    assert (told.far.score.week_slots, untold.far.score.week_slots) == (14, 0)
    assert dataclasses.replace(told.far.score, week_slots=0, ours_then_rps=0.0, last_week_rps=0.0) == untold.far.score
