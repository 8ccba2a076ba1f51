"""Which class each request of a trace is taken for when it arrives, and where classes begin.

Who calls it: `replay.load`, `replay.seen`, `capstan lengths`. Must not know: pools, systems.

A prompt's length is known at arrival, an answer's is a guess: by a predictor of a chosen accuracy (DynamoLLM's has
81 %), by the live one (`forecast.lengths`), or by none: the most frequent bucket of the prompts of that length so far.
The last two are causal: they learn a request's length when it could have finished, and nothing before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from capstan.forecast.lengths import Asked, LengthPredictor, Prediction, RunningQuantiles
from capstan.model.classes import Edges
from capstan.replay.runs import Floats, Ints, Requests

STREAM = 1
"""Second part of the seed of wrong guesses: they are not drawn with the numbers that made the trace."""

BLOCK = 1 << 20
"""Requests guessed at a time: the temporaries of a week would be a gigabyte."""

PREFILL_S_PER_TOKEN = 1e-4
TPOT_S = 0.03
"""When a request's length can be known at the earliest: its arrival, its prompt at 10,000 tokens a second and 30 ms per
token of the answer, as of an engine under load (docs/explanation/lengths.md says how little hangs on it)."""


class Classes(StrEnum):
    """Where edges come from that are not given: the policy, or thirds of what was seen."""

    FIXED = "fixed"
    TERCILES = "terciles"


class Source(StrEnum):
    """Predictors without a number: nobody predicts, or the one that runs live."""

    NONE = "none"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Given:
    """A predictor that is right in this share of the requests, whatever they are."""

    accuracy_ratio: float

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy_ratio <= 1:
            raise ValueError("an accuracy is a share of 0 to 1")


Predictor = Given | Source


def chancy(predictor: Predictor) -> bool:
    """Whether another seed would be other guesses."""
    return isinstance(predictor, Given) and predictor.accuracy_ratio < 1


# --- edges -----------------------------------------------------------------------------------------


def edges(asked: Classes | Edges, fixed: Edges, seen: Requests) -> Edges:
    """Return the edges in force: those given, the policy's (`fixed`), or terciles of what was seen."""
    if isinstance(asked, Edges):
        return asked
    return fixed if asked is Classes.FIXED else terciles(seen)


def terciles(requests: Requests) -> Edges:
    """Return edges that part prompts and answers into thirds, each axis for itself.

    An edge that nobody lies below, or that is there twice, is left out: lengths come in lumps; an empty bucket is no
    class. Source: DynamoLLM's class mix is that of terciles (facts: 408 and 1,102, 94 and 237 tokens).
    """

    def thirds(tokens: Ints) -> tuple[int, ...]:
        at = np.quantile(tokens, (1 / 3, 2 / 3), method="inverted_cdf")
        return tuple(sorted({int(edge) for edge in at if edge > max(int(tokens.min()), 1)}))

    return Edges(thirds(requests.prompt_tokens), thirds(requests.output_tokens))


def true_codes(requests: Requests, edges: Edges) -> Ints:
    """Return the class of each request as its lengths say, shape `[request]`."""
    return _joined(_buckets(requests.prompt_tokens, edges.prompt_tokens), _outputs(requests, edges), edges)


# --- guesses ---------------------------------------------------------------------------------------


def predicted(
    requests: Requests, edges: Edges, predictor: Predictor, *, seed: int, history: Requests | None = None
) -> Ints:
    """Return the class that each request is taken for when it arrives, shape `[request]`.

    Args:
        requests: The trace.
        edges: What makes a class.
        predictor: Who guesses.
        seed: Of a given predictor's wrong guesses. A request that it gets right at one accuracy it gets right at every
            higher one, so that accuracies can be compared pair by pair.
        history: What `none` and `live` have learnt from before the first arrival.
    """
    prompts = _buckets(requests.prompt_tokens, edges.prompt_tokens)
    if isinstance(predictor, Given):
        return _joined(prompts, _drawn(_outputs(requests, edges), edges, predictor.accuracy_ratio, seed), edges)
    if predictor is Source.LIVE:
        return _joined(prompts, live(requests, edges, history=history), edges)
    return _joined(prompts, _majority(requests, prompts, edges, history), edges)


def live(
    requests: Requests,
    edges: Edges,
    predictor: LengthPredictor | None = None,
    *,
    history: Requests | None = None,
    slowdown_ratio: float = 1.0,
) -> Ints:
    """Return the output buckets that a predictor guesses, shape `[request]`; the longest before anything is known.

    Args:
        requests: The trace.
        edges: What makes a bucket.
        predictor: The one that runs live by default; it learns on the way.
        history: What came before, learnt first.
        slowdown_ratio: Lengths are known this many times later than `finish_s` says.
    """
    told = replayed(requests, predictor or RunningQuantiles(edges), history=history, slowdown_ratio=slowdown_ratio)
    longest = edges.outputs - 1
    buckets = (longest if prediction is None else prediction.bucket(edges) for prediction in told)
    return np.fromiter(buckets, dtype=np.int64, count=len(requests))


