"""Variants of a service: what fewer bits and drafted tokens make of a profile, by hand, and what they must never do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import latency, power
from capstan.model.variant import DERIVED, Draft, Variant
from support import builders

PLAIN = builders.profile()
LLM = PLAIN.models[0]


def variant(**changes: Any) -> Variant:
    return Variant(**{"name": "v", "llm": LLM, "quality_ratio": 0.8, **changes})


def test_a_variant_that_changes_nothing_is_the_profile_itself() -> None:
    assert variant().profile(PLAIN) is PLAIN


def test_half_the_bytes_stream_in_half_the_time_and_leave_room_for_context() -> None:
    made = variant(weight_ratio=0.5, multiply_ratio=0.6).profile(PLAIN)
    assert made.timing.weights_s == pytest.approx(PLAIN.timing.weights_s / 2)
    assert made.timing.prefill_per_token_s == pytest.approx(0.6 * PLAIN.timing.prefill_per_token_s)
    assert made.work.weight_bytes == pytest.approx(PLAIN.work.weight_bytes / 2)
    freed_tokens = PLAIN.work.weight_bytes / 2 / PLAIN.work.kv_bytes_per_token
    assert made.kv_tokens - PLAIN.kv_tokens == int(freed_tokens)
    assert made.timing.per_context_token_s == PLAIN.timing.per_context_token_s, "the cache keeps its bits"


def test_a_derived_profile_says_so() -> None:
    made = variant(name="fp8", weight_ratio=0.5).profile(PLAIN)
    assert made.name == f"{PLAIN.name}-fp8"
    assert DERIVED in made.provenance
    assert made.fit_error_ratio is None
    assert (made.models, made.tp, made.draw, made.clocks) == (PLAIN.models, PLAIN.tp, PLAIN.draw, PLAIN.clocks)


# --- drafted tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "acceptance", "made"),
    [
        pytest.param(3, 0.666, 1 + 0.666 + 0.666**2 + 0.666**3, id="three, two in three kept"),
        pytest.param(1, 0.5, 1.5, id="one, every other kept"),
        pytest.param(7, 0.666, 2.88, id="seven: the published 2.88 tokens a step"),
        pytest.param(4, 0.0, 1.0, id="none is ever kept"),
    ],
)
def test_a_step_makes_its_own_token_and_the_drafted_ones_that_are_kept(
    tokens: int, acceptance: float, made: float
) -> None:
    assert Draft(tokens, acceptance, 0.0).made_tokens == pytest.approx(made, abs=0.005)


def test_drafting_shortens_a_lone_sequences_token_by_what_a_step_makes() -> None:
    """At a batch of one and no cost of drafting, all that a step takes is shared by the tokens that it makes.

    Up to the products of four tokens in place of one, which are small here and counted in full.
    """
    draft = Draft(3, 0.666, 0.0)
    made = variant(draft=draft).profile(PLAIN)
    before_s, after_s = (latency.decode_step_s(p, 1, 1000, 1.0) for p in (PLAIN, made))
    assert after_s == pytest.approx(before_s / draft.made_tokens, rel=0.15)


def test_a_draft_that_is_never_kept_costs_time() -> None:
    made = variant(draft=Draft(3, 0.0, 0.05)).profile(PLAIN)
    assert latency.decode_step_s(made, 16, 16_000, 1.0) > latency.decode_step_s(PLAIN, 16, 16_000, 1.0)


def test_prompts_take_no_longer_with_a_draft_of_no_cost() -> None:
    made = variant(draft=Draft(3, 0.666, 0.0)).profile(PLAIN)
    assert latency.prefill_step_s(made, 512, 1.0) <= latency.prefill_step_s(PLAIN, 512, 1.0)


@given(
    st.floats(0.1, 1.0),
    st.floats(0.1, 1.0),
    st.integers(1, 8),
    st.floats(0.0, 0.95),
    st.integers(1, 200),
)
def test_any_variant_is_a_profile_with_finite_steps_and_watts_under_the_limit(
    weights: float, multiply: float, tokens: int, acceptance: float, batch: int
) -> None:
    draft = Draft(tokens, acceptance, 0.03)
    made = variant(weight_ratio=weights, multiply_ratio=multiply, draft=draft).profile(PLAIN)
    step_s = latency.decode_step_s(made, batch, 1000 * batch, 1.0)
    assert 0 < step_s < 60
    assert 0 < power.mixed_w(made, batch, 1000 * batch, 0, 0, 0, 1.0) <= PLAIN.draw.limit_w
    assert made.kv_tokens >= PLAIN.kv_tokens


@given(st.floats(0.1, 0.99), st.integers(1, 128))
def test_fewer_bits_never_lengthen_a_step(weights: float, batch: int) -> None:
    made = variant(weight_ratio=weights).profile(PLAIN)
    assert latency.decode_step_s(made, batch, 500 * batch, 1.0) <= latency.decode_step_s(PLAIN, batch, 500 * batch, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [{"quality_ratio": 1.1}, {"quality_ratio": float("nan")}, {"weight_ratio": 0.0}, {"multiply_ratio": 1.5}],
)
def test_a_variant_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"a quality is a share|in \(0, 1\]"):
        variant(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"tokens": 0}, {"acceptance_ratio": 1.0}, {"acceptance_ratio": float("nan")}, {"cost_ratio": -0.1}]
)
def test_a_draft_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a draft needs"):
        dataclasses.replace(Draft(3, 0.6, 0.03), **wrong)  # type: ignore[arg-type]  # wrong on purpose
