"""Joules shared out over routes: hand calculations, and what must hold whatever the counts."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import latency, power, routes
from capstan.model.routes import TokenCost, Use
from support import builders

COST = TokenCost(prompt_j_per_token=1.0, output_j_per_token=10.0)
USE = st.builds(Use, st.just("r"), st.integers(0, 100), st.floats(0, 1e6), st.floats(0, 1e6))


def test_joules_follow_what_tokens_cost() -> None:
    """a: 100 + 10 x 10 = 200, b: 100; of 900 J a gets 600 and b 300: 150 J and 100 J a request."""
    shares = routes.apportioned(900.0, [Use("a", 4, 100, 10), Use("b", 3, 100, 0)], COST)
    assert [share.energy_j for share in shares] == pytest.approx([600, 300])
    assert [(share.route, share.requests) for share in shares] == [("a", 4), ("b", 3)]
    assert [share.request_j for share in shares] == pytest.approx([150, 100])


def test_without_tokens_nobody_is_charged_and_without_requests_there_is_no_mean() -> None:
    (share,) = routes.apportioned(900.0, [Use("a", 0, 0, 0)], COST)
    assert (share.energy_j, share.request_j) == (0.0, None)
    assert routes.apportioned(900.0, [], COST) == ()


def test_next_to_no_tokens_are_charged_all_the_same() -> None:
    """The smallest number above 0: joules over it would be infinite."""
    (share,) = routes.apportioned(1000.0, [Use("r", 0, 0.0, 5e-324)], COST)
    assert share.energy_j == 1000.0


@given(st.floats(0, 1e12), st.lists(USE, min_size=1, max_size=9))
def test_parts_add_up_and_none_is_negative(energy_j: float, uses: list[Use]) -> None:
    shares = routes.apportioned(energy_j, uses, COST)
    served = any(use.prompt_tokens + use.output_tokens > 1e-6 for use in uses)
    if served:
        assert math.fsum(share.energy_j for share in shares) == pytest.approx(energy_j, rel=1e-9)
    assert all(share.energy_j >= 0 for share in shares)


@given(st.lists(USE, min_size=1, max_size=9), st.floats(0.01, 100))
def test_only_the_ratio_of_the_costs_matters(uses: list[Use], scale: float) -> None:
    other = TokenCost(scale * COST.prompt_j_per_token, scale * COST.output_j_per_token)
    one, two = (routes.apportioned(1000.0, uses, cost) for cost in (COST, other))
    assert [a.energy_j for a in one] == pytest.approx([b.energy_j for b in two], rel=1e-6)


def test_a_token_costs_what_a_step_draws_for_it() -> None:
    """16 sequences of 1,000 tokens: a decode step's joules by 16; a chunk of 512 adds the difference by 512."""
    p = builders.profile()
    cost = routes.token_cost(p, batch=16, sequence_tokens=1000)
    decode_s, mixed_s = (latency.mixed_step_s(p, 16, 16_000, chunk, 0.0, 1.0) for chunk in (0.0, 512.0))
    decode_j, mixed_j = (
        4 * time_s * power.mixed_w(p, 16, 16_000, chunk, 0.0, 0.0, 1.0)
        for time_s, chunk in ((decode_s, 0.0), (mixed_s, 512.0))
    )
    assert cost.output_j_per_token == pytest.approx(decode_j / 16)
    assert cost.prompt_j_per_token == pytest.approx((mixed_j - decode_j) / 512)


@given(st.floats(1, 200), st.floats(1, 200), st.floats(1, 4000), st.sampled_from([0.5, 0.7, 1.0]))
def test_a_larger_batch_makes_an_output_token_no_dearer(one: float, other: float, held: float, x: float) -> None:
    """Weights are streamed once for all of them."""
    p = builders.profile()
    small, large = sorted((one, other))
    costs = [
        routes.token_cost(p, batch=batch, sequence_tokens=held, x=x).output_j_per_token for batch in (small, large)
    ]
    assert costs[1] <= costs[0] * (1 + 1e-9)


def test_an_output_token_costs_several_prompt_tokens() -> None:
    """A prompt's tokens share a step, an answer's take one each (facts: decode is memory-bound)."""
    cost = routes.token_cost(builders.profile(), batch=16, sequence_tokens=1000)
    assert 2 < cost.output_j_per_token / cost.prompt_j_per_token < 50


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_cost_is_a_finite_number_above_zero(bad: float) -> None:
    for field in ("prompt_j_per_token", "output_j_per_token"):
        with pytest.raises(ValueError, match="above 0"):
            dataclasses.replace(COST, **{field: bad})


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_meter_that_runs_backwards_measures_nothing(bad: float) -> None:
    with pytest.raises(ValueError, match="energy_j"):
        routes.apportioned(bad, [Use("a", 1, 1, 1)], COST)


def test_counts_below_zero_are_no_use() -> None:
    for wrong in ((-1, 0.0, 0.0), (0, -1.0, 0.0), (0, 0.0, math.nan)):
        with pytest.raises(ValueError, match="0 or more"):
            Use("a", *wrong)
