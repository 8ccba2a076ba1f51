"""What a row's load is, measured: its peak, its worst rises, its shape over the day.

Who calls it: `experiment`, on the run without any cap, before a policy is looked at; `derive`s the same rises live.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.powercap import derive
from capstan.replay.runs import Floats

FAST_S, SLOW_S = 2.0, 40.0  # facts/polca.md 1.1: the two windows in which the paper gives the worst rise


@dataclass(frozen=True, slots=True)
class Measured:
    """A row without caps.

    Attributes:
        peak_ratio, mean_ratio, quiet_ratio: Highest second, mean, and first percentile, over the budget.
        fast_rise_ratio, slow_rise_ratio: Worst relative rise within 2 s and 40 s.
    """

    peak_ratio: float
    mean_ratio: float
    quiet_ratio: float
    fast_rise_ratio: float
    slow_rise_ratio: float


def of(row_w: Floats, budget_w: float) -> Measured:
    """Return what is measured from seconds of a row."""
    return Measured(
        peak_ratio=float(row_w.max()) / budget_w,
        mean_ratio=float(row_w.mean()) / budget_w,
        quiet_ratio=float(np.quantile(row_w, 0.01)) / budget_w,
        fast_rise_ratio=derive.rise_ratio(row_w, 1.0, FAST_S),
        slow_rise_ratio=derive.rise_ratio(row_w, 1.0, SLOW_S),
    )
