"""Losses, coverage and drift, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import score
from capstan.forecast.score import Told
from capstan.model.outlook import Drift, Score


@pytest.mark.parametrize(
    ("actual", "told", "ratio", "loss"),
    [
        pytest.param(10.0, 8.0, 0.5, 1.0, id="median-too-low-by-two"),
        pytest.param(8.0, 10.0, 0.5, 1.0, id="median-too-high-by-two"),
        pytest.param(10.0, 8.0, 0.95, 1.9, id="an-upper-edge-that-is-passed-costs-most"),
        pytest.param(8.0, 10.0, 0.95, 0.1, id="one-that-is-kept-costs-little"),
        pytest.param(7.0, 7.0, 0.5, 0.0, id="right"),
    ],
)
def test_pinball(actual: float, told: float, ratio: float, loss: float) -> None:
    assert score.pinball_rps(actual, told, ratio=ratio) == pytest.approx(loss)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=15), st.sampled_from([0.05, 0.5, 0.95]), st.integers(0, 20))
def test_the_quantile_has_the_least_loss(seen: list[int], ratio: float, other: int) -> None:
    """Of all forecasts of a sample, its own quantile loses least: that is what the loss is for."""
    quantile = sorted(seen)[min(int(ratio * len(seen)), len(seen) - 1)]

    def total(told: int) -> float:
        return sum(score.pinball_rps(actual, told, ratio=ratio) for actual in seen)

    assert total(quantile) <= total(other) + 1e-9


def test_sums_of_three_slots() -> None:
    """Ours off by 1, 2, 0 and last value by 2, 4, 1; only the second slot's last week (5) is known; it was above."""
    total = Score()
    assert total.covered_ratio is None
    for actual, told, week in (
        (10.0, Told(9.0, 8.0, 11.0, 8.0), None),
        (14.0, Told(12.0, 11.0, 13.0, 10.0), 9.0),
        (3.0, Told(3.0, 3.0, 4.0, 4.0), None),
    ):
        total = score.noted(total, actual, told, week)
    assert (total.slots, total.inside, total.above) == (3, 2, 1)
    assert (total.ours_rps, total.last_value_rps) == (1.5, 3.5)
    assert (total.week_slots, total.ours_then_rps, total.last_week_rps) == (1, 1.0, 2.5)
    assert total.covered_ratio == pytest.approx(2 / 3)


def noted(drift: Drift, times: int, *, inside: bool = True, template: float | None = 1.0, steady: float = 1.0) -> Drift:
    for _ in range(times):
        drift = score.drifting(drift, inside=inside, template_ratio=template, steady_ratio=steady, weight_ratio=1 / 100)
    return drift


def test_a_template_as_good_as_the_last_value_does_not_drift() -> None:
    assert not noted(Drift(), 500).drifted


def test_a_template_that_errs_a_quarter_more_than_the_last_value_drifts() -> None:
    assert not noted(Drift(), 500, template=1.24).drifted
    assert noted(Drift(), 500, template=1.26).drifted


def test_an_hour_must_have_been_judged_first() -> None:
    assert not noted(Drift(), score.MIN_SLOTS - 1, template=9.0).drifted
    assert noted(Drift(), score.MIN_SLOTS, template=9.0).drifted


def test_a_band_that_misses_drifts() -> None:
    """0.9 x 0.99^n falls below 0.8 at n = 12."""
    assert not noted(Drift(), 11, inside=False).drifted
    assert noted(Drift(), 12, inside=False).drifted


def test_drift_ends_when_both_are_good_again() -> None:
    """Not at the first good slot, and not while the template still errs more; the mean forgets within some days."""
    lost = noted(Drift(), 100, template=2.0)
    assert lost.drifted
    assert noted(lost, 1, template=0.5).drifted
    assert noted(lost, 500, template=1.1).drifted
    assert not noted(lost, 500, template=0.5).drifted


def test_a_lost_template_takes_its_drift_with_it() -> None:
    assert noted(noted(Drift(), 100, template=2.0), 1, template=None) == Drift()
