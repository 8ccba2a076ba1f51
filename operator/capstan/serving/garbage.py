"""Full garbage collections when nobody waits for a decision.

Who calls it: whose process it is (`app.operator`), after each cycle. Must not know: what is remembered.

What decisions remember are a third of a million objects for 500 policies, and none of them is garbage. Python looks at
each in every full collection, mostly in the middle of a decision, for a third of its time (`python -m rig decide
scale`). So they are put aside, and looked at once a period, between two decisions.
"""

from __future__ import annotations

import gc

PERIOD_S = 300.0  # a pool period: cyclic garbage of so long is kilobytes, a collection is a third of a second


class Garbage:
    """When the last full collection was."""

    def __init__(self) -> None:
        self._swept_at_s: float | None = None

    def sweep(self, now_s: float) -> bool:
        """Collect everything and put what is left aside, once a period; return whether that was done.

        Args:
            now_s: Of a clock that never goes back.
        """
        if self._swept_at_s is not None and now_s - self._swept_at_s < PERIOD_S:
            return False
        self._swept_at_s = now_s
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        return True
