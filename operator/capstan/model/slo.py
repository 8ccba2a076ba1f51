"""Service-level objectives: limits on time to first token and on a request's mean time per output token."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from capstan.model.workload import Phase

WINDOW_S = 300.0
"""The window that an SLO is judged by (DESIGN 7.1); alarms are quicker."""


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits that `percentile_ratio` of requests must keep (DESIGN 7.1: both, or the request is bad).

    `tiers` tightens `ttft_s` for short prompts: `((256, 0.25), (1024, 0.4))` says 250 ms for prompts below 256 tokens,
    400 ms for those below 1024. Ascending in both.
    """

    ttft_s: float
    tpot_s: float
    percentile_ratio: float = 0.99
    tiers: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if not (self.ttft_s > 0 and self.tpot_s > 0):
            raise ValueError("an SLO limit is not above zero")
        if not 0.5 <= self.percentile_ratio < 1:
            raise ValueError("percentile_ratio is outside [0.5, 1)")
        steps = (*self.tiers, (math.inf, self.ttft_s))
        if any(not (a[0] < b[0] and 0 < a[1] <= b[1]) for a, b in itertools.pairwise(steps)):
            raise ValueError("tiers must ascend in tokens and in their limits, and end at or below ttft_s")

    @property
    def tier_tokens(self) -> tuple[float, ...]:
        """Return the prompt lengths that tiers end at."""
        return tuple(float(tokens) for tokens, _ in self.tiers)

    def of_phase(self, phase: Phase) -> Slo:
        """Return the limits of a pool that plays a phase: of the other phase's latency there is none, so infinity."""
        match phase:
            case Phase.BOTH:
                return self
            case Phase.PREFILL:
                return replace(self, tpot_s=math.inf)
            case Phase.DECODE:
                return replace(self, ttft_s=math.inf, tiers=())

    def of_prompts(self, shortest_tokens: float, longest_tokens: float) -> Slo:
        """Return the limits of a pool whose prompts have `shortest_tokens` to below `longest_tokens` tokens."""
        met = [tier for tier in self.tiers if tier[0] > shortest_tokens]
        top = next((i for i, tier in enumerate(met) if tier[0] >= longest_tokens), None)
        if top is None:
            return Slo(self.ttft_s, self.tpot_s, self.percentile_ratio, tuple(met))
        return Slo(met[top][1], self.tpot_s, self.percentile_ratio, tuple(met[:top]))
