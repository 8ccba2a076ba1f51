"""What Prometheus remembers of a policy's load: mean arrivals step by step, in blocks that never change once ended.

Who calls it: `adapters.prometheus.past` fills it, `serving` hands it to the decision and to the record of decisions
(by the hash of each block, so that a refresh writes one block down and not four weeks). Must not know: PromQL.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK_STEPS = 288  # a day of DynamoLLM's 5 minutes
BLOCKS = 28  # four weeks of those: four of every weekday, of which a weekday/weekend template wants a handful


@dataclass(frozen=True, slots=True)
class Ask:
    """Whose past is wanted: the engine pods of a policy, by namespace and a regular expression for their whole name."""

    policy: str
    namespace: str
    pods: str


@dataclass(frozen=True, slots=True)
class Block:
    """Mean arrivals of consecutive steps from `start_s` on, in requests per second; None: not known, which is not 0."""

    start_s: float
    step_s: float
    rates_rps: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if not (self.step_s > 0 and math.isfinite(self.step_s) and math.isfinite(self.start_s)):
            raise ValueError("step_s is a length above zero and start_s a moment")
        if any(rate is not None and not 0 <= rate < math.inf for rate in self.rates_rps):
            raise ValueError("a rate is negative or not finite; leave an unknown one None")


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of one policy's load, blocks in order of time; what lies between them is not known."""

    policy: str
    blocks: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        starts_s = [block.start_s for block in self.blocks]
        if starts_s != sorted(set(starts_s)):
            raise ValueError("blocks ascend in time")

    def samples(self) -> Iterator[tuple[float, float]]:
        """Yield (t_s, arrival_rps) of every step that is known; `t_s` is its end."""
        for block in self.blocks:
            for number, rate_rps in enumerate(block.rates_rps, start=1):
                if rate_rps is not None:
                    yield block.start_s + number * block.step_s, rate_rps
