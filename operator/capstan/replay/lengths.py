"""How good a guess of the output bucket is on a trace: whom to trust, and by how much.

Who calls it: `capstan lengths`, tests. Must not know: pools, energy (`scores.misplaced` says what a wrong guess costs).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.forecast.lengths import LengthPredictor, RunningQuantiles, Shape
from capstan.model.classes import Edges
from capstan.replay import classify
from capstan.replay.runs import Floats, Ints, Requests

LEVELS = (0.5, 0.9, 0.99)
"""Quantiles whose coverage is looked at."""


@dataclass(frozen=True, slots=True)
class Guessed:
    """How often one rule took a request for one bucket, shape `[true, guessed]`, counts of requests."""

    rule: str
    counts: Ints

    @property
    def accuracy_ratio(self) -> float:
        """Share of the requests put into the right bucket."""
        return float(np.trace(self.counts) / self.counts.sum())

    @property
    def row_ratios(self) -> Floats:
        """How likely each bucket is taken for which, shape `[true, guessed]`; a bucket that nobody is in has zeros."""
        return np.asarray(self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1))

    @property
    def under_ratio(self) -> float:
        """Share taken for shorter than they were: the guesses that may miss the SLO."""
        return float(np.tril(self.counts, -1).sum() / self.counts.sum())

    @property
    def over_ratio(self) -> float:
        """Share taken for longer than they were: the guesses that cost watts."""
        return float(np.triu(self.counts, 1).sum() / self.counts.sum())


def compare(requests: Requests, edges: Edges) -> tuple[Guessed, ...]:
    """Return what each rule makes of a trace, the live predictor first, none of them with a look ahead.

    The last two are constant: the most frequent bucket of the whole trace, which is the most that a constant can reach,
    and the longest, which is what a generous `max_tokens` says of every request.
    """
    true = classify.true_codes(requests, edges) % edges.outputs

    def of(rule: str, guessed: Ints) -> Guessed:
        cells = np.bincount(true * edges.outputs + guessed, minlength=edges.outputs**2)
        return Guessed(rule, cells.reshape(edges.outputs, edges.outputs).astype(np.int64))

    def by(source: classify.Source) -> Ints:
        return classify.predicted(requests, edges, source, seed=0) % edges.outputs

    return (
        of("live: running quantiles", by(classify.Source.LIVE)),
        of("none: most frequent of the prompt bucket", by(classify.Source.NONE)),
        of("always the most frequent", np.full_like(true, np.bincount(true).argmax())),
        of("always the longest, as a large max_tokens", np.full_like(true, edges.outputs - 1)),
    )


def sweep(requests: Requests, edges: Edges) -> tuple[tuple[str, float], ...]:
    """Return the live predictor's accuracy at other shapes than the shipped one, and where lengths are known later."""
    true = classify.true_codes(requests, edges) % edges.outputs

    def right(shape: Shape, slowdown_ratio: float = 1.0) -> float:
        predictor = RunningQuantiles(edges, shape)
        return float((classify.live(requests, edges, predictor, slowdown_ratio=slowdown_ratio) == true).mean())

    return (
        *((f"{bins} bins per octave of prompts", right(Shape(bins_per_octave=bins))) for bins in (1, 2, 3, 4, 6, 8)),
        *((f"half-life of {n:,} requests", right(Shape(half_life_requests=n))) for n in (200, 2000, 20_000)),
        *((f"keys asked from {n} requests on", right(Shape(min_requests=n))) for n in (1, 5, 30, 100)),
        *((f"lengths known {n} times later", right(Shape(), n)) for n in (1, 3, 10)),
    )


def coverage(requests: Requests, predictor: LengthPredictor | None = None) -> Floats:
    """Return the share of answers that did not pass their predicted quantile, one for each of `LEVELS`.

    A share near the level is a quantile that can be relied on. Requests that came before anything was known are left
    out; NaN where those are all.
    """
    kept = np.zeros(len(LEVELS))
    count = 0
    told = classify.replayed(requests, predictor or RunningQuantiles())
    for output, prediction in zip(requests.output_tokens.tolist(), told, strict=True):
        if prediction is not None:
            count += 1
            kept += [output <= prediction.quantile_tokens(level) for level in LEVELS]
    return kept / count if count else np.full(len(LEVELS), np.nan)


def names(edges: Edges) -> str:
    """Return the letters of the output buckets, shortest first."""
    return "".join(edges.name(code)[-1] for code in range(edges.outputs))
