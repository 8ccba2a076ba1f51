"""What arrived by request class, from histograms of prompt and answer lengths that know nothing of classes.

Who calls it: `serving.observe`. Must not know: Prometheus, whose requests they were.

Engines count prompts and answers in two histograms, each by its own length, so how many requests had a short prompt
*and* a long answer is not in them: the two are taken as independent. Inside a histogram's bucket lengths are taken as
even; the mean over all requests, which engines count exactly, then corrects the means of the buckets.
Source: facts of vLLM's `/metrics` (buckets 1, 2, 5, 10 … tokens up to the model's longest).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from capstan.model.classes import Edges
from capstan.model.fleet import ClassDemand
from capstan.model.reading import Histogram, Lengths

ROUNDS = 12  # of the correction below; each takes up what the one before left beyond a bucket's own bounds
CLOSE_RATIO = 1e-6


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket of lengths: its share of all requests, their mean, and `cv2_ratio`, variance over squared mean."""

    share_ratio: float
    mean_tokens: float
    cv2_ratio: float


def demands(arrival_rps: float, prompts: Lengths, outputs: Lengths, edges: Edges) -> tuple[ClassDemand, ...]:
    """Return what arrived of each class that anybody asked for, by code; empty where a histogram counted nothing.

    Args:
        arrival_rps: Of all classes together, >= 0; the rates returned add up to it.
        prompts: Of prompts; an engine counts them when a request ends, so they are a request's life late.
        outputs: Of answers, likewise.
        edges: Where classes begin.
    """
    by_prompt, by_output = buckets(prompts, edges.prompt_tokens), buckets(outputs, edges.output_tokens)
    found = []
    for (row, prompt), (column, output) in itertools.product(enumerate(by_prompt), enumerate(by_output)):
        rate_rps = arrival_rps * prompt.share_ratio * output.share_ratio
        if rate_rps > 0:
            code = row * edges.outputs + column
            found.append(ClassDemand(code, rate_rps, prompt.mean_tokens, output.mean_tokens, prompt.cv2_ratio))
    return tuple(found)


def buckets(lengths: Lengths, edges_tokens: tuple[int, ...]) -> tuple[Bucket, ...]:
    """Return each bucket between `edges_tokens` (lower bound included); empty where nothing was counted.

    Example: 100 requests, 50 of them of 101 to 200 tokens and 50 of 201 to 500, edge 256. Of the second fifty
    55/300 are below 256 (201 to 255), so 59.2 % are short.
    """
    total, mean_tokens = lengths.histogram.total, lengths.mean_tokens
    if mean_tokens is None:
        return ()
    bounds = (1, *edges_tokens, math.inf)
    raw = [_bucket(lengths.histogram, low, high) for low, high in itertools.pairwise(bounds)]
    means = _corrected([(count / total, mean) for count, mean, _ in raw], bounds, mean_tokens)
    spreads = [variance / mean**2 if mean > 0 else 0.0 for _, mean, variance in raw]
    return tuple(
        Bucket(count / total, mean, spread) for (count, _, _), mean, spread in zip(raw, means, spreads, strict=True)
    )


def cv2_ratio(lengths: Lengths) -> float | None:
    """Return the squared coefficient of variation of all lengths; None where nothing was counted."""
    count, mean, variance = _bucket(lengths.histogram, 1, math.inf)
    return variance / mean**2 if count > 0 else None


def _bucket(histogram: Histogram, low: float, high: float) -> tuple[float, float, float]:
    """Return (count, mean, variance) of lengths from `low` to below `high`; the mean of none is `low`."""
    parts = list(_parts(histogram, low - 1, high - 1))
    count = math.fsum(part[0] for part in parts)
    if count <= 0:
        return 0.0, low, 0.0
    mean = math.fsum(n * middle for n, middle, _ in parts) / count
    return count, mean, math.fsum(n * (own + (middle - mean) ** 2) for n, middle, own in parts) / count


def _parts(histogram: Histogram, above: float, most: float) -> Iterator[tuple[float, float, float]]:
    """Yield (count, middle, variance) of whole lengths in (above, most], one per bucket of the histogram.

    Whole numbers from a + 1 to b have the mean (a + b + 1) / 2 and the variance ((b - a)^2 - 1) / 12. What lies above
    the last finite edge is at least that edge, and is counted there.
    """
    inside = sorted({above, most, *(edge for edge in histogram.edges if above < edge < most)})
    for low, high in itertools.pairwise(inside):
        count = histogram.within(high) - histogram.within(low)
        if high == math.inf:
            yield count, max(low, 1.0), 0.0
        else:
            yield count, (low + high + 1) / 2, max((high - low) ** 2 - 1, 0.0) / 12


def _corrected(found: list[tuple[float, float]], bounds: tuple[float, ...], mean_tokens: float) -> list[float]:
    """Return the buckets' means scaled so that all requests have `mean_tokens`, none beyond its bucket's bounds.

    Args:
        found: (share, mean) of each bucket.
        bounds: Where buckets begin, and infinity.
        mean_tokens: What engines counted; one that no lengths in these buckets can have is met as nearly as they can.
    """
    means, factor = [mean for _, mean in found], 1.0
    for _ in range(ROUNDS):
        held = math.fsum(share * mean for (share, _), mean in zip(found, means, strict=True))
        if held <= 0 or abs(mean_tokens / held - 1) < CLOSE_RATIO:
            break
        factor *= mean_tokens / held
        means = [
            min(max(mean * factor, low), high - 1)
            for (_, mean), (low, high) in zip(found, itertools.pairwise(bounds), strict=True)
        ]
    return means
