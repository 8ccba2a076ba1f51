"""Thresholds and caps of a row from the weeks before the scored ones: what `polca-ours` runs with.

Who calls it: `experiment`, `app.fit`. Must not know: the scored weeks.

The high threshold is POLCA's rule on this row's own rises within this path's latency (`powercap.derive`). Caps and the
low threshold are tried on those weeks: of those that keep the brake and the SLOs, the gentlest; where none does, the
one that comes closest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from capstan.powercap import derive
from capstan.powercap.derive import Derived
from capstan.powercap.domains import Caps, Thresholds
from capstan.replay.row import generate, play, score
from capstan.replay.row.play import Played, Row
from capstan.replay.row.score import OURS_HIGH, OURS_LOW, Score
from capstan.replay.row.systems import System, with_law
from capstan.replay.runs import Floats

LATER_RATIOS = (0.0, 0.3, 0.6)
"""Where the high threshold may lie between POLCA's rule (0) and the budget (1). The rule takes the worst relative rise
of all, which begins low: from just below the threshold the row rises less. How much less, the weeks before say."""

STEP_DOWN_RATIO = 0.97
"""The low threshold over the high one. POLCA's is 0.90: with 40 s between a cap and its effect the first step must
come early; in band there is time for a second one."""

LARGEST_PEAK_RATIO = 0.985
"""The weeks before may come this near to the budget, no nearer: other weeks have other peaks. Ours: what is left is
half of the brake's own distance from the budget live (97 %)."""

DEEP_RATIOS = (0.787, 0.851)  # of the maximum clock: POLCA's 1110 MHz of A100's 1410, and 1200
HIGH_RATIOS = (0.926, 0.957)  # POLCA's 1305 MHz, and 1350
BASE_RATIO = 0.904  # POLCA's 1275 MHz: no boost


@dataclass(frozen=True, slots=True)
class Found:
    """What was derived: the system with its law, the rise behind its threshold, and how it did on those weeks."""

    system: System
    rise_ratio: float
    before: Score
    tried: int


def of(row: Row, system: System, free: Played) -> Found:
    """Return a system with thresholds and caps of its own.

    Args:
        row: The weeks before the scored ones.
        system: Whose path and timers count.
        free: The same weeks without caps.
    """
    watts = free.row_w[row.score_from_s : row.end_s]
    rise = _rise(watts, row.budget_w, system)
    tried = [
        Found(one, rise.rise_ratio, _scored(row, one, free), 0) for one in _candidates(row, system, rise.thresholds)
    ]
    return replace(min(tried, key=_badness), tried=len(tried))


def _rise(watts: Floats, budget_w: float, system: System) -> Derived:
    """Return the thresholds that a row's own seconds ask for. Raises ValueError where there is none."""
    match derive.thresholds(watts, 1.0, system.path.latency_s, budget_w, float(system.path.brake_s)):
        case Derived() as found:
            return found
        case _:
            raise ValueError("the weeks before hold no second that is not warm-up")


def _candidates(row: Row, system: System, at: Thresholds) -> Iterator[System]:
    most = float(row.kind.tables.clocks_mhz[-1])
    for later in LATER_RATIOS:
        high_ratio = at.high_ratio + later * (1 - at.high_ratio)
        thresholds = Thresholds(high_ratio * STEP_DOWN_RATIO, high_ratio, 1.0, at.hysteresis_ratio)
        for deep in DEEP_RATIOS:
            for high in HIGH_RATIOS:
                caps = Caps(most * BASE_RATIO, most * deep, most * high, system.caps.brake_mhz)
                yield with_law(system, thresholds, caps)


def _scored(row: Row, system: System, free: Played) -> Score:
    played = play.play(row, system)
    return score.of(played, free, row.kind.services, row.budget_w, generate.WARM_UP_S)


def _badness(found: Found) -> tuple[int, float]:
    """Brakes, and peaks too near to the budget, first; then how much of the closer SLOs is used."""
    before = found.before
    near = before.peak_ratio > LARGEST_PEAK_RATIO
    return before.brakes + int(near), max(OURS_HIGH.worst(before.high), OURS_LOW.worst(before.low))
