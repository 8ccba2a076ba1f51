"""How many replicas: the most that one replica carries inside the SLO, and the count that covers a peak."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from capstan.model import phases, steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload

BRACKET_RPS = 4096.0  # no replica of 8 GPUs serves more requests a second than this
CELLS = 2**30  # of the bracket: far below any rate that matters
NO_STEADY_STATE = -1.0  # the slack of a load that has none; that of a missed limit is above it
REMEMBERED = 1 << 14  # answers: of 500 policies some eight each, of their degrees, counts and lengths (0.7 kB each)
PATIENCE = 3  # looks in which the bracket must halve; else the next one is its middle


@functools.lru_cache(maxsize=1024)  # asked for several times a look
def pooled(replicas: int) -> int:
    """Return a count of replicas rounded down to 1, 2, 3, 4, 6, 8, 12 ...: waits of neighbours differ by little."""
    power = 1 << (max(replicas, 1).bit_length() - 1)
    return power + power // 2 if power >= 2 and replicas >= power + power // 2 else power


def point(
    profile: Profile, load: Workload, slo: Slo, *, x: float = 1.0, replicas: int = 1
) -> steady.OperatingPoint | None:
    """Return the steady state of one of `replicas` with everything an SLO limits, or None where none exists."""
    return phases.operating_point(
        profile,
        load,
        x=x,
        replicas=pooled(replicas),
        percentile_ratio=slo.percentile_ratio,
        tiers_tokens=slo.tier_tokens,
    )


def latencies(
    profile: Profile, load: Workload, slo: Slo, *, x: float = 1.0, replicas: int = 1
) -> steady.Latencies | None:
    """Return what an SLO limits of `point`, in two thirds of its time."""
    return phases.latencies(
        profile,
        load,
        x=x,
        replicas=pooled(replicas),
        percentile_ratio=slo.percentile_ratio,
        tiers_tokens=slo.tier_tokens,
    )


def stress_ratio(at: steady.OperatingPoint | steady.Latencies | None, slo: Slo) -> float:
    """Return the largest latency over its limit: 1 at the limit, inf where no steady state exists."""
    return math.inf if at is None else _stress_ratio(at, slo, at.tpot_s / slo.tpot_s)


def _stress_ratio(at: steady.OperatingPoint | steady.Latencies, slo: Slo, least_ratio: float) -> float:
    least_ratio = max(at.ttft_s / slo.ttft_s, least_ratio)
    if at.tiered is None:
        return least_ratio
    limits_s = [limit_s for _, limit_s in slo.tiers]
    return at.tiered.stress_ratio(limits_s, slo.ttft_s, percentile_ratio=slo.percentile_ratio, least_ratio=least_ratio)


def meets(at: steady.OperatingPoint | steady.Latencies | None, slo: Slo, *, margin: float) -> bool:
    """Return whether a steady state exists and keeps every limit with `margin` (a share of the limit, <= 1)."""
    return stress_ratio(at, slo) <= margin


@functools.lru_cache(maxsize=REMEMBERED)
def capacity_rps(
    profile: Profile, load: Workload, slo: Slo, *, x: float = 1.0, margin: float = 0.9, replicas: int = 1
) -> float:
    """Return the highest arrival rate of this mix that one replica serves inside the SLO; 0 where none is.

    Args:
        profile: The physics of one replica.
        load: Only its lengths count.
        slo: The limits, at `slo.percentile_ratio`.
        x: Clock ratio.
        margin: Share of each limit to plan for; what is left covers what the closed form does not see.
        replicas: How many share the arrivals (ask with `pooled`: the answer is remembered).
    """
    # The answer is remembered: ask with `Workload.coarse` lengths.
    reach = _reach(profile, load.at(0.0), slo, x=x, replicas=replicas)
    first = _slack_ratio(reach.idle_stress_ratio, margin)
    if first < 0:
        return 0.0
    bracket = _Bracket(first, high=reach.cells, width=reach.cells)
    if reach.cells > 1:
        bracket.narrow(reach.cells // 2, _slack_ratio(reach.half_stress_ratio, margin))
    while bracket.high - bracket.low > 1:
        cell = bracket.next()
        stress = _stress_at(profile, load, slo, cell, x=x, replicas=replicas)
        bracket.narrow(cell, _slack_ratio(stress, margin))
    return bracket.low * BRACKET_RPS / CELLS


def _slack_ratio(stress_ratio: float, margin: float) -> float:
    return NO_STEADY_STATE if stress_ratio == math.inf else margin / stress_ratio - 1


def _stress_at(profile: Profile, load: Workload, slo: Slo, cell: int, *, x: float, replicas: int) -> float:
    return stress_ratio(latencies(profile, load.at(cell * BRACKET_RPS / CELLS), slo, x=x, replicas=replicas), slo)


@dataclass(frozen=True, slots=True)
class _Reach:
    """Where a capacity lies: the lowest power of two of cells without a steady state, stress there by half and at 0."""

    idle_stress_ratio: float
    cells: int
    half_stress_ratio: float


@functools.lru_cache(maxsize=REMEMBERED)
def _reach(profile: Profile, load: Workload, slo: Slo, *, x: float, replicas: int) -> _Reach:
    """Return where a capacity lies under any margin: margins move by steps, and half of all looks went here."""
    cells, half = CELLS, math.inf
    while cells > 1 and half == math.inf:
        half = _stress_at(profile, load, slo, cells // 2, x=x, replicas=replicas)
        cells = cells if half < math.inf else cells // 2
    return _Reach(_stress_at(profile, load, slo, 0, x=x, replicas=replicas), cells, half)


@dataclass(slots=True)
class _Bracket:
    """Two cells between which slack, which falls with the load, passes zero.

    Regula falsi (Illinois), since one over a latency is nearly linear in the load, and bisection where that is slow:
    the cell that bisection finds, in half of its looks.
    """

    low_slack_ratio: float
    high_slack_ratio: float = NO_STEADY_STATE
    low: int = 0
    high: int = CELLS
    looks: int = 0
    width: int = CELLS
    last_held: bool | None = None

    def next(self) -> int:
        """Return where to look next."""
        if self.high_slack_ratio <= NO_STEADY_STATE or self.looks == PATIENCE:
            return (self.low + self.high) // 2
        crossing = self.low + int(
            (self.high - self.low) * self.low_slack_ratio / (self.low_slack_ratio - self.high_slack_ratio)
        )
        return min(max(crossing, self.low + 1), self.high - 1)

    def narrow(self, cell: int, slack: float) -> None:
        """Take the slack of a cell; an end that stays twice counts half, so that it does not stay for ever."""
        held = slack >= 0
        again = held is self.last_held
        if held:
            self.low, self.low_slack_ratio = cell, slack
            self.high_slack_ratio /= 2 if again and self.high_slack_ratio > NO_STEADY_STATE else 1
        else:
            self.high, self.high_slack_ratio = cell, slack
            self.low_slack_ratio /= 2 if again else 1
        self.last_held = held
        width = self.high - self.low
        self.looks, self.width = (0, width) if 2 * width <= self.width else (self.looks + 1, self.width)


def replicas_for(peak_rps: float, one_replica_rps: float) -> int:
    """Return the replicas that cover `peak_rps`, at least 1. Example: 10 rps at 4 rps each -> 3.

    Raises:
        ValueError: `one_replica_rps` is not above zero (the caller asks `capacity_rps` first).
    """
    if one_replica_rps <= 0:
        raise ValueError("one_replica_rps must be above zero")
    return max(1, math.ceil(peak_rps / one_replica_rps - 1e-9))


def smallest(profile: Profile, load: Workload, slo: Slo, *, peak_rps: float, near: int, margin: float) -> int | None:
    """Return the fewest replicas that carry `peak_rps` inside the SLO, None where no count does.

    More replicas wait less, so that fewer are needed than one alone would say: the count that stands, `near`, is asked
    first, because it mostly is it, and what that many carry is remembered.
    """

    def needed(count: int) -> int | None:
        one_rps = capacity_rps(profile, load, slo, margin=margin, replicas=pooled(count))
        return None if one_rps <= 0 else replicas_for(peak_rps, one_rps)

    count, least, most = max(near, 1), 1, math.inf
    while least < most:
        found = needed(count)
        if found is None:
            return None
        if pooled(found) == pooled(count):
            return found
        if found > count:  # too few; `found` wait less than they, and are enough
            least = count + 1
            count, most = (found, found) if found < most else ((least + int(most)) // 2, most)
        else:  # enough; fewer than `found` wait more than they, and are too few
            least, most = max(least, found), count
            count = least
    return least
