"""The classes that a study looks at: how long their prompts and answers are, and what is asked of them.

Who calls it: `app.study`. Must not know: physics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from capstan.model.classes import Edges
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.replay import queueing
from capstan.replay.published import Statistics
from capstan.replay.runs import Ints, cv2_ratio


@dataclass(frozen=True, slots=True)
class ClassLoad:
    """One class. `load` has its mean lengths and no arrivals; `share_ratio` is its share of the requests."""

    name: str
    share_ratio: float
    load: Workload
    slo: Slo


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Lengths between two edges: their share of all, mean, and squared coefficient of variation."""

    share_ratio: float
    mean_tokens: float
    cv2_ratio: float
    low_tokens: float
    high_tokens: float


def of(statistics: Statistics, edges: Edges, slo: Slo) -> tuple[ClassLoad, ...]:
    """Return the classes that a published trace has, in the order of their codes; an empty one is left out.

    Prompt and answer lengths are taken as independent, because published quantiles say nothing else: shares are
    products.

    Args:
        statistics: Whose quantiles to draw lengths from.
        edges: Where classes begin.
        slo: The service's limits; a class gets those of its prompt lengths.
    """
    prompts, outputs = queueing.drawn(statistics)
    prompt_buckets = _buckets(prompts, edges.prompt_tokens)
    output_buckets = _buckets(outputs, edges.output_tokens)
    pairs = ((prompt, output) for prompt in prompt_buckets for output in output_buckets)
    return tuple(
        ClassLoad(
            name=edges.name(code),
            share_ratio=prompt.share_ratio * output.share_ratio,
            load=Workload(0.0, prompt.mean_tokens, output.mean_tokens, prompt.cv2_ratio),
            slo=slo.of_prompts(prompt.low_tokens, prompt.high_tokens),
        )
        for code, (prompt, output) in enumerate(pairs)
        if prompt.share_ratio > 0 and output.share_ratio > 0
    )


def _buckets(tokens: Ints, edges: tuple[int, ...]) -> list[_Bucket]:
    bounds = (0.0, *(float(edge) for edge in edges), math.inf)
    place = np.searchsorted(np.asarray(edges), tokens, side="right")
    return [_bucket(tokens, place == index, bounds[index], bounds[index + 1]) for index in range(len(edges) + 1)]


def _bucket(tokens: Ints, there: np.typing.NDArray[np.bool_], low_tokens: float, high_tokens: float) -> _Bucket:
    if not there.any():
        return _Bucket(0.0, 0.0, 0.0, low_tokens, high_tokens)
    held = np.maximum(tokens[there], 1)  # a request has at least one token each way
    return _Bucket(float(there.mean()), float(held.mean()), cv2_ratio(held), low_tokens, high_tokens)
