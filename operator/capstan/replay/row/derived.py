"""Thresholds and caps of a row from the weeks before the scored ones: what `polca-ours` runs with.

Who calls it: `experiment`. Must not know: the scored weeks.

The high threshold is POLCA's rule on this row's own rises within this path's latency (`powercap.derive`). How much
later than that it may come, how close below it low priority is capped first, and how deep the caps of both priorities
go, is tried on those weeks. There are two reserves: what is left of the SLOs, and of the last watts below the budget. A
gentle setting spends the second, a hard one the first; the setting whose scarcer reserve is the larger is taken. Other
weeks are busier than these, and nothing can be known of them but that they need some of both.

Where the weeks before were so lively that no setting keeps both reserves, the same order goes on below zero: what
brakes least, then what draws least above the budget, then what is least above the SLO that it misses worst.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from capstan.powercap import derive
from capstan.powercap.derive import Derived
from capstan.powercap.domains import Caps, Thresholds
from capstan.replay.row import generate, play, score
from capstan.replay.row.play import Played, Row
from capstan.replay.row.score import OURS_HIGH, OURS_LOW, Score
from capstan.replay.row.systems import System, with_law
from capstan.replay.runs import Floats

LAST_RATIO = 0.03
"""The reserve of watts: of the budget, between where the brake lies live (97 %) and the budget. A peak at 97 % has used
none of it, one at the budget all."""

BASE_RATIO = 0.905  # POLCA's 1275 MHz: no boost


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, in shares.

    Attributes:
        deep_ratio: Low priority's deep cap, of the maximum clock.
        high_ratio: High priority's cap, of the maximum clock.
        step_ratio: The low threshold over the high one.
        later_ratio: Where the high threshold lies between POLCA's rule (0) and the budget (1).
    """

    deep_ratio: float
    high_ratio: float
    step_ratio: float
    later_ratio: float


TRIED: dict[str, tuple[float, ...]] = {
    # POLCA's 1110 of A100's 1410 MHz, and two that are deeper: low priority's cap may go as deep as its SLO allows. The
    # paper's row needs none so deep, because its caps come early and last.
    "deep_ratio": (0.62, 0.70, 0.788),
    # POLCA's 1305 MHz, and two that are deeper. This cap comes seldom, so depth costs high priority little; and where
    # little of a row is low priority, or it is livelier than ever before, nothing else takes enough off it.
    "high_ratio": (0.82, 0.87, 0.926),
    # POLCA's is 0.90: with 40 s between a cap and its effect the first step must come early; in band there is time for
    # a second one.
    "step_ratio": (0.97, 0.99),
    # The rule takes the worst relative rise of all, which begins low: from just below the threshold, and with low
    # priority capped there already, the row rises less. How much less, the weeks before say.
    "later_ratio": (0.3, 0.45, 0.6),
}
"""What each part of a setting may be, in the order in which they are tried: depth first, because a row that its deepest
caps do not hold brakes at every threshold."""

FIRST = Setting(deep_ratio=0.70, high_ratio=0.82, step_ratio=0.97, later_ratio=0.6)
"""Where the search begins: the deepest cap of high priority, so that what is tried of the rest is told apart by more
than how often it brakes."""

ROUNDS = 3  # a bound on the time: 22 plays at the most, which is half as much again for all systems of a row as 9

Badness = tuple[float, ...]


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

    @functools.cache
    def before(setting: Setting) -> Score:
        return _scored(row, with_setting(row, system, rise.thresholds, setting), free)

    best = searched(lambda setting: badness(before(setting)))
    law = with_setting(row, system, rise.thresholds, best)
    return Found(law, rise.rise_ratio, before(best), before.cache_info().currsize)


def searched(badness_of: Callable[[Setting], Badness]) -> Setting:
    """Return the best setting: a part at a time, all its values with the rest as it is, until no part changes.

    As good as is to be had by changing one part of it, where `ROUNDS` were enough; never worse than `FIRST`.
    """
    best = FIRST
    for _ in range(ROUNDS):
        begun = best
        for part, values in TRIED.items():
            best = min((best, *(replace(best, **{part: value}) for value in values)), key=badness_of)
        if best == begun:
            break
    return best


def badness(before: Score) -> Badness:
    """Return how bad a setting did, to be compared: smaller is better.

    Brakes first; then joules above the budget; then how much of each reserve is used, the scarcest first: watts, and
    each priority's closer SLO (1 is all of it, more is missed).
    """
    watts = (before.peak_ratio - (1 - LAST_RATIO)) / LAST_RATIO
    used = (watts, OURS_HIGH.worst(before.high), OURS_LOW.worst(before.low))
    return before.brakes, before.overbudget_j, *sorted(used, reverse=True)


def with_setting(row: Row, system: System, at: Thresholds, setting: Setting) -> System:
    """Return a system with the thresholds and caps of a setting.

    Args:
        row: Whose clocks there are.
        system: Whose path and timers count.
        at: The thresholds by POLCA's rule.
        setting: Its shares.
    """
    clocks = row.kind.profile.clocks

    def grid_mhz(ratio: float) -> float:
        return clocks.snapped_mhz(clocks.max_mhz * ratio)

    high_ratio = at.high_ratio + setting.later_ratio * (1 - at.high_ratio)
    thresholds = Thresholds(high_ratio * setting.step_ratio, high_ratio, 1.0, at.hysteresis_ratio)
    caps = Caps(
        low_base_mhz=grid_mhz(BASE_RATIO),
        low_deep_mhz=grid_mhz(setting.deep_ratio),
        high_mhz=grid_mhz(setting.high_ratio),
        brake_mhz=system.caps.brake_mhz,
    )
    return with_law(system, thresholds, caps)


def _rise(watts: Floats, budget_w: float, system: System) -> Derived:
    """Return the thresholds that a row's own seconds ask for. Raises ValueError where there is none."""
    match derive.thresholds(watts, 1.0, system.path.latency_s, budget_w, float(system.path.brake_s)):
        case Derived() as found:
            return found
        case _:
            raise ValueError("the weeks before hold no second that is not warm-up")


def _scored(row: Row, system: System, free: Played) -> Score:
    played = play.play(row, system)
    return score.of(played, free, row.kind.services, row.budget_w, generate.WARM_UP_S)
