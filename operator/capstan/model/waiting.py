"""A prompt's wait for the chunk budget: how likely it waits at all, and how long it then does.

Who calls it: `steady`. One replica is an M/G/1 queue (Pollaczek-Khinchine, Takács' second moment, gamma distributed
prompts): it is busy in a share of the time, and only who comes then waits. That share matters to a tail: of a replica
that is busy a tenth of the time nine prompts in ten do not wait, and p99 is the tenth longest of the others' waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

NORMAL = NormalDist()

SEEN_AMONG = 3
"""A router that picks the replica with the fewest inside avoids one that computes a prompt where another is empty: the
chance of meeting one falls by the chance that neighbours are not empty, of up to three of them."""

POOLED_MOST = 6
POOLED_FROM_RATIO = 2 / 3
POOLED_EXPONENT = 0.4
POOLED_EXPONENT_OF_PROMPTS = 0.8
"""Who meets one waits n^-(0.4 + 0.8 x the share of prompts among all inside) as long as before one of n replicas alone,
from two thirds of the time busy on, below in proportion less shortened: a router that counts requests sees prompts
where few sequences decode. Six gain what more gain, too (measured to 40, on all three traces). The others and the three
above are rounded from a grid over both Azure traces of 2023, tp 4 and 8, two clocks, 1 to 10 replicas, 0.05 to 0.8 of
capacity in the replayed world; `capstan profile queueing --replicas` prints what is left of the error
(docs/explanation/queueing.md)."""


@dataclass(slots=True)  # not frozen: one for every look, and a frozen one takes three times as long to make
class Wait:
    """Waits of all prompts: `chance_ratio` of them do, for `mean_s` with a standard deviation of `spread_s`."""

    chance_ratio: float
    mean_s: float
    spread_s: float

    @property
    def all_mean_s(self) -> float:
        """The mean of everybody, who waits or not."""
        return self.chance_ratio * self.mean_s

    @property
    def all_variance_s2(self) -> float:
        """The variance of everybody's."""
        return self.chance_ratio * (self.spread_s**2 + self.mean_s**2) - self.all_mean_s**2

    def quantile_s(self, ratio: float) -> float:
        """Return the wait that this share of all prompts stays within; 0 where no more than the rest wait at all."""
        within = 1 - (1 - ratio) / self.chance_ratio if self.chance_ratio > 0 else 0.0
        return gamma_quantile(self.mean_s, self.spread_s**2, normal_quantile(within)) if within > 0 else 0.0

    def above_ratio(self, wait_s: float) -> float:
        """Return the share of all prompts that wait longer."""
        return self.chance_ratio * gamma_above_ratio(self.mean_s, self.spread_s**2, wait_s)


def of(arrival_rps: float, service_s: float, *, cv2_ratio: float, batch: float, replicas: int) -> Wait:
    """Return the wait before one of `replicas` that share arrivals, the one with the fewest inside first.

    Args:
        arrival_rps: Prompts a second, of this replica.
        service_s: Mean time that one takes of it; the product with the rate is below 1.
        cv2_ratio: Squared coefficient of variation of that time.
        batch: Mean number of sequences that decode on it.
        replicas: All of them, this one included.
    """
    busy = arrival_rps * service_s
    if busy <= 0:
        return Wait(0.0, 0.0, 0.0)
    mean_s, spread_s = _of_who_waits(service_s, cv2_ratio, busy)
    inside = batch + busy
    chance = busy * (1 - math.exp(-inside)) ** min(replicas - 1, SEEN_AMONG)
    exponent = POOLED_EXPONENT + POOLED_EXPONENT_OF_PROMPTS * busy / inside
    shorter = 1 - (1 - min(replicas, POOLED_MOST) ** -exponent) * min(busy / POOLED_FROM_RATIO, 1.0)
    return Wait(chance, shorter * mean_s, shorter * spread_s)


def of_prompts(arrival_rps: float, service_s: float, *, cv2_ratio: float, replicas: int) -> Wait:
    """Return `of` before replicas that only compute prompts: one is free, or all of them are busy (Erlang C).

    The router sees every prompt that is inside. So who waits does so for what is left of one prompt, and for another
    only where all replicas are so busy that two are inside of each: of one replica that is M/G/1 again.
    """
    busy = arrival_rps * service_s
    if busy <= 0:
        return Wait(0.0, 0.0, 0.0)
    blocked = 1.0  # Erlang B, replica by replica
    for count in range(1, replicas + 1):
        blocked = busy * replicas * blocked / (count + busy * replicas * blocked)
    crowded = math.pow(busy, replicas) / (replicas * (1 - busy))
    mean_s, spread_s = _of_who_waits(service_s, cv2_ratio, crowded / (1 + crowded))
    return Wait(blocked / (1 - busy * (1 - blocked)), mean_s, spread_s)


def _of_who_waits(service_s: float, cv2_ratio: float, busy: float) -> tuple[float, float]:
    """Return mean and standard deviation of M/G/1's waits that are any: Pollaczek-Khinchine over the busy share."""
    mean_s = service_s * (1 + cv2_ratio) / (2 * (1 - busy))
    square_s2 = 2 * busy * mean_s**2 + service_s**2 * (1 + cv2_ratio) * (1 + 2 * cv2_ratio) / (3 * (1 - busy))
    return mean_s, math.sqrt(max(square_s2 - mean_s**2, 0.0))


def gamma_quantile(mean: float, variance: float, z: float) -> float:
    """Return the quantile of a gamma variate at the standard normal quantile `z` (Wilson and Hilferty 1931)."""
    if mean <= 0:
        return 0.0
    ninth = min(variance / mean / mean / 9, 1e6)  # a mean of almost nothing: neither 0 / 0 nor inf - inf
    return mean * max(1 - ninth + z * math.sqrt(ninth), 0.0) ** 3


def gamma_above_ratio(mean: float, variance: float, value: float) -> float:
    """Return the chance that a gamma variate is above a value: `gamma_quantile` the other way."""
    if value <= 0 or mean <= 0:
        return float(value <= 0)
    ninth = min(variance / mean / mean / 9, 1e6)
    if ninth <= 0:
        return float(value < mean)
    return math.erfc((math.cbrt(value / mean) - 1 + ninth) / math.sqrt(2 * ninth)) / 2


def gamma_cv2(ratio: float, z: float) -> float:
    """Return the squared coefficient of variation of a gamma variate whose quantile at `z` is `ratio` means."""
    return (1.5 * (z - math.sqrt(z * z - 4 * (math.cbrt(ratio) - 1)))) ** 2


def normal_quantile(ratio: float) -> float:
    """Return the standard normal quantile of a share in (0, 1)."""
    return NORMAL.inv_cdf(ratio)
