"""How many replicas: the most that one replica carries inside the SLO, and the count that covers a peak."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from capstan.model import steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload

BRACKET_RPS = 4096.0  # no replica of 8 GPUs serves more requests a second than this
CELLS = 2**30  # of the bracket: far below any rate that matters
NO_STEADY_STATE = -1.0  # the slack of a load that has none; that of a missed limit is above it
MOST_GUESSES = 4  # of a count by what each of so many carries; two mostly agree
PATIENCE = 3  # looks in which the bracket must halve; else the next one is its middle


def pooled(replicas: int) -> int:
    """Return a count of replicas rounded down to 1, 2, 3, 4, 6, 8, 12 ...: waits of neighbours differ by little."""
    power = 1 << (max(replicas, 1).bit_length() - 1)
    return power + power // 2 if power >= 2 and replicas >= power + power // 2 else power


def point(
    profile: Profile, load: Workload, slo: Slo, *, x: float = 1.0, replicas: int = 1
) -> steady.OperatingPoint | None:
    """Return the steady state of one of `replicas` with everything an SLO limits, or None where none exists."""
    return steady.operating_point(
        profile,
        load,
        x=x,
        replicas=pooled(replicas),
        percentile_ratio=slo.percentile_ratio,
        tiers_tokens=slo.tier_tokens,
    )


def stress_ratio(at: steady.OperatingPoint | None, slo: Slo) -> float:
    """Return the largest latency over its limit: 1 at the limit, inf where no steady state exists."""
    if at is None:
        return math.inf
    tiers = (ttft_s / limit_s for ttft_s, (_, limit_s) in zip(at.tier_ttft_s, slo.tiers, strict=True))
    return max(at.ttft_s / slo.ttft_s, at.tpot_s / slo.tpot_s, *tiers)


def meets(at: steady.OperatingPoint | None, slo: Slo, *, margin: float) -> bool:
    """Return whether a steady state exists and keeps every limit with `margin` (a share of the limit, <= 1)."""
    return stress_ratio(at, slo) <= margin


@functools.lru_cache(maxsize=4096)
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

    def slack(cell: int) -> float:
        at = point(profile, load.at(cell * BRACKET_RPS / CELLS), slo, x=x, replicas=replicas)
        stress = stress_ratio(at, slo)
        return NO_STEADY_STATE if stress == math.inf else margin / stress - 1

    first = slack(0)  # the answer is remembered: ask with `Workload.coarse` lengths
    if first < 0:
        return 0.0
    bracket = _Bracket(first)
    while bracket.high - bracket.low > 1:
        cell = bracket.next()
        bracket.narrow(cell, slack(cell))
    return bracket.low * BRACKET_RPS / CELLS


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

    `capacity_rps` says where to look; `near`, the count that stands, is looked at first, because it mostly is it
    and two steady states tell so where a capacity takes a dozen.
    """

    def carry(count: int) -> bool:
        return meets(point(profile, load.at(peak_rps / count), slo, replicas=count), slo, margin=margin)

    if near >= 1 and carry(near) and (near == 1 or not carry(near - 1)):
        return near
    count = 1
    for _ in range(MOST_GUESSES):  # more replicas wait less, so that fewer are needed than one alone would say
        one_rps = capacity_rps(profile, load, slo, margin=margin, replicas=pooled(count))
        if one_rps <= 0:
            return None
        before, count = count, replicas_for(peak_rps, one_rps)
        if pooled(count) == pooled(before):
            break
    while count > 1 and carry(count - 1):
        count -= 1
    while not carry(count):
        count += 1
    return count
