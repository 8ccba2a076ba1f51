"""Where a run's late requests are, against what the SLO allows there: what a search steers by.

Who calls it: `searches.oracle`. Must not know: plans, joules. Whether the SLO is met is `score`'s word, never ours: a
search uses this only to know which windows have room and which have none.
"""

from __future__ import annotations

import numpy as np

from capstan.replay.runs import Floats, Ints, Requests
from capstan.replay.scores import limits, measure, score
from capstan.replay.searches.trial import Bools


class Allowance:
    """The late requests that each 5-minute window may have, with classes that run short counted dearer.

    A window of few requests is allowed its share of them too, rounded down: strict, but sums to what is allowed.
    """

    def __init__(self, requests: Requests, percentile_ratio: float) -> None:
        self._arrival_s = requests.arrival_s
        window = (requests.arrival_s / measure.WINDOW_S).astype(np.int64)
        self.windows = int(window[-1]) + 1
        self._late_ratio = 1 - percentile_ratio
        self.allowed = np.floor(self._late_ratio * np.bincount(window, minlength=self.windows) + 1e-9)
        prompt = np.searchsorted(limits.PROMPT_EDGES, requests.prompt_tokens, side="right")
        output = np.searchsorted(limits.OUTPUT_EDGES, requests.output_tokens, side="right")
        self._class: Ints = prompt * (len(limits.OUTPUT_EDGES) + 1) + output
        self._class_counts = np.bincount(self._class)
        self._dearness = np.ones(len(self._class_counts))

    def late(self, good: Bools, period_s: float, count: int) -> Floats:
        """Return the late requests per stretch of `period_s`, each as dear as its class, shape `[count]`."""
        at = np.minimum((self._arrival_s / period_s).astype(np.int64), count - 1)
        return np.bincount(at, weights=self._dearness[self._class] * ~good, minlength=count).astype(np.float64)

    def kept(self, good: Bools) -> Bools:
        """Return which windows are within their allowance, shape `[window]`."""
        return np.asarray(self.late(good, measure.WINDOW_S, self.windows) <= self.allowed + 1e-9)

    def learn(self, good: Bools) -> bool:
        """Count classes that broke the SLO dearer from now on; return whether there was any."""
        late = np.bincount(self._class, weights=(~good).astype(float), minlength=len(self._class_counts))
        ratio = late / np.maximum(self._late_ratio * self._class_counts, 1e-9)
        broke = (self._class_counts >= score.MIN_CLASS_REQUESTS) & (ratio > 1)
        self._dearness = np.where(broke, self._dearness * np.maximum(ratio, 1.1), self._dearness)
        return bool(broke.any())
