"""How good guesses are on a trace: counted by hand, and on the shared halves of Azure's traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capstan.model.classes import Edges
from capstan.replay import classify, lengths, traces
from capstan.replay.lengths import Guessed
from capstan.replay.runs import Requests

EDGES = Edges()


def requests(outputs: list[int], *, every_s: float = 100.0) -> Requests:
    """Prompts of 500, so far apart that each answer is known before the next request."""
    count = len(outputs)
    arrival_s = every_s * np.arange(count, dtype=np.float64)
    return Requests(arrival_s, np.full(count, 500, np.int64), np.array(outputs, np.int64))


def test_shares_by_hand() -> None:
    """Ten requests: seven right, two too short (M for S twice is too long, S for L too short)."""
    made = Guessed("by hand", np.array([[3, 1, 0], [0, 2, 0], [1, 1, 2]]))
    assert (made.accuracy_ratio, made.under_ratio, made.over_ratio) == pytest.approx((0.7, 0.2, 0.1))
    assert made.row_ratios.tolist() == [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]


def test_every_rule_counts_every_request_once() -> None:
    """L, S, S, S: nothing known means L; then L is all that is known; then a tie, the longest; then S. So 2 of 4."""
    live, none, frequent, longest = lengths.compare(requests([800, 10, 10, 10]), EDGES)
    assert [int(one.counts.sum()) for one in (live, none, frequent, longest)] == [4] * 4
    assert none.counts.tolist() == [[1, 0, 2], [0, 0, 0], [0, 0, 1]]
    assert frequent.accuracy_ratio == 0.75
    assert longest.accuracy_ratio == 0.25
    assert (longest.under_ratio, frequent.over_ratio) == (0.0, 0.0)


def test_the_live_rule_weighs_newer_answers_more_where_counts_tie() -> None:
    """The only difference of the two rules here: of L and S, once each, the newer S weighs a little more."""
    live, none, *_ = lengths.compare(requests([800, 10, 10, 10]), EDGES)
    assert (live.accuracy_ratio, none.accuracy_ratio) == (0.75, 0.5)


def test_coverage_counts_answers_that_did_not_pass_their_quantile() -> None:
    """The first has no prediction. 1 to 20 tokens in turn, 50 rounds: 10, 18 and 20 of 20 are at most the quantile."""
    shares = lengths.coverage(requests([1 + 7 * i % 20 for i in range(1000)]))
    np.testing.assert_allclose(shares, (0.5, 0.9, 1.0), atol=0.03)
    assert np.isnan(lengths.coverage(requests([5]))).all()


def test_a_sweep_really_plays_other_settings() -> None:
    """Prompts of 100 and 120 have answers of 10 and 800: one octave, two eighths of it."""
    prompts, outputs = np.tile([100, 120], 150), np.tile([10, 800], 150)
    trace = Requests(50.0 * np.arange(300, dtype=np.float64), prompts.astype(np.int64), outputs.astype(np.int64))
    found = dict(lengths.sweep(trace, EDGES))
    assert found["8 bins per octave of prompts"] > 0.95
    assert found["1 bins per octave of prompts"] < 0.6
    assert found["keys asked from 100 requests on"] < found["keys asked from 5 requests on"]


def test_names_are_those_of_the_output_buckets() -> None:
    assert [lengths.names(Edges((256,), edges)) for edges in ((), (9,), (9, 99))] == ["A", "SL", "SML"]


@pytest.mark.parametrize(
    ("name", "edges", "least"),
    [("conv", EDGES, 0.79), ("conv", None, 0.71), ("code", EDGES, 0.95)],
    ids=["conversation", "conversation, terciles", "code"],
)
def test_lengths_alone_tell_most_buckets_of_the_azure_halves(
    shared_data: Path, name: str, edges: Edges | None, least: float
) -> None:
    """What docs/explanation/lengths.md prints, within a point: 80.0, 71.7 and 95.9 %."""
    file = shared_data / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.first_half.csv"
    trace = traces.read(file).requests
    live, none, *_ = lengths.compare(trace, edges or classify.terciles(trace))
    assert least < live.accuracy_ratio < least + 0.015
    assert live.accuracy_ratio >= none.accuracy_ratio


def test_code_lengths_by_terciles_are_not_told_and_the_page_says_so(shared_data: Path) -> None:
    """Edges of 10 and 18 tokens: no rule is better than a third by more than two points."""
    file = shared_data / "azure-llm-2023" / "AzureLLMInferenceTrace_code.first_half.csv"
    trace = traces.read(file).requests
    assert all(rule.accuracy_ratio < 0.36 for rule in lengths.compare(trace, classify.terciles(trace)))
