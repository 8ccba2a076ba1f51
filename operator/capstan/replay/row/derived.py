"""Thresholds and caps of a row from the weeks before the scored ones: what `polca-ours` runs with.

Who calls it: `experiment`, `app.fit`. Must not know: the scored weeks.

The high threshold is POLCA's rule on this row's own rises within this path's latency (`powercap.derive`). How much
later than that it may come, and how deep low priority's cap goes, is tried on those weeks. There are two reserves: what
is left of the SLOs, and of the last watts below the budget. A gentle setting spends the second, a hard one the first;
the setting whose scarcer reserve is the larger is taken. Other weeks are busier than these, and nothing can be known of
them but that they need some of both.
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

LAST_RATIO = 0.03
"""The reserve of watts: of the budget, between where the brake lies live (97 %) and the budget. A peak at 97 % has used
none of it, one at the budget all."""

DEEP_RATIOS = (0.62, 0.70, 0.788)
"""Low priority's deep cap, of the maximum clock: POLCA's 1110 of A100's 1410 MHz, and two that are deeper. Its caps may
go as deep as its SLO allows; the paper's row needs none so deep, because its caps come early and last."""

HIGH_RATIO = 0.926  # POLCA's 1305 MHz
BASE_RATIO = 0.905  # POLCA's 1275 MHz: no boost


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
    return replace(min(tried, key=badness), tried=len(tried))


def _rise(watts: Floats, budget_w: float, system: System) -> Derived:
    """Return the thresholds that a row's own seconds ask for. Raises ValueError where there is none."""
    match derive.thresholds(watts, 1.0, system.path.latency_s, budget_w, float(system.path.brake_s)):
        case Derived() as found:
            return found
        case _:
            raise ValueError("the weeks before hold no second that is not warm-up")


def _candidates(row: Row, system: System, at: Thresholds) -> Iterator[System]:
    clocks = row.kind.profile.clocks

    def grid_mhz(ratio: float) -> float:
        return clocks.snapped_mhz(clocks.max_mhz * ratio)

    for later in LATER_RATIOS:
        high_ratio = at.high_ratio + later * (1 - at.high_ratio)
        thresholds = Thresholds(high_ratio * STEP_DOWN_RATIO, high_ratio, 1.0, at.hysteresis_ratio)
        for deep in DEEP_RATIOS:
            caps = Caps(grid_mhz(BASE_RATIO), grid_mhz(deep), grid_mhz(HIGH_RATIO), system.caps.brake_mhz)
            yield with_law(system, thresholds, caps)


def _scored(row: Row, system: System, free: Played) -> Score:
    played = play.play(row, system)
    return score.of(played, free, row.kind.services, row.budget_w, generate.WARM_UP_S)


def badness(found: Found) -> tuple[int, float]:
    """Brakes first; then how much of the scarcer reserve is used, watts or the closer SLOs."""
    before = found.before
    watts = (before.peak_ratio - (1 - LAST_RATIO)) / LAST_RATIO
    return before.brakes, max(watts, OURS_HIGH.worst(before.high), OURS_LOW.worst(before.low))
