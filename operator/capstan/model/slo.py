"""Service-level objectives: limits on time to first token and on a request's mean time per output token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits that `percentile_ratio` of requests must keep (DESIGN 7.1: both, or the request is bad)."""

    ttft_s: float
    tpot_s: float
    percentile_ratio: float = 0.99

    def __post_init__(self) -> None:
        if not (self.ttft_s > 0 and self.tpot_s > 0):
            raise ValueError("an SLO limit is not above zero")
        if not 0.5 <= self.percentile_ratio < 1:
            raise ValueError("percentile_ratio is outside [0.5, 1)")
