"""Further weeks drawn from the rates of one."""

from __future__ import annotations

import numpy as np
import pytest

from capstan.replay import published, weeks
from capstan.replay.traces.tables import Rates, steady

FLAT = np.full(weeks.WEEK_MINUTES, 600.0)


def test_rates_become_minutes_by_the_step_they_lie_in() -> None:
    """Steps of 90 s: the middle of the second minute, 90 s, is in the second step, that of the third, 150 s, too."""
    rates = steady(np.array([0.0, 90.0]), np.array([6.0, 12.0]), 180.0)
    assert weeks.minutes(rates).tolist() == [6.0, 12.0, 12.0]


def test_noise_is_that_of_a_uniform_as_wide_as_the_envelope() -> None:
    """Half the width over the rate is 0.1, and 0.1 / sqrt(3); no envelope or no load is no noise."""
    start, mid = np.array([0.0]), np.array([100.0])
    assert weeks.noise_ratio(Rates(start, mid, mid - 10, mid + 10, 60.0)) == pytest.approx(0.1 / 3**0.5)
    assert weeks.noise_ratio(steady(start, mid, 60.0)) == 0.0
    assert weeks.noise_ratio(steady(start, mid * 0, 60.0)) == 0.0


def test_one_week_is_left_alone_and_the_first_of_two_is_it() -> None:
    assert weeks.like(FLAT, 1, seed=1) is FLAT
    two = weeks.like(FLAT, 2, seed=1)
    assert len(two) == 2 * weeks.WEEK_MINUTES
    assert (two[: weeks.WEEK_MINUTES] == FLAT).all()


def test_the_second_week_wanders_bursts_and_is_the_seeds() -> None:
    """Its level is within a tenth (and what the wander adds), its highest minute is a burst."""
    one, same, other = (weeks.like(FLAT, 2, seed=seed)[weeks.WEEK_MINUTES :] for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert 0.8 < np.median(one) / 600 < 1.2
    assert one.max() > 1.4 * np.median(one)
    assert one.min() > 0.4 * 600
    assert 0.03 < np.log(one).std() < 0.3


def test_a_part_of_a_week_is_made_whole_before_it_is_repeated() -> None:
    assert len(weeks.like(np.array([60.0, 120.0]), 2, seed=1)) == 2 * weeks.WEEK_MINUTES


@pytest.mark.parametrize(("window_s", "count"), [(60.0, 10_080), (12.0, 50_400), (90.0, 6720), (7.0, 86_400)])
def test_counts_are_poisson_about_the_rate(window_s: float, count: int) -> None:
    """10 a second: mean and variance of a window are both 10 times its seconds, to five standard errors."""
    drawn = weeks.counts(FLAT, noise=0.0, window_s=window_s, seed=3)
    mean = 10 * window_s
    assert len(drawn) == count
    assert drawn.mean() == pytest.approx(mean, abs=5 * (mean / count) ** 0.5)
    assert drawn.var() == pytest.approx(mean, rel=5 * (2 / count) ** 0.5)


def test_noise_from_minute_to_minute_widens_them() -> None:
    """600 a minute: 600 from counting, (0.1 x 600)^2 = 3,600 from the noise."""
    drawn = weeks.counts(FLAT, noise=0.1, window_s=60.0, seed=3)
    assert drawn.var() == pytest.approx(4200, rel=0.1)
    assert drawn.mean() == pytest.approx(600, rel=0.01)


def test_the_same_seed_counts_the_same() -> None:
    one, same, other = (weeks.counts(FLAT, noise=0.1, window_s=60.0, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_the_published_week_is_a_week() -> None:
    per_min = weeks.minutes(published.WEEK.rates)
    assert len(per_min) == weeks.WEEK_MINUTES
    assert per_min.mean() == pytest.approx(np.mean(published.DAYS_PER_MIN), rel=0.01)
