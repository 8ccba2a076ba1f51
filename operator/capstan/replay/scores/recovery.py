"""How a service comes through a shock: how long until it keeps its SLO again, and what it owes by then.

Who calls it: `pages.summary`, `pages.document`. Must not know: what the shock was, systems.

Time is read in windows of a minute from the shock on, up to the next shock or the end. A window *keeps the SLO* where
no more of its requests are bad than the percentile allows, or one: at 99 % a minute of fewer than 100 requests cannot
tell a missed SLO from one unlucky request. A window without arrivals keeps it. The service has *recovered* at the start
of the first window from which on all keep it.

The *debt* of a shock is the requests that were bad beyond those that the percentile allows, from the shock up to the
recovery (where there is none, up to the next shock): what an error budget pays for it. `late_s` adds up by how much
their first tokens came after the limit, of those that have one; a request that is lost or refused has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capstan.replay.runs import Floats, Outcomes
from capstan.replay.scores import limits, measure

WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """One shock and one service. `recovered_after_s` is None where it did not recover before the next shock."""

    t_s: float
    recovered_after_s: float | None
    debt_requests: float
    late_s: float


def of(outcomes: Outcomes, held: limits.Limits, shocks_s: Sequence[float]) -> tuple[Recovery, ...]:
    """Return what became of each shock, in order of time.

    Args:
        outcomes: Of one service.
        held: Its limits.
        shocks_s: Ascending; one after the last arrival has no requests to be seen by, and is left out.
    """
    arrival_s = outcomes.requests.arrival_s
    if not len(arrival_s):
        return ()
    last_s = float(arrival_s[-1])
    seen = [t_s for t_s in shocks_s if t_s <= last_s]
    if not seen:
        return ()
    bad = ~measure.good(outcomes, held)
    with np.errstate(invalid="ignore"):
        late_s = outcomes.first_s - arrival_s - held.ttft_of(outcomes.requests.prompt_tokens)
    late_s = np.where(np.isfinite(late_s) & (late_s > 0), late_s, 0.0)
    ends_s = [*seen[1:], math.nextafter(last_s, math.inf)]
    found = []
    for t_s, end_s in zip(seen, ends_s, strict=True):
        rows = slice(*np.searchsorted(arrival_s, (t_s, end_s), "left").tolist())
        found.append(_one(t_s, end_s, arrival_s[rows], bad[rows], late_s[rows], held.percentile_ratio))
    return tuple(found)


def _one(
    t_s: float,
    end_s: float,
    arrival_s: Floats,
    bad: measure.Bools,
    late_s: Floats,
    percentile_ratio: float,
) -> Recovery:
    """Return the recovery from one shock; the columns are those of the requests between it and `end_s`."""
    windows = max(math.ceil((end_s - t_s) / WINDOW_S - 1e-9), 1)
    window = np.minimum(((arrival_s - t_s) // WINDOW_S).astype(np.int64), windows - 1)
    arrived = np.bincount(window, minlength=windows)
    missed = np.bincount(window[bad], minlength=windows)
    allowed = np.maximum(np.floor((1 - percentile_ratio) * arrived + 1e-9), 1)
    failing = np.flatnonzero(missed > allowed)
    after = int(failing[-1]) + 1 if len(failing) else 0
    owing = window < after
    debt = float(missed[:after].sum() - (1 - percentile_ratio) * arrived[:after].sum())
    return Recovery(
        t_s=t_s,
        recovered_after_s=None if after == windows else after * WINDOW_S,
        debt_requests=max(debt, 0.0),
        late_s=float(late_s[owing].sum()),
    )
