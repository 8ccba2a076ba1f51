"""The wait for the chunk budget: one queue by hand, neighbours, and quantiles against draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import waiting

SHAPES = (0.5, 1.0, 4.0)


def alone(rps: float = 2.0, service_s: float = 0.2, cv2: float = 1.0) -> waiting.Wait:
    return waiting.of(rps, service_s, cv2_ratio=cv2, batch=5.0, replicas=1)


def test_one_queue_of_exponential_prompts_is_m_m_1() -> None:
    """Busy 0.4: two in five wait, and those for an exponential time of 0.2 / 0.6 s."""
    found = alone()
    assert found.chance_ratio == pytest.approx(0.4)
    assert (found.mean_s, found.spread_s) == pytest.approx((1 / 3, 1 / 3))
    assert found.all_mean_s == pytest.approx(0.4 / 3)
    # P(W > t) = 0.4 exp(-3 t): p99 where exp(-3 t) is 0.025
    assert found.quantile_s(0.99) == pytest.approx(np.log(40) / 3, rel=0.02)
    assert found.above_ratio(found.quantile_s(0.99)) == pytest.approx(0.01)


def test_who_rarely_waits_has_a_tail_without_a_wait() -> None:
    """Busy 0.5 %: of a hundred prompts 99 do not wait; of a thousand one does."""
    found = alone(rps=0.025)
    assert found.quantile_s(0.99) == 0.0
    assert found.quantile_s(0.999) > 0.0
    assert waiting.of(0.0, 0.2, cv2_ratio=1.0, batch=0.0, replicas=3).quantile_s(0.99) == 0.0


@given(st.floats(0.05, 4.8), st.floats(0.0, 2.0), st.floats(0.0, 50.0), st.integers(1, 20))
def test_more_load_waits_longer_and_more_neighbours_less(rps: float, cv2: float, batch: float, replicas: int) -> None:
    def p99_s(rate_rps: float, count: int) -> float:
        return waiting.of(rate_rps, 0.2, cv2_ratio=cv2, batch=batch, replicas=count).quantile_s(0.99)

    assert p99_s(rps, replicas + 1) <= p99_s(rps, replicas) + 1e-12
    assert p99_s(rps, 1) <= p99_s(rps * 1.01, 1) + 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_the_share_above_is_that_of_drawn_values(shape: float) -> None:
    drawn = np.random.default_rng(3).gamma(shape, 2.0, 200_000)
    for value in np.quantile(drawn, (0.3, 0.6, 0.9, 0.99)):
        found = waiting.gamma_above_ratio(2.0 * shape, 4.0 * shape, float(value))
        assert found == pytest.approx(float((drawn > value).mean()), rel=0.1, abs=0.01)


@given(st.floats(0.05, 1.5), st.floats(0.02, 0.98))
def test_share_and_quantile_are_each_others_inverse(cv2: float, ratio: float) -> None:
    value = waiting.gamma_quantile(3.0, 9.0 * cv2, waiting.normal_quantile(ratio))
    if value > 0:
        assert waiting.gamma_above_ratio(3.0, 9.0 * cv2, value) == pytest.approx(1 - ratio, abs=1e-9)


def test_what_has_no_spread_is_above_what_is_below_it() -> None:
    assert waiting.gamma_above_ratio(2.0, 0.0, 1.9) == 1.0
    assert waiting.gamma_above_ratio(2.0, 0.0, 2.1) == 0.0
    assert waiting.gamma_above_ratio(0.0, 0.0, 0.1) == 0.0


# --- where only prompts are computed -----------------------------------------------------------------


def test_before_one_replica_that_only_prefills_it_is_one_queue_again() -> None:
    one = waiting.of_prompts(2.0, 0.2, cv2_ratio=1.0, replicas=1)
    assert (one.chance_ratio, one.mean_s, one.spread_s) == pytest.approx((0.4, 1 / 3, 1 / 3))


def test_before_two_only_who_meets_both_busy_waits() -> None:
    """Each busy half the time: Erlang C of 1 erlang on 2 is 1/3. What is left of a prompt: 0.1 s when all are equal.

    0.5^2 / (2 x 0.5) = 0.25 more prompts in front: 0.125 s.
    """
    found = waiting.of_prompts(2.5, 0.2, cv2_ratio=0.0, replicas=2)
    assert found.chance_ratio == pytest.approx(1 / 3)
    assert found.mean_s == pytest.approx(0.125)
    assert waiting.of_prompts(0.0, 0.2, cv2_ratio=0.0, replicas=2).quantile_s(0.99) == 0.0


@given(st.floats(0.05, 4.8), st.floats(0.0, 2.0), st.integers(1, 20))
def test_before_prefill_more_load_waits_longer_and_more_neighbours_less(rps: float, cv2: float, count: int) -> None:
    def p99_s(rate_rps: float, replicas: int) -> float:
        return waiting.of_prompts(rate_rps, 0.2, cv2_ratio=cv2, replicas=replicas).quantile_s(0.99)

    assert p99_s(rps, count + 1) <= p99_s(rps, count) + 1e-12
    assert p99_s(rps, count) <= p99_s(rps * 1.01, count) + 1e-12
