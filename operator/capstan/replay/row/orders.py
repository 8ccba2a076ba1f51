"""How a domain's levels become clocks on the way to its servers.

Who calls it: `play`, `plan.planned`. Must not know: what is drawn. The caps of a level are the machine's own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from capstan.powercap import levels
from capstan.powercap.domains import LEVELS, Domain
from capstan.replay.row import loop
from capstan.replay.row.systems import Path
from capstan.replay.runs import Floats

Index = Callable[[float | None], int]
"""From a cap to the index of a clock, as a table of clocks has them."""


def control(domain: Domain, path: Path, *, low: Index, high: Index) -> loop.Control:
    """Return how a domain is told and obeyed: its path, and the clock of low and of high priority at each level."""
    each = [levels.caps_at(domain, level) for level in LEVELS]
    return loop.Control(
        budget_w=domain.budget_w,
        period_s=path.sample_s,
        lag_s=path.lag_s,
        actuate_s=path.cap_s,
        brake_s=path.brake_s,
        low=np.array([low(caps.low_mhz) for caps in each]),
        high=np.array([high(caps.high_mhz) for caps in each]),
    )


def index(clocks_mhz: Floats, clock_mhz: float | None) -> int:
    """Return the index of the highest clock that is not above one; None is the highest of all."""
    if clock_mhz is None:
        return len(clocks_mhz) - 1
    return max(int(np.searchsorted(clocks_mhz, clock_mhz + 1e-6)) - 1, 0)
