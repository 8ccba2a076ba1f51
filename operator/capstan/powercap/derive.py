"""What a domain's own trace says of its thresholds: POLCA's derivation, for this domain instead of its row.

Who calls it: `power` for the metric `rise_ratio_max` and for a domain that names no thresholds; the command line, on a
trace. Must not know: where a trace came from, levels.

POLCA's 0.80 / 0.89 belong to forty servers behind a path of 40 s (facts/polca.md 1.4). The rule behind them: the high
threshold is the highest share of the budget from which the worst rise within one control latency still ends inside it,
T2 = 1 / (1 + g). Fewer servers even one another out less, so their g is larger and their T2 lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from capstan import units
from capstan.model.reasons import Reason
from capstan.model.sample import Missing
from capstan.powercap.domains import Thresholds
from capstan.powercap.readings import Floats

LOW_OF_HIGH_RATIO = 0.80 / 0.89  # POLCA's T1 over its T2 (facts/polca.md 1.3)
GROWTH_RATIO = 0.30  # POLCA adds 30 % servers (facts/polca.md 1.5): by so much the rises of a trace may yet grow
TRIP_RATIO = 1.25  # a thermal-magnetic breaker carries 125 % for minutes (facts/polca.md 2.2): the brake takes seconds
LEAST_HYSTERESIS_RATIO = 0.05  # facts/polca.md 5.2
NOISE_SIGMAS = 3.0  # facts/polca.md 5.2
SIGMA_OF_MEDIAN = 1.4826  # of the median of |x| to the deviation, where x is normal
STEP_RATIO = 0.01  # a PowerDomain's thresholds are whole percents: so far apart are two that must differ
LEAST_HIGH_RATIO = 0.50
"""Below half of the budget a threshold would cap servers that idle: eight H100 at 70 W and 2800 W beside them are a
third of 10.2 kW nameplate (facts/polca.md 2.5), which is 0.43 of the budget of a row with 30 % more servers."""
LEAST_W = 1.0  # no server draws less: what does is a lost sample, and a rise from it would be any number
EVIDENCE_S = 7 * 24 * units.SECONDS_PER_HOUR  # facts/polca.md 5.2: at least a week of this domain's trace


@dataclass(frozen=True, slots=True)
class Derived:
    """Thresholds and every number behind them, so that an operator can check the arithmetic.

    Attributes:
        thresholds: What to set.
        rise_ratio: g(L), the worst relative rise within one control latency.
        brake_rise_ratio: The same within the latency of the brake.
        needed_ratio: 1 / (1 + g(L)), before it was held between its bounds.
        noise_ratio: One sigma of what the draw moves between two samples, as a share of the budget.
        peak_ratio: The highest draw as a share of the budget.
        heard_s: Seconds of the trace that hold a sample.
    """

    thresholds: Thresholds
    rise_ratio: float
    brake_rise_ratio: float
    needed_ratio: float
    noise_ratio: float
    peak_ratio: float
    heard_s: float

    @property
    def covers(self) -> bool:
        """Return whether the thresholds alone keep the worst rise inside the budget; else it takes the brake."""
        return self.thresholds.high_ratio <= self.needed_ratio + 1e-9

    @property
    def brake_covers(self) -> bool:
        """Return whether the worst rise that meets the brake ends below what trips the feed."""
        return self.thresholds.brake_ratio * (1 + self.brake_rise_ratio) <= TRIP_RATIO + 1e-9

    @property
    def enough(self) -> bool:
        """Return whether the trace is as long as the rule asks for."""
        return self.heard_s >= EVIDENCE_S


def thresholds(
    watts: Floats,
    period_s: float,
    latency_s: float,
    budget_w: float,
    brake_latency_s: float,
    *,
    saving_ratio: float = 0.0,
) -> Derived | Missing:
    """Return the thresholds that a domain's trace asks for (facts/polca.md 5.2), or that there is no trace.

    Args:
        watts: AC watts at a fixed period, shape `[sample]`, uncapped (shadow mode). NaN where not every node was heard:
            a sum that misses a node dips, and its return would read as a rise.
        period_s: Between two samples, > 0.
        latency_s: From a draw to the caps that answer it: sensor, decision, actuation (p99) and settling.
        budget_w: AC watts of the domain.
        brake_latency_s: The same for the brake.
        saving_ratio: The most that one level's caps save, as a share of the budget. A step that saves more than the
            hysteresis caps and releases for ever (facts/polca.md 5.2, limit cycle).

    Example: a worst rise of 11.8 % within 40 s gives T2 = 1 / 1.118 = 0.894 and T1 = 0.804.
    """
    heard_w = _heard(watts)
    known = int(np.isfinite(heard_w).sum())
    if known == 0:
        return Missing(Reason.NO_DATA)
    peak_w = float(np.nanmax(heard_w))
    reach_w = min(peak_w, budget_w) / (1 + GROWTH_RATIO)
    rise = rise_ratio(watts, period_s, latency_s, reach_w=reach_w)
    brake_rise = rise_ratio(watts, period_s, brake_latency_s, reach_w=reach_w)
    noise_ratio = _noise_w(heard_w) / budget_w
    needed = 1 / (1 + rise)
    return Derived(
        thresholds=_thresholds(needed, brake_rise, saving_ratio + NOISE_SIGMAS * noise_ratio),
        rise_ratio=rise,
        brake_rise_ratio=brake_rise,
        needed_ratio=needed,
        noise_ratio=noise_ratio,
        peak_ratio=peak_w / budget_w,
        heard_s=known * period_s,
    )


def rise_ratio(watts: Floats, period_s: float, latency_s: float, *, reach_w: float | None = None) -> float:
    """Return the worst relative rise within one latency: 0.118 is 11.8 % more at its end than at its beginning.

    A window counts by where it ends: at or above `reach_w`, by default the highest draw of the trace over
    1 + `GROWTH_RATIO`. A window that ends lower would stay inside today's peak with 30 % more servers, however steep it
    is: an idle row that doubles is no danger. (The cut is not made where a window begins: below peak / (1 + g) none can
    end above the peak, but taken for a definition of g that leaves the one rise which made the peak, and a steeper one
    that ended a watt lower would not count.)

    Args:
        watts: Samples at a fixed period, shape `[sample]`. What is not finite, or below `LEAST_W`, was not heard: it
            neither begins nor ends a rise, and what happened in a gap of a whole latency is not seen.
        period_s: Between two samples, > 0.
        latency_s: A window's length; one period at least.
        reach_w: Ends of windows below it do not count.
    """
    heard_w = _heard(watts)
    if not np.isfinite(heard_w).any():
        return 0.0
    least_w = float(np.nanmax(heard_w)) / (1 + GROWTH_RATIO) if reach_w is None else reach_w
    highest_w = _highest_ahead(np.nan_to_num(heard_w, nan=-math.inf), _samples(period_s, latency_s) + 1)
    counts = np.isfinite(heard_w) & (highest_w >= least_w)
    return float((highest_w[counts] / heard_w[counts]).max(initial=1.0)) - 1.0


def deepest_mhz(clocks: Iterable[float], slowdown_ratio_of: Callable[[float], float], allowed_ratio: float) -> float:
    """Return the lowest clock that slows work down by no more than a priority's objective allows.

    Args:
        clocks: MHz that the board supports.
        slowdown_ratio_of: How much longer the work takes at a clock: 0.05 is 5 %; NaN: nobody knows.
        allowed_ratio: POLCA allows high priority 0.05 at p99, low priority 0.50 (facts/polca.md 1.5).

    Returns:
        The last one on the way down: what lies below a clock that is too slow is not trusted. The highest where none
        keeps the objective.

    Raises:
        ValueError: There are no clocks.
    """
    falling = sorted(clocks, reverse=True)
    if not falling:
        raise ValueError("clocks is empty: give the clocks that the board supports")
    deepest = falling[0]
    for clock in falling:
        if not slowdown_ratio_of(clock) <= allowed_ratio:
            break
        deepest = clock
    return deepest


# --- live --------------------------------------------------------------------------------------------

HOURS_KEPT = 168  # a week, as `EVIDENCE_S`


@dataclass(frozen=True, slots=True)
class Rises:
    """The worst rise of a week, kept a tick at a time.

    Attributes:
        lows: (seconds, watts) of the last latency that may yet begin the steepest rise: later ones are higher.
        hours: (hour, worst rise that ended in it), the newest last.
    """

    lows: tuple[tuple[float, float], ...] = ()
    hours: tuple[tuple[int, float], ...] = ()

    @property
    def worst_ratio(self) -> float | None:
        """Return the metric `rise_ratio_max`; None before anything was heard."""
        return max((rise for _, rise in self.hours), default=None)


def watched(rises: Rises, watts: float | None, now_s: float, *, latency_s: float, budget_w: float) -> Rises:
    """Return the rises after a tick; its cost is bounded by the ticks of one latency, whatever came before.

    Args:
        rises: Of the tick before.
        watts: AC watts with every node heard; None where one was not.
        now_s: A clock that never goes back.
        latency_s: The control latency.
        budget_w: Only rises count that would end above it after `GROWTH_RATIO` of growth.
    """
    if watts is None or not math.isfinite(watts) or watts < LEAST_W:
        return rises
    young = tuple(low for low in rises.lows if now_s - low[0] <= latency_s + 1e-6)
    counts = bool(young) and watts * (1 + GROWTH_RATIO) >= budget_w
    rise = max(watts / young[0][1] - 1.0, 0.0) if counts else 0.0
    lower = tuple(low for low in young if low[1] < watts)
    return replace(
        rises, lows=(*lower, (now_s, watts)), hours=_noted(rises.hours, int(now_s // units.SECONDS_PER_HOUR), rise)
    )


def _noted(hours: tuple[tuple[int, float], ...], hour: int, rise: float) -> tuple[tuple[int, float], ...]:
    if hours and hours[-1][0] == hour:
        return hours if rise <= hours[-1][1] else (*hours[:-1], (hour, rise))
    return (*(kept for kept in hours if kept[0] > hour - HOURS_KEPT), (hour, rise))


# --- parts -------------------------------------------------------------------------------------------


def _thresholds(needed_ratio: float, brake_rise: float, asked_ratio: float) -> Thresholds:
    """Return thresholds whose bands nest: low < high - hysteresis, high <= brake - hysteresis."""
    hysteresis = min(max(LEAST_HYSTERESIS_RATIO, asked_ratio), LEAST_HIGH_RATIO / 2 - STEP_RATIO)
    brake = max(min(1.0, TRIP_RATIO / (1 + brake_rise)), LEAST_HIGH_RATIO + hysteresis)
    high = min(max(needed_ratio, LEAST_HIGH_RATIO), brake - hysteresis)  # one step's saving shows before the brake
    low = min(LOW_OF_HIGH_RATIO * high, high - hysteresis - STEP_RATIO)
    return Thresholds(low, high, brake, hysteresis)


def _heard(watts: Floats) -> Floats:
    return np.where(np.isfinite(watts) & (watts >= LEAST_W), watts, np.nan)


def _noise_w(heard_w: Floats) -> float:
    """Return one sigma of a sample around its neighbours, by the median of steps: a few real rises do not move it."""
    steps = np.abs(np.diff(heard_w))
    steps = steps[np.isfinite(steps)]
    return float(np.median(steps)) * SIGMA_OF_MEDIAN / math.sqrt(2) if len(steps) else 0.0


def _samples(period_s: float, latency_s: float) -> int:
    if not period_s > 0:
        raise ValueError("period_s is not above zero")
    return max(math.ceil(latency_s / period_s - 1e-9), 1)


def _highest_ahead(watts: Floats, width: int) -> Floats:
    """Return the highest of each sample and the `width - 1` after it, by windows that double in length."""
    highest, span = watts.copy(), 1
    while span < width:
        further = min(span, width - span)
        np.maximum(highest[:-further], highest[further:].copy(), out=highest[:-further])
        span += further
    return highest
