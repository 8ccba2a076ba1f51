"""The median, the band, and what they learn."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import band
from capstan.forecast.band import Belief
from capstan.forecast.calendar import Calendar
from capstan.forecast.template import Template
from capstan.model import outlook
from capstan.model.outlook import Ahead, Drift, Issued, Lead, Source

FIVE = Calendar(origin_s=0.0)
NOTHING = Template(FIVE)


def test_sigma_is_counting_noise_and_spread() -> None:
    """3 rps over 300 s: variance 0.01; a tenth of 3 squared is 0.09; sqrt(0.1)."""
    assert band.sigma(NOTHING, 5, 3.0) == pytest.approx(math.sqrt(0.1))


def test_sigma_of_nobody_is_that_of_one_request() -> None:
    assert band.sigma(NOTHING, 5, 0.0) == pytest.approx(1 / 300)


def test_the_median_weighs_views_by_their_errors() -> None:
    """Errors 1, 2: weights 1 and 1/8, so (8 x 10 + 19) / 9 = 11; the reach is 1 sigma down and 2 up."""
    told = band.belief(
        Lead(losses_ratio=(1.0, 2.0, 1.0, 1.0), low_reach_ratio=1.0, high_reach_ratio=2.0), widening_ratio=1.0
    )
    said = band.said(NOTHING, (10.0, 19.0, None, None), 5, told)
    sigma_rps = math.sqrt(11 / 300 + 1.21)
    assert said.median_rps == pytest.approx(11.0)
    assert said.sigma_rps == pytest.approx(sigma_rps)
    assert said.low_rps == pytest.approx(11 - sigma_rps)
    assert said.high_rps == pytest.approx(11 + 2 * sigma_rps)
    assert said.source is Source.REACTIVE


def test_a_view_with_nothing_to_say_leaves_its_weight_to_the_others() -> None:
    told = Belief((0.25, 0.25, 0.3, 0.2), 1.0, 1.0)
    assert band.said(NOTHING, (4.0, 8.0, None, None), 5, told).median_rps == pytest.approx(6.0)


def test_the_band_widens_by_a_quarter_while_the_load_drifts_and_never_below_zero() -> None:
    told = band.belief(Lead(low_reach_ratio=30.0, high_reach_ratio=4.0), widening_ratio=1.25)
    said = band.said(NOTHING, (1.0, 1.0, 1.0, 1.0), 5, told)
    assert said.low_rps == 0.0
    assert said.high_rps == pytest.approx(1 + 5 * said.sigma_rps)


def test_between_two_distances_belief_is_mixed() -> None:
    near, far = Belief((1.0, 0.0), 1.0, 2.0), Belief((0.0, 1.0), 3.0, 6.0)
    assert near.towards(far, 0.25) == Belief((0.75, 0.25), 1.5, 3.0)


@pytest.mark.parametrize(
    ("reach", "off", "beyond", "judged", "then"),
    [
        pytest.param(2.0, 1.0, False, 500, 2 * math.exp(-0.06 * 0.05), id="inside-a-little-narrower"),
        pytest.param(2.0, 2.5, True, 500, 2 * math.exp(0.06 * 0.95), id="beyond-nineteen-times-as-much-wider"),
        pytest.param(2.0, 7.0, True, 39, 7.0, id="a-young-band-takes-a-surprise-at-its-word"),
        pytest.param(2.0, 700.0, True, 0, band.MOST_SIGMAS, id="but-not-any-surprise"),
        pytest.param(2.0, 1.0, False, 99, 2 * math.exp(-0.1 * 0.05), id="a-new-band-learns-faster"),
        pytest.param(3.0, 2.5, True, 500, 3 * math.exp(0.06 * 0.95), id="beyond-an-edge-that-has-moved-since"),
        pytest.param(3.0, 3.5, False, 500, 3 * math.exp(-0.06 * 0.05), id="inside-one-that-was-wider-then"),
        pytest.param(band.LEAST_SIGMAS, 0.0, False, 500, band.LEAST_SIGMAS, id="a-band-never-closes"),
    ],
)
def test_the_reach_moves(reach: float, off: float, judged: int, then: float, *, beyond: bool) -> None:
    assert band.moved(reach, off, beyond=beyond, judged_slots=judged) == pytest.approx(then)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda chance: chance.gauss(0, 1), id="normal"),
        pytest.param(lambda chance: chance.expovariate(1), id="skewed"),
        pytest.param(lambda chance: chance.gauss(0, 1) ** 3, id="heavy-tails"),
        pytest.param(lambda chance: chance.uniform(-9, 9), id="far-wider-than-thought"),
    ],
)
def test_one_in_twenty_lies_beyond_whatever_the_distribution(draw: object) -> None:
    """10,000 draws, seed 1, the first 500 not counted: between 4 and 6 % above the edge."""
    assert callable(draw)
    chance, reach, beyond = random.Random(1), outlook.START_SIGMAS, 0  # noqa: S311 - no secret
    for i in range(10_000):
        off = draw(chance)
        beyond += off > reach and i >= 500
        reach = band.moved(reach, off, beyond=off > reach, judged_slots=i)
    assert 0.04 < beyond / 9500 < 0.06


@given(st.lists(st.floats(-1e6, 1e6), max_size=60), st.integers(0, 1000))
def test_the_reach_stays_within_what_makes_sense(offs: list[float], judged: int) -> None:
    reach = outlook.START_SIGMAS
    for off in offs:
        reach = band.moved(reach, off, beyond=off > reach, judged_slots=judged)
        assert band.LEAST_SIGMAS <= reach <= band.MOST_SIGMAS


def issued(slot: int, views: tuple[float | None, ...] = (10.0, 10.0, 12.0, 8.0), sigma_rps: float = 2.0) -> Issued:
    return Issued(Ahead(slot, 10.0, 6.0, 14.0, 10.0, sigma_rps, Source.TEMPLATE), views, last_rps=9.0)


def test_a_slot_that_closes_teaches_the_lead() -> None:
    """12 rps came: views erred by 1, 1, 0 and 2 sigmas; each loss moves 1/144 of the way (half a day of 288 slots)."""
    lead = Lead(waiting=(issued(5), issued(6)))
    then = band.judged(lead, 5, 12.0, FIVE, last_week_rps=11.0)
    assert then.losses_ratio == pytest.approx((1.0, 1.0, 1 - 1 / 144, 1 + 1 / 144))
    assert then.waiting == (issued(6),)
    assert (then.score.slots, then.score.inside, then.score.ours_rps) == (1, 1, 1.0)
    assert (then.score.last_value_rps, then.score.last_week_rps) == (1.5, 0.5)


def test_a_view_that_said_nothing_is_not_judged() -> None:
    then = band.judged(Lead(waiting=(issued(5, (10.0, 10.0, None, None)),)), 5, 10.0, FIVE, last_week_rps=None)
    assert then.losses_ratio == pytest.approx((1 - 1 / 144, 1 - 1 / 144, 1.0, 1.0))


def test_a_slot_that_was_skipped_is_dropped_unjudged() -> None:
    then = band.judged(Lead(waiting=(issued(5), issued(8))), 7, 12.0, FIVE, last_week_rps=None)
    assert then == Lead(waiting=(issued(8),))


def test_drift_judges_the_better_of_the_two_that_know_the_template() -> None:
    """13 rps came: the last three slots erred by 1.5 sigmas, the template's views by 0.5 and 2.5."""
    then = band.drifting(Drift(), Lead(waiting=(issued(5),)), 5, 13.0, FIVE)
    assert (then.template_sigmas_ratio, then.steady_sigmas_ratio) == (0.5, 1.5)
    assert band.drifting(Drift(), Lead(), 5, 13.0, FIVE) == Drift()
