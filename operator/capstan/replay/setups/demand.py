"""A trace as a few loads with their durations: what a set-up that never moves has to carry, and for how long.

Who calls it: `setups.screen`, `setups.apart`. Must not know: set-ups.

Minutes are ranked by the work that they bring. The busiest stands alone, since it decides what suffices; the others
are joined in groups of about equal work, since a fixed fleet's joules are a smooth function of its load.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.model.profile import Profile
from capstan.model.workload import Workload
from capstan.replay.runs import Floats, Requests, cv2_ratio
from capstan.replay.searches import fluid

MINUTE_S = 60.0
GROUPS = 16
"""On Azure's conversation hour joules are within 0.3 % of those of every minute by itself (tests/replay/setups)."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A load and how long it lasts in all; None: nothing to do."""

    load: Workload | None
    lasting_s: float


def stretches(requests: Requests, like: Profile, *, groups: int = GROUPS) -> tuple[Stretch, ...]:
    """Return a trace's minutes, busiest first: that one alone, the others in groups.

    Args:
        requests: The trace.
        like: Whose step times weigh prompt tokens against decoded ones.
        groups: How many groups the others make.
    """
    minutes = fluid.loads(requests, MINUTE_S)
    cv2 = cv2_ratio(requests.prompt_tokens)
    order = np.argsort(-_work_s(minutes, like, _context_tokens(requests)), kind="stable")
    parts = [order[:1], *np.array_split(order[1:], groups)]
    return tuple(_joined(minutes, part, cv2) for part in parts if len(part))


def _context_tokens(requests: Requests) -> float:
    return float(requests.prompt_tokens.mean() + requests.output_tokens.mean() / 2)


def _work_s(minutes: fluid.Loads, like: Profile, context_tokens: float) -> Floats:
    """Return the engine seconds that each minute's tokens take where the weights are read for many at once."""
    t = like.timing
    decoded_s = t.prefill_per_token_s + t.per_sequence_s + t.per_context_token_s * context_tokens
    return np.asarray(minutes.prompt_tokens * t.prefill_per_token_s + minutes.decode_tokens * decoded_s)


def _joined(minutes: fluid.Loads, part: np.ndarray[tuple[int], np.dtype[np.int64]], cv2: float) -> Stretch:
    """Return some minutes as one load."""
    lasting_s = minutes.period_s * len(part)
    arrivals, prompt = float(minutes.arrivals[part].sum()), float(minutes.prompt_tokens[part].sum())
    decoded = float(minutes.decode_tokens[part].sum())
    if arrivals <= 0 and decoded <= 0:
        return Stretch(None, lasting_s)
    count = max(arrivals, 1.0)
    return Stretch(Workload(count / lasting_s, max(prompt / count, 1.0), max(decoded / count, 1.0), cv2), lasting_s)
