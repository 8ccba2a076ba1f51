"""Loads that nobody published whole keep the single figures that were, and the seeds of their past are others."""

from __future__ import annotations

import numpy as np
import pytest

from capstan.replay import imagined, published, synth
from capstan.replay.runs import Requests
from capstan.replay.traces import tables
from capstan.replay.traces.tables import Rates

HOURS_A_WEEK = 168


def drawn(name: str, hours: int, seed: int = 1) -> Requests:
    """The lengths of some statistics at a request a second."""
    shape = imagined.BY_NAME[name]
    rates = tables.steady(np.array([0.0]), np.array([60.0]), hours * 3600.0)
    return synth.requests(rates, shape.lengths, seed=seed)


# --- the spiky week ------------------------------------------------------------------------------------


def test_the_week_has_the_published_mean_peak_and_valley() -> None:
    """16,803,695 requests; 2.8 times the mean at its peak, which is 34.6 times its lowest hour."""
    per_min = imagined.SPIKY_WEEK.rates.per_min
    assert len(per_min) == HOURS_A_WEEK
    assert per_min.sum() * 60 == pytest.approx(16_803_695)
    assert per_min.max() / per_min.mean() == pytest.approx(2.8)
    assert per_min.max() / per_min.min() == pytest.approx(34.6)


def test_weekends_are_quiet_and_nights_deep() -> None:
    """It begins on a Friday. The weekend follows from mean, peak and valley: under a third of a working day."""
    days = imagined.SPIKY_WEEK.rates.per_min.reshape(7, 24)
    weekend, working = days[1:3], days[[0, 3, 4, 5, 6]]
    assert weekend.mean() < working.mean() / 3
    assert (working[:, 3] * 30 < working.max()).all()


def test_single_minutes_jump_about_their_hours_mean() -> None:
    """A third of the minutes on [1, 2], the others on [1/2, 1]: mean 1, coefficient of variation 0.408, by hand."""
    low, high = (np.array([600.0 * ratio]) for ratio in (imagined.MINUTE_LOW_RATIO, imagined.MINUTE_HIGH_RATIO))
    rates = Rates(np.array([0.0]), np.array([600.0]), low, high, 120_000.0)
    requests = synth.requests(rates, published.CODE.lengths, seed=3)
    minutes = np.bincount((requests.arrival_s // 60).astype(int), minlength=2000)
    assert minutes.mean() == pytest.approx(600, rel=0.04)
    assert minutes.std() / minutes.mean() == pytest.approx(0.408, abs=0.03)


# --- lengths -------------------------------------------------------------------------------------------


def test_answers_of_a_reasoning_model_are_seven_thousand_tokens_long_on_average() -> None:
    """Lognormal, sigma 0.8: median 7,000 / exp(0.32) = 5,083; the cut at the 99th percentile costs 3 % of the mean."""
    outputs = drawn("reasoning", 20).output_tokens
    assert np.median(outputs) == pytest.approx(5083, rel=0.03)
    assert outputs.mean() == pytest.approx(7000, rel=0.05)
    assert outputs.max() == pytest.approx(32_700, rel=0.01)


def test_long_prompts_lie_in_their_span_and_fit_the_context_with_their_answers() -> None:
    requests = drawn("long-context", 4)
    assert requests.prompt_tokens.min() >= 32_768
    assert requests.prompt_tokens.max() <= 128_000
    assert (requests.prompt_tokens + requests.output_tokens).max() <= 131_072
    assert np.median(requests.prompt_tokens) == pytest.approx((32_768 * 128_000) ** 0.5, rel=0.02)


@pytest.mark.parametrize("name", imagined.BY_NAME)
def test_each_says_in_words_what_it_was_made_of(name: str) -> None:
    assert imagined.BY_NAME[name].words


# --- another week --------------------------------------------------------------------------------------


def test_an_earlier_week_has_other_days_and_the_same_hours_within_them() -> None:
    """Seven levels about 1, spread by some 6 %; within a day every hour is moved alike."""
    now, then = published.WEEK.rates, published.another(published.WEEK, seed=5).rates
    levels = (then.per_min / now.per_min).reshape(7, 24)
    assert np.ptp(levels, axis=1).max() < 1e-12
    assert len(set(levels[:, 0].round(6).tolist())) == 7
    assert (np.abs(np.log(levels)) < 5 * published.DAY_SPREAD_RATIO).all()
    np.testing.assert_allclose(then.low_per_min / then.per_min, now.low_per_min / now.per_min)


def test_levels_of_days_are_one_on_average_and_spread_as_the_published_ones() -> None:
    levels = [published.another(published.CONVERSATION, seed).rates.per_min[0] / 191 for seed in range(400)]
    assert np.mean(levels) == pytest.approx(1.0, abs=4 * 0.06 / 20)
    assert np.std(levels) == pytest.approx(0.06, rel=0.15)
    workdays = np.array(published.DAYS_PER_MIN[1:6])
    assert workdays.std(ddof=1) / workdays.mean() == pytest.approx(0.063, abs=0.001)
