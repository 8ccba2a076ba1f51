"""The live length predictor: what it goes by, what it forgets, and what it never says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import lengths
from capstan.forecast.lengths import Asked, LengthPredictor, Prediction, RunningQuantiles, Scope, Shape
from capstan.model.classes import Edges

EDGES = Edges()
TOKENS = st.integers(1, 200_000)


def taught(outputs: list[int], asked: Asked | None = None) -> RunningQuantiles:
    predictor = RunningQuantiles(EDGES)
    for output in outputs:
        predictor.learn(asked or Asked(500), output)
    return predictor


def told(predictor: LengthPredictor, asked: Asked | None = None) -> Prediction:
    found = predictor.predict(asked or Asked(500))
    assert found is not None
    return found


# --- what is said ------------------------------------------------------------------------------------


def test_before_anything_finished_nothing_is_known() -> None:
    assert RunningQuantiles(EDGES).predict(Asked(500, max_tokens=10)) is None


def test_quantiles_of_short_answers_are_exact() -> None:
    """1 to 10 tokens, each ten times: half of them are at most 5, nine tenths at most 9."""
    found = told(taught([length for length in range(1, 11) for _ in range(10)][::-1]))
    assert [found.quantile_tokens(ratio) for ratio in (0.0, 0.49, 0.89, 1.0)] == [1, 5, 9, 10]


def test_quantiles_of_long_answers_are_right_to_five_percent() -> None:
    """1,001 to 4,000 tokens, well mixed (1,009 has no factor of 3,000): the median is 2,500, p90 3,700."""
    found = told(taught([1001 + 1009 * i % 3000 for i in range(3000)]))
    assert found.quantile_tokens(0.5) == pytest.approx(2500, rel=0.055)
    assert found.quantile_tokens(0.9) == pytest.approx(3700, rel=0.055)


def test_shares_of_buckets_are_exact_at_the_edges() -> None:
    """99 and 100, 349 and 350 tokens: S, M, M, L."""
    found = told(taught([99, 100, 349, 350] * 50))
    assert found.shares(EDGES) == pytest.approx((0.25, 0.5, 0.25), rel=1e-3)
    assert found.bucket(EDGES) == 1


def test_of_equally_likely_buckets_the_longest_is_taken() -> None:
    """Too long a guess costs watts, too short the SLO. Weighed alike: one request in each of two buckets."""
    bounds = (1, 100, 350)
    assert Prediction(Scope.ALL, 2.0, bounds, (1.0, 0.0, 1.0)).bucket(EDGES) == 2
    assert Prediction(Scope.ALL, 2.0, bounds, (1.0, 1.0, 0.0)).bucket(EDGES) == 1


# --- max_tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_tokens", "shares", "median"),
    [(None, (0.0, 0.0, 1.0), 800), (349, (0.0, 1.0, 0.0), 349), (100, (0.0, 1.0, 0.0), 100), (99, (1.0, 0.0, 0.0), 99)],
    ids=["no bound", "last of medium", "first of medium", "last of short"],
)
def test_no_answer_is_longer_than_max_tokens(max_tokens: int | None, shares: tuple[float, ...], median: float) -> None:
    found = told(taught([800] * 40), Asked(500, max_tokens=max_tokens))
    assert found.shares(EDGES) == pytest.approx(shares)
    assert found.quantile_tokens(0.5) == pytest.approx(median, rel=0.05)


@given(st.lists(TOKENS, min_size=1, max_size=60), st.integers(1, 1000), st.floats(0, 1))
def test_a_bound_is_never_passed_and_shares_add_up(outputs: list[int], most: int, ratio: float) -> None:
    found = told(taught(outputs), Asked(500, max_tokens=most))
    assert found.quantile_tokens(ratio) <= most
    assert math.fsum(found.shares(EDGES)) == pytest.approx(1)
    assert found.bucket(EDGES) <= (0 if most < 100 else 1 if most < 350 else 2)


@given(st.lists(TOKENS, min_size=1, max_size=60), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_ascend_and_lie_among_what_was_seen(outputs: list[int], one: float, other: float) -> None:
    found = told(taught(outputs))
    low, high = (found.quantile_tokens(ratio) for ratio in sorted((one, other)))
    assert 0.94 * min(outputs) <= low <= high <= 1.06 * max(outputs)


# --- what it goes by ---------------------------------------------------------------------------------


def test_the_narrowest_key_that_knows_enough_is_asked() -> None:
    """Three tenants of one route, and another route: each scope answers once the narrower ones know too little."""
    predictor = RunningQuantiles(EDGES)
    for asked, output in (
        (Asked(500, "code", "ann"), 10), (Asked(500, "code", "bob"), 200), (Asked(500, "chat", "cid"), 900),
    ):  # fmt: skip
        for _ in range(Shape().min_requests + 5):
            predictor.learn(asked, output)
    cases = {
        Asked(500, "code", "ann"): (Scope.TENANT, 0),
        Asked(500, "code", "new"): (Scope.ROUTE, 1),  # half 10, half 200 tokens, the newer ones a little heavier
        Asked(500, "new", "new"): (Scope.PROMPT, 2),
        Asked(500): (Scope.PROMPT, 2),
        Asked(40, "code", "ann"): (Scope.ALL, 2),  # no prompt of that length was ever seen
    }
    found = {asked: told(predictor, asked) for asked in cases}
    assert {asked: (one.scope, one.bucket(EDGES)) for asked, one in found.items()} == cases


def test_a_key_is_asked_once_it_weighs_enough() -> None:
    """The weight of five requests in a row is a little below five: the oldest has begun to fade."""
    few = taught([10] * Shape().min_requests)
    assert told(few).scope is Scope.ALL
    few.learn(Asked(500), 10)
    assert told(few).scope is Scope.PROMPT


@pytest.mark.parametrize(
    ("prompt", "alike"), [(512, True), (608, True), (609, False), (511, False)], ids=["same", "end", "past", "before"]
)
def test_prompts_of_a_quarter_octave_are_alike(prompt: int, alike: bool) -> None:
    """512 x 2^(1/4) = 608.9."""
    found = told(taught([10] * 40, Asked(512)), Asked(prompt))
    assert (found.scope is Scope.PROMPT) is alike


# --- what it forgets ---------------------------------------------------------------------------------


def test_a_change_of_habit_is_learnt_within_two_half_lives() -> None:
    """After one half-life old answers weigh half: 1 - 0.5 = 50 % of a long past; after two 75 %."""
    predictor = taught([10] * 20_000)
    shares = []
    for _ in range(2):
        for _ in range(Shape().half_life_requests):
            predictor.learn(Asked(500), 800)
        shares.append(told(predictor).shares(EDGES)[2])
    assert shares == pytest.approx([0.5, 0.75], abs=0.002)


def test_evidence_levels_off_instead_of_growing_without_end() -> None:
    """Weights 1 + k + k^2 ... with k = 0.5^(1/2000) add up to 1 / (1 - k) = 2,886."""
    found = told(taught([10] * 40_000))
    assert found.sample_requests == pytest.approx(2886, rel=0.001)


def test_weights_stay_finite_for_ever() -> None:
    """Weights grow by a factor of 2 in 2,000 requests: past 1e100 after 665,000, they are scaled back."""
    predictor = RunningQuantiles(EDGES)
    counts = predictor._all
    counts.newest = 0.99 * lengths._HUGE
    for _ in range(100):
        predictor.learn(Asked(500), 10)
    assert counts.newest < 2
    assert told(predictor).shares(EDGES) == (1.0, 0.0, 0.0)


def test_memory_is_bounded_and_the_key_learnt_longest_ago_goes_first() -> None:
    predictor = RunningQuantiles(EDGES, Shape(most_keys=2))
    for prompt in (100, 1000, 100, 10_000):
        for _ in range(40):
            predictor.learn(Asked(prompt), 10)
    assert predictor.remembered == 2
    assert told(predictor, Asked(100)).scope is Scope.PROMPT
    assert told(predictor, Asked(1000)).scope is Scope.ALL  # learnt before the second hundred


@given(st.lists(st.tuples(TOKENS, st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), TOKENS), max_size=50))
def test_the_same_requests_leave_the_same_memory(rows: list[tuple[int, str, str, int]]) -> None:
    one, other = RunningQuantiles(EDGES, Shape(most_keys=5)), RunningQuantiles(EDGES, Shape(most_keys=5))
    for prompt, route, tenant, output in rows:
        one.learn(Asked(prompt, route, tenant), output)
    for prompt, route, tenant, output in rows:
        other.predict(Asked(prompt, route, tenant))  # asking changes nothing
        other.learn(Asked(prompt, route, tenant), output)
    assert one.remembered <= 5
    asked = [Asked(prompt, route, tenant) for prompt, route, tenant, _ in rows]
    assert [one.predict(a) for a in asked] == [other.predict(a) for a in asked]


def test_a_prediction_does_not_change_afterwards() -> None:
    predictor = taught([10] * 40)
    before = told(predictor)
    shares = before.shares(EDGES)
    for _ in range(500):
        predictor.learn(Asked(500), 800)
    assert before.shares(EDGES) == shares == (1.0, 0.0, 0.0)


# --- what is refused ---------------------------------------------------------------------------------


def test_what_cannot_be_is_refused() -> None:
    predictor = taught([10] * 5)
    with pytest.raises(ValueError, match="prompt_tokens and max_tokens"):
        Asked(0)
    with pytest.raises(ValueError, match="prompt_tokens and max_tokens"):
        Asked(5, max_tokens=0)
    with pytest.raises(ValueError, match="leave failed requests out"):
        predictor.learn(Asked(5), 0)
    for field in ("bins_per_octave", "half_life_requests", "min_requests", "most_keys"):
        with pytest.raises(ValueError, match="at least 1"):
            Shape(**{field: 0})
    with pytest.raises(ValueError, match="ratio"):
        told(predictor).quantile_tokens(1.5)


def test_a_memory_too_short_for_its_own_evidence_is_refused() -> None:
    """A key of half-life h weighs 1.44 h at most."""
    with pytest.raises(ValueError, match="no key would ever weigh enough"):
        Shape(half_life_requests=20, min_requests=30)
    shortest = RunningQuantiles(EDGES, Shape(half_life_requests=30, min_requests=30))
    for _ in range(200):
        shortest.learn(Asked(500), 10)
    assert told(shortest).scope is Scope.PROMPT


def test_absurdly_long_answers_are_counted_with_the_longest() -> None:
    found = told(taught([10**9] * 40))
    assert found.shares(EDGES) == (0.0, 0.0, 1.0)
    assert found.quantile_tokens(0.5) == pytest.approx(lengths.LONGEST_TOKENS, rel=0.1)
