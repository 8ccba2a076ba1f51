"""What is asked of a service: arrival rate and token counts, and the single request of a trace."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

PROMPT_CV2 = 0.9
"""Squared coefficient of variation of prompt lengths: 0.89, 0.93, 0.87 in Azure's conversation and code traces of 2023
and its conversation week of 2024 (docs/explanation/queueing.md)."""

USUAL_REQUESTS = 100.0
"""A coefficient of variation of a hundred lengths as skewed as these has an error of about 20 %."""

GRID_RATIO = 1.02
"""Rates and lengths of a minute are not known better than this: 2,500 requests have a counting error of 2 %."""

SPREAD_SIGMAS = 3.0  # as of rates (`forecast.peak`): a look in a thousand takes a mix for lengths that are alike

LOG_GRID = math.log(GRID_RATIO)

CV2_STEP = 0.05
"""Grid of `prompt_cv2_ratio`: a wait moves by half of its relative change (Pollaczek-Khinchine)."""

SHARE_STEP = 0.02
"""Grid of the shares of short prompts: a thousand requests tell one of a tenth to a hundredth."""


class Phase(StrEnum):
    """Which part of each request a pool plays; a pool that plays one of them is named so."""

    BOTH = "both"
    PREFILL = "prefill"
    """The prompt and the first token, which go to another pool with the keys and values."""
    DECODE = "decode"
    """Every token after the first."""


class Short(NamedTuple):
    """Prompts below `tokens`: their share of all, and the mean of those that are not below the entry before.

    `largest_ratio` is the share of all requests of the class that has most of the latter (by answers, too).
    """

    tokens: float
    share_ratio: float
    mean_tokens: float
    largest_ratio: float


@dataclass(frozen=True, slots=True)
class Workload:
    """Mean demand on one pool. Shapes: scalars. `prompt_tokens` and `output_tokens` are means per request.

    `prompt_cv2_ratio` is the squared coefficient of variation of prompt lengths: a pool of one class has less than a
    whole service. Lengths are those of whole requests, also where the pool plays one phase of them. `short_prompts`
    says how many prompts are short, ascending; where it says nothing, lengths are taken for gamma variates.
    """

    arrival_rps: float
    prompt_tokens: float
    output_tokens: float
    prompt_cv2_ratio: float = PROMPT_CV2
    phase: Phase = Phase.BOTH
    short_prompts: tuple[Short, ...] = ()

    def __post_init__(self) -> None:
        if not (
            self.arrival_rps >= 0 and self.prompt_tokens >= 1 and self.output_tokens >= 1 and self.prompt_cv2_ratio >= 0
        ):
            raise ValueError("a workload needs arrival_rps >= 0, at least one token each way and prompt_cv2_ratio >= 0")

    def scaled(self, ratio: float) -> Workload:
        """Return the same lengths at `ratio` times the arrival rate."""
        return self.at(self.arrival_rps * ratio)

    def at(self, arrival_rps: float) -> Workload:
        """Return the same lengths at another arrival rate."""
        lengths = (self.prompt_tokens, self.output_tokens, self.prompt_cv2_ratio)
        return Workload(arrival_rps, *lengths, self.phase, self.short_prompts)

    def of_phase(self, phase: Phase) -> Workload:
        """Return the same requests where this phase of them is played."""
        return replace(self, phase=phase)

    @property
    def context_tokens(self) -> float:
        """Mean context of a decoding sequence: its prompt and half its output."""
        return self.prompt_tokens + self.output_tokens / 2

    @property
    def made_tokens(self) -> float:
        """Output tokens that are made of each request where this phase of it is played."""
        match self.phase:
            case Phase.BOTH:
                return self.output_tokens
            case Phase.PREFILL:
                return 1.0
            case Phase.DECODE:
                return self.output_tokens - 1

    def longer(self, ratio: float) -> Workload:
        """Return the same rate of requests that are `ratio` times as long."""
        tokens = (self.prompt_tokens * ratio, self.output_tokens * ratio)
        return Workload(self.arrival_rps, *tokens, self.prompt_cv2_ratio, self.phase, self.short_prompts)

    def coarse(self) -> Workload:
        """Return this demand rounded up to a grid of 2 %: an answer worked out once serves the neighbours, too."""
        return self.coarse_lengths().at(_up(self.arrival_rps))

    def coarse_lengths(self) -> Workload:
        """Return `coarse` of no arrivals: the lengths alone, as a capacity is asked by."""
        lengths = (self.prompt_tokens, self.output_tokens, self.prompt_cv2_ratio)
        return _coarse_lengths(*lengths, self.phase, self.short_prompts)


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a trace: when it arrives and how long it is."""

    request_id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise ValueError("a request has at least one prompt token and one output token")


def spread_ratio(measured_ratio: float, requests: float) -> float:
    """Return how much prompts vary, of so many requests: few say little, and look more alike than they are.

    Their squared coefficient of variation, drawn towards `PROMPT_CV2` as if `USUAL_REQUESTS` of the usual were among
    them, but to no more than `SPREAD_SIGMAS` of its own error above what was measured: that of a gamma variate's is
    about sqrt((2 + 4 cv2) / n) of it, small where lengths are alike. Example: fifty with 0.51 tell 0.77; twenty
    documents with 0.14 tell 0.29, a thousand 0.16.
    """
    drawn_ratio = (requests * measured_ratio + USUAL_REQUESTS * PROMPT_CV2) / (requests + USUAL_REQUESTS)
    if requests <= 1:
        return drawn_ratio
    error_ratio = math.sqrt((2 + 4 * measured_ratio) / requests)
    return min(drawn_ratio, measured_ratio * (1 + SPREAD_SIGMAS * error_ratio))


@functools.lru_cache(maxsize=1024)  # a cycle asks by the same lengths half a dozen times
def _coarse_lengths(
    prompt_tokens: float, output_tokens: float, prompt_cv2_ratio: float, phase: Phase, short: tuple[Short, ...]
) -> Workload:
    few = tuple(
        Short(at, _nearest(share, SHARE_STEP), _up(mean), _nearest(largest, SHARE_STEP))
        for at, share, mean, largest in short
    )
    return Workload(0.0, _up(prompt_tokens), _up(output_tokens), _nearest(prompt_cv2_ratio, CV2_STEP), phase, few)


def _nearest(ratio: float, step_ratio: float) -> float:
    return round(ratio / step_ratio) * step_ratio


def _up(value: float) -> float:
    """Return the next point of the grid at or above a value; 0 stays 0."""
    if value <= 0:
        return 0.0
    return float(GRID_RATIO ** math.ceil(math.log(value) / LOG_GRID - 1e-9))
