"""Predicted classes: where edges lie, how often a guess is right, and that nobody looks ahead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.classes import Edges
from capstan.replay import classify, traces
from capstan.replay.classify import Classes, Given, Predictor, Source
from capstan.replay.runs import Ints, Requests
from support import small

EDGES = Edges()
ONE_OUTPUT = Edges((256, 1024), ())
ROWS = st.lists(st.tuples(st.floats(0, 50), st.integers(1, 3000), st.integers(1, 900)), min_size=1, max_size=60)


def requests(*rows: tuple[float, int, int]) -> Requests:
    columns = list(zip(*sorted(rows), strict=True))
    return Requests(np.array(columns[0], float), np.array(columns[1], np.int64), np.array(columns[2], np.int64))


def drawn(count: int = 20_000, seed: int = 3) -> Requests:
    """As many requests as that, evenly over the nine classes."""
    chance = np.random.default_rng(seed)
    prompts, outputs = chance.choice([100, 500, 2000], count), chance.choice([50, 200, 800], count)
    return Requests(np.sort(chance.uniform(0, 3600, count)), prompts.astype(np.int64), outputs.astype(np.int64))


def outputs(codes: Ints, edges: Edges = EDGES) -> Ints:
    return np.asarray(codes % edges.outputs)


# --- edges -------------------------------------------------------------------------------------------


def test_edges_are_those_given_the_policys_or_terciles_of_what_was_seen() -> None:
    """Nine prompts 10 to 90 and answers 1 to 9: a third of them is at most 30 and 3, two thirds at most 60 and 6."""
    seen = requests(*((float(i), 10 * i, i) for i in range(1, 10)))
    given_edges = Edges((5,), (7,))
    assert classify.edges(given_edges, EDGES, seen) is given_edges
    assert classify.edges(Classes.FIXED, given_edges, seen) is given_edges
    assert classify.edges(Classes.TERCILES, EDGES, seen) == Edges((30, 60), (3, 6))


@pytest.mark.parametrize(
    ("lengths", "edges"),
    [([5] * 9, ()), ([1] * 9, ()), ([1, 1, 1, 1, 1, 1, 1, 9, 9], ()), ([1, 1, 1, 1, 9, 9, 9, 9, 9], (9,))],
    ids=["one length", "one token", "a lump below", "a lump above"],
)
def test_an_edge_that_nobody_lies_below_is_left_out(lengths: list[int], edges: tuple[int, ...]) -> None:
    found = classify.terciles(requests(*((float(i), length, length) for i, length in enumerate(lengths))))
    assert found == Edges(edges, edges)


@given(ROWS)
def test_terciles_leave_no_bucket_empty(rows: list[tuple[float, int, int]]) -> None:
    trace = requests(*rows)
    edges = classify.terciles(trace)
    codes = classify.true_codes(trace, edges)
    assert set(np.unique(codes // edges.outputs)) == set(range(edges.prompts))
    assert set(np.unique(codes % edges.outputs)) == set(range(edges.outputs))


@given(ROWS)
def test_true_codes_are_those_of_the_edges_one_by_one(rows: list[tuple[float, int, int]]) -> None:
    trace = requests(*rows)
    lengths = zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    assert classify.true_codes(trace, EDGES).tolist() == [EDGES.code(*pair) for pair in lengths]


def test_terciles_of_the_conversation_half_are_near_the_papers(shared_data: Path) -> None:
    """The whole hour has 408 and 1,102, 94 and 237 tokens (facts, dynamollm.md 1.3); this is its first half."""
    file = shared_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.first_half.csv"
    found = classify.terciles(traces.read(file).requests)
    assert found.prompt_tokens == pytest.approx((408, 1102), rel=0.03)
    assert found.output_tokens[0] == pytest.approx(94, rel=0.03)


# --- a given accuracy --------------------------------------------------------------------------------


@pytest.mark.parametrize("accuracy", [1.0, 0.81, 0.6, 0.0])
def test_a_given_predictor_is_right_as_often_as_told_and_errs_by_its_matrix(accuracy: float) -> None:
    """20,000 requests, a third per bucket: a share is known to 1.3 points at three sigmas."""
    trace = drawn()
    guessed = outputs(classify.predicted(trace, EDGES, Given(accuracy), seed=5))
    true = outputs(classify.true_codes(trace, EDGES))
    counts = np.bincount(3 * true + guessed, minlength=9).reshape(3, 3)
    expected = classify.confusion(3, accuracy)
    np.testing.assert_allclose(counts / counts.sum(axis=1, keepdims=True), expected, atol=0.013)


def test_the_confusion_matrix_by_hand() -> None:
    """19 % wrong: from short two thirds of it next door and one third beyond; from the middle half to either side."""
    expected = [[0.81, 0.12667, 0.06333], [0.095, 0.81, 0.095], [0.06333, 0.12667, 0.81]]
    np.testing.assert_allclose(classify.confusion(3, 0.81), expected, atol=1e-4)


@given(st.integers(1, 4), st.floats(0, 1))
def test_rows_of_the_matrix_add_up(outputs: int, accuracy: float) -> None:
    matrix = classify.confusion(outputs, accuracy)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert (matrix >= -1e-12).all()
    np.testing.assert_allclose(np.diag(matrix), 1.0 if outputs == 1 else accuracy, atol=1e-12)


def test_prompt_buckets_are_never_mistaken() -> None:
    trace = drawn()
    true = classify.true_codes(trace, EDGES)
    predictors: tuple[Predictor, ...] = (Given(0.0), Source.NONE, Source.LIVE)
    for predictor in predictors:
        guessed = classify.predicted(trace, EDGES, predictor, seed=1)
        np.testing.assert_array_equal(guessed // 3, true // 3)


def test_what_is_right_at_one_accuracy_is_right_at_every_higher_one_and_wrong_alike_below() -> None:
    """So that what accuracies cost is compared request by request."""
    trace = drawn(3000)
    true = classify.true_codes(trace, EDGES)
    better, worse = (classify.predicted(trace, EDGES, Given(accuracy), seed=2) for accuracy in (0.81, 0.6))
    assert ((worse == true) <= (better == true)).all()
    missed = better != true
    np.testing.assert_array_equal(better[missed], worse[missed])


def test_guesses_follow_the_seed_and_only_the_seed() -> None:
    trace = drawn(3000)
    first, again, other = (classify.predicted(trace, EDGES, Given(0.81), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.2


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = drawn(1000)
    monkeypatch.setattr(classify, "BLOCK", 300)
    guessed = classify.predicted(trace, EDGES, Given(0.81), seed=1)
    accuracy = (guessed == classify.true_codes(trace, EDGES)).reshape(10, 100).mean(axis=1)
    assert accuracy.min() > 0.65  # five sigmas below 0.81


def test_a_single_output_bucket_cannot_be_missed() -> None:
    trace = drawn(500)
    predictors: tuple[Predictor, ...] = (Given(0.0), Source.NONE, Source.LIVE)
    for predictor in predictors:
        guessed = classify.predicted(trace, ONE_OUTPUT, predictor, seed=1)
        np.testing.assert_array_equal(guessed, classify.true_codes(trace, ONE_OUTPUT))


@pytest.mark.parametrize("accuracy", [-0.1, 1.01, float("nan")])
def test_no_accuracy_but_a_share(accuracy: float) -> None:
    with pytest.raises(ValueError, match="share of 0 to 1"):
        Given(accuracy)


# --- learnt on the way -------------------------------------------------------------------------------


def test_without_a_predictor_the_most_frequent_bucket_so_far_is_taken() -> None:
    """Prompts of 500; an answer of 10 tokens is known 0.05 + 0.3 s after its arrival, one of 800 after 24.05 s."""
    trace = requests((0.0, 500, 10), (0.3, 500, 10), (0.36, 500, 800), (1.0, 500, 800), (30.0, 500, 10), (31.0, 50, 10))
    guessed = outputs(classify.predicted(trace, EDGES, Source.NONE, seed=0))
    # nothing known: L; still nothing at 0.3; then S three times (at 30 s two of each: a tie, the longest); S has none
    assert guessed.tolist() == [2, 2, 0, 0, 2, 2]


def test_history_is_known_from_the_first_arrival_on() -> None:
    before = requests(*((float(i), 500, 10) for i in range(40)))
    trace = requests((0.0, 500, 800))
    predictors: tuple[Predictor, ...] = (Source.NONE, Source.LIVE)
    for predictor in predictors:
        assert outputs(classify.predicted(trace, EDGES, predictor, seed=0)).tolist() == [2]
        assert outputs(classify.predicted(trace, EDGES, predictor, seed=0, history=before)).tolist() == [0]


@pytest.mark.parametrize("source", [Source.NONE, Source.LIVE])
@given(rows=ROWS, longer=st.lists(st.integers(1, 900), min_size=60, max_size=60))
def test_nobody_looks_ahead(source: Source, rows: list[tuple[float, int, int]], longer: list[int]) -> None:
    """Answers that are not known at an arrival may be anything: the guess stays."""
    trace = requests(*rows)
    now_s = float(np.median(trace.arrival_s))
    unknown = classify.finish_s(trace) > now_s
    changed = np.where(unknown, np.maximum(trace.output_tokens, np.array(longer[: len(trace)])), trace.output_tokens)
    other = Requests(trace.arrival_s, trace.prompt_tokens, changed)
    so_far = trace.arrival_s <= now_s
    before, after = (classify.predicted(one, EDGES, source, seed=0)[so_far] for one in (trace, other))
    np.testing.assert_array_equal(before, after)


def test_live_tells_prompts_apart_that_share_a_bucket() -> None:
    """Prompts of 300 have short answers, of 900 long ones; both are medium prompts."""
    rows = [(0.1 * i, 300 if i % 2 else 900, 10 if i % 2 else 400) for i in range(1200)]
    trace = requests(*rows)
    true = classify.true_codes(trace, EDGES)
    live, none = (classify.predicted(trace, EDGES, source, seed=0) == true for source in (Source.LIVE, Source.NONE))
    assert live[600:].all()
    assert none[600:].mean() < 0.6


def test_words_name_edges_and_predictors() -> None:
    assert classify.words(EDGES) == "prompt from 256, 1,024 tokens, output from 100, 350"
    assert classify.words(ONE_OUTPUT).endswith("output from no edge")
    assert classify.predictor_words(Given(0.81)) == "bucket known in 81 % of the requests"
    assert len({classify.predictor_words(source) for source in Source}) == 2


def test_only_a_predictor_that_errs_by_chance_is_chancy() -> None:
    assert classify.chancy(Given(0.81))
    predictors: tuple[Predictor, ...] = (Given(1.0), *Source)
    assert not any(classify.chancy(predictor) for predictor in predictors)


# --- through a service -------------------------------------------------------------------------------


def test_a_service_without_guesses_is_known_by_its_true_classes() -> None:
    (service,) = small.scenario().services
    np.testing.assert_array_equal(service.codes, classify.true_codes(service.requests, service.edges))
