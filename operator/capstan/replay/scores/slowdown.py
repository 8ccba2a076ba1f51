"""What caps cost in latency: end-to-end quantiles of a priority over those of the same system without any cap, less 1.

Who calls it: `scores.score`. Must not know: which power domain capped whom; a request is not followed to its server.

Both runs have the same requests; those that finished in both count. One that was shed or never finished counts in
attainment, where it is bad.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.model.policy import Priority
from capstan.replay.runs import Floats, Outcomes, Run
from capstan.replay.scores import measure

P50, P99 = 0.5, 0.99


@dataclass(frozen=True, slots=True)
class Slowdown:
    """Of one priority: 0.05 is five percent slower than without caps; None: none of its requests finished in both."""

    p50_ratio: float | None
    p99_ratio: float | None


ByPriority = tuple[tuple[Priority, Slowdown], ...]


def of(run: Run, uncapped: Run) -> ByPriority:
    """Return the slowdown of every priority that a run has services of."""
    found = []
    for priority in Priority:
        pairs = [
            _latencies_s(mine.outcomes, free.outcomes)
            for mine, free in zip(run.services, uncapped.services, strict=True)
            if mine.priority is priority
        ]
        if pairs:
            mine_s, free_s = (np.concatenate(side) for side in zip(*pairs, strict=True))
            found.append((priority, Slowdown(_ratio(mine_s, free_s, P50), _ratio(mine_s, free_s, P99))))
    return tuple(found)


def _latencies_s(mine: Outcomes, free: Outcomes) -> tuple[Floats, Floats]:
    """Return end-to-end latencies with and without caps of the requests that finished in both."""
    done = np.isfinite(mine.finish_s) & np.isfinite(free.finish_s)
    arrival_s = mine.requests.arrival_s[done]
    return mine.finish_s[done] - arrival_s, free.finish_s[done] - arrival_s


def _ratio(mine_s: Floats, free_s: Floats, share: float) -> float | None:
    capped, free = (measure.nearest_rank(times_s, share) for times_s in (mine_s, free_s))
    return None if capped is None or free is None or free <= 0 else capped / free - 1