def replayed(
    requests: Requests,
    predictor: LengthPredictor,
    *,
    history: Requests | None = None,
    slowdown_ratio: float = 1.0,
) -> Iterator[Prediction | None]:
    """Yield what a predictor says of each request when it arrives; it learns of those that have finished."""
    if history is not None:
        _learn(predictor, history, np.argsort(finish_s(history), kind="stable"))
    known_s = requests.arrival_s + slowdown_ratio * (finish_s(requests) - requests.arrival_s)
    order = np.argsort(known_s, kind="stable")
    finished = np.searchsorted(known_s[order], requests.arrival_s, "right")
    done = 0
    for row in range(len(requests)):
        _learn(predictor, requests, order[done : finished[row]])
        done = finished[row]
        yield predictor.predict(Asked(int(requests.prompt_tokens[row])))


def confusion(outputs: int, accuracy_ratio: float) -> Floats:
    """Return how likely a given predictor takes one output bucket for another, shape `[true, guessed]`, rows of 1.

    A guess d buckets off is 1/d as likely as one next door: the paper prints its accuracy only, so this is assumed.
    Example: 81 % of three: short is taken for medium in 12.7 %, for long in 6.3 %; medium for either in 9.5 %.
    """
    apart = np.abs(np.subtract.outer(np.arange(outputs), np.arange(outputs)))
    wrong = np.divide(1.0, apart, out=np.zeros(apart.shape), where=apart > 0)
    wrong /= np.maximum(wrong.sum(axis=1, keepdims=True), 1e-9)  # a single bucket cannot be missed
    matrix = (1 - accuracy_ratio) * wrong
    np.fill_diagonal(matrix, 1 - matrix.sum(axis=1))
    return matrix


def finish_s(requests: Requests) -> Floats:
    """Return when each request's length may be known, shape `[request]`."""
    work_s = PREFILL_S_PER_TOKEN * requests.prompt_tokens + TPOT_S * requests.output_tokens
    return np.asarray(requests.arrival_s + work_s)


def words(edges: Edges) -> str:
    """Return edges for people."""
    prompt, output = (", ".join(f"{edge:,}" for edge in side) for side in (edges.prompt_tokens, edges.output_tokens))
    return f"prompt from {prompt or 'no edge'} tokens, output from {output or 'no edge'}"


def predictor_words(predictor: Predictor) -> str:
    """Return a predictor for people."""
    if isinstance(predictor, Given):
        return f"bucket known in {100 * predictor.accuracy_ratio:g} % of the requests"
    live = "running quantiles of what has finished"
    return live if predictor is Source.LIVE else "not predicted: the most frequent bucket of like prompts"


def _drawn(true: Ints, edges: Edges, accuracy_ratio: float, seed: int) -> Ints:
    """Return guessed output buckets of a given accuracy."""
    guessed = true.copy()
    chance = np.random.default_rng((seed, STREAM))
    upto = np.cumsum(confusion(edges.outputs, 0.0), axis=1)[:, :-1]
    for part in _parts(len(true)):
        here = true[part]
        missed, which = chance.random((2, len(here)))
        wrong = (which[:, np.newaxis] >= upto[here]).sum(axis=1)
        guessed[part] = np.where(missed < accuracy_ratio, here, wrong)
    return guessed


def _learn(predictor: LengthPredictor, requests: Requests, rows: npt.NDArray[np.intp]) -> None:
    """Tell a predictor of finished requests, in this order. A trace names no route, tenant or bound."""
    for row in rows:
        predictor.learn(Asked(int(requests.prompt_tokens[row])), int(requests.output_tokens[row]))


def _majority(requests: Requests, prompts: Ints, edges: Edges, history: Requests | None) -> Ints:
    """Return the most frequent output bucket among the finished requests of a prompt bucket; the longest wins a tie.

    The longest is also what is guessed before anything has finished: too long a guess costs watts, too short the SLO.
    """
    guessed = np.empty(len(requests), dtype=np.int64)
    known_s, outputs = finish_s(requests), _outputs(requests, edges)
    before = np.zeros((edges.prompts, edges.outputs), dtype=np.int64)
    if history is not None:
        codes = true_codes(history, edges)
        before += np.bincount(codes, minlength=edges.count).reshape(before.shape)
    for bucket in range(edges.prompts):
        rows = np.flatnonzero(prompts == bucket)
        order = rows[np.argsort(known_s[rows], kind="stable")]
        seen = np.searchsorted(known_s[order], requests.arrival_s[rows], "right")
        upto = np.zeros((len(rows) + 1, edges.outputs), dtype=np.int64)
        np.cumsum(outputs[order][:, np.newaxis] == np.arange(edges.outputs), axis=0, out=upto[1:])
        guessed[rows] = edges.outputs - 1 - np.argmax((before[bucket] + upto[seen])[:, ::-1], axis=1)
    return guessed


def _outputs(requests: Requests, edges: Edges) -> Ints:
    return _buckets(requests.output_tokens, edges.output_tokens)


def _buckets(tokens: Ints, at: tuple[int, ...]) -> Ints:
    return np.searchsorted(np.asarray(at, dtype=np.int64), tokens, side="right").astype(np.int64)


def _joined(prompts: Ints, outputs: Ints, edges: Edges) -> Ints:
    return np.asarray(prompts * edges.outputs + outputs)


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))
