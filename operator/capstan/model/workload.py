"""What is asked of a service: arrival rate and token counts, and the single request of a trace."""

from __future__ import annotations

import math
from dataclasses import dataclass

PROMPT_CV2 = 0.9
"""Squared coefficient of variation of prompt lengths: 0.89, 0.93, 0.87 in Azure's conversation and code traces of 2023
and its conversation week of 2024 (docs/explanation/queueing.md)."""

USUAL_REQUESTS = 100.0
"""A coefficient of variation of a hundred lengths as skewed as these has an error of about 20 %."""

GRID_RATIO = 1.02
"""Rates and lengths of a minute are not known better than this: 2,500 requests have a counting error of 2 %."""


CV2_STEP = 0.05
"""Grid of `prompt_cv2_ratio`: a wait moves by half of its relative change (Pollaczek-Khinchine)."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Mean demand on one pool. Shapes: scalars. `prompt_tokens` and `output_tokens` are means per request.

    `prompt_cv2_ratio` is the squared coefficient of variation of prompt lengths: a pool of one class has less than a
    whole service.
    """

    arrival_rps: float
    prompt_tokens: float
    output_tokens: float
    prompt_cv2_ratio: float = PROMPT_CV2

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
        return Workload(arrival_rps, self.prompt_tokens, self.output_tokens, self.prompt_cv2_ratio)

    def longer(self, ratio: float) -> Workload:
        """Return the same rate of requests that are `ratio` times as long."""
        tokens = (self.prompt_tokens * ratio, self.output_tokens * ratio)
        return Workload(self.arrival_rps, *tokens, self.prompt_cv2_ratio)

    def coarse(self) -> Workload:
        """Return this demand rounded up to a grid of 2 %: an answer worked out once serves the neighbours, too."""
        spread = round(self.prompt_cv2_ratio / CV2_STEP) * CV2_STEP
        return Workload(_up(self.arrival_rps), _up(self.prompt_tokens), _up(self.output_tokens), spread)


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
    them. Example: fifty with 0.51 tell 0.77, a thousand documents with 0.14 tell 0.21.
    """
    return (requests * measured_ratio + USUAL_REQUESTS * PROMPT_CV2) / (requests + USUAL_REQUESTS)


def _up(value: float) -> float:
    """Return the next point of the grid at or above a value; 0 stays 0."""
    if value <= 0:
        return 0.0
    return float(GRID_RATIO ** math.ceil(math.log(value) / math.log(GRID_RATIO) - 1e-9))
