"""How near a replica is to the limits of prompts of several lengths, each with a limit of its own.

Who calls it: `steady` makes it, `sizing` asks it. DESIGN 7.1 counts a request as good by its own limit and holds the
SLO over all requests, and over each class that has a thousand; the measured stress is the same quantile of latency over
own limit. So that is what is planned: of the requests together, and of a tier by itself where it has enough to be told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from capstan.model import waiting

TOLD_REQUESTS = 1000.0
TOLD_S = 3600.0
"""A tier is held by itself where one of its classes has a thousand requests an hour: DESIGN 7.1 holds a class from a
thousand on, since of fewer p99 cannot be told; an hour is the longest window of usual SLO alarms that still acts (burn
rate of an hour). Where nobody knows its classes it is taken for one."""

PRECISION = 1e-5  # of a stress, as a share of it: no limit is known better
FIRST_STEP = 1.05  # of all requests together little more is asked for than of the tightest tier
MOST_LOOKS = 80  # at a load where anybody is late; six mostly do


@dataclass(slots=True)
class Tier:
    """Prompts between two lengths: their share of all, and how many of its largest class come a second to all replicas.

    `middle_s`, `longest_s`: time to the first token of the middle and of the longest one where nobody is before it.
    """

    share_ratio: float
    largest_rps: float
    middle_s: float
    longest_s: float

    @property
    def told(self) -> bool:
        """Whether it has enough requests to be held by itself."""
        return self.largest_rps * TOLD_S >= TOLD_REQUESTS


@dataclass(slots=True)
class Tiers:
    """All tiers but the last, the wait before any prompt, and TTFT of all: host time, then a gamma variate."""

    tiers: tuple[Tier, ...]
    wait: waiting.Wait
    host_s: float
    mean_s: float
    spread_s: float
    _answered: tuple[tuple[tuple[float, ...], float, float, float], float] | None = field(
        default=None, repr=False, compare=False
    )

    def ttft_s(self, tier: Tier, percentile_ratio: float) -> float:
        """Return a tier's TTFT at a percentile.

        Who waits long is of any of its lengths, so that the quantile of the wait meets the middle one; where hardly
        any waits, the longest is the tail.
        """
        return max(tier.middle_s + self.wait.quantile_s(percentile_ratio), tier.longest_s)

    def late_ratio(self, stress_ratio: float, limits_s: Sequence[float], longest_limit_s: float) -> float:
        """Return the share of all requests whose TTFT is above so many times their own limit."""
        gamma_s = stress_ratio * longest_limit_s - self.host_s
        late = waiting.gamma_above_ratio(self.mean_s, self.spread_s**2, gamma_s)
        for tier, limit_s in zip(self.tiers, limits_s, strict=True):
            within_s = stress_ratio * limit_s
            late += tier.share_ratio * (
                1.0 if within_s < tier.longest_s else self.wait.above_ratio(within_s - tier.middle_s)
            )
        return min(late, 1.0)

    def stress_ratio(
        self, limits_s: Sequence[float], longest_limit_s: float, *, percentile_ratio: float, least_ratio: float
    ) -> float:
        """Return the quantile of TTFT over its own limit, of all requests and of each tier that is told.

        Args:
            limits_s: Of the tiers.
            longest_limit_s: Of all other prompts.
            percentile_ratio: Quantile.
            least_ratio: What the stress is anyway (another latency's): nothing below is looked for.
        """
        asked = (tuple(limits_s), longest_limit_s, percentile_ratio, least_ratio)
        if self._answered is None or self._answered[0] != asked:  # steady states are remembered, and asked every cycle
            stress = self._most(limits_s, percentile_ratio, least_ratio)
            self._answered = asked, self._quantile(stress, limits_s, longest_limit_s, 1 - percentile_ratio)
        return self._answered[1]

    def _most(self, limits_s: Sequence[float], percentile_ratio: float, least_ratio: float) -> float:
        """Return the most of a stress and those of the tiers that are told."""
        stress = least_ratio
        for tier, limit_s in zip(self.tiers, limits_s, strict=True):
            if tier.told:
                stress = max(stress, self.ttft_s(tier, percentile_ratio) / limit_s)
        return stress

    def _quantile(self, low: float, limits_s: Sequence[float], longest_limit_s: float, may_ratio: float) -> float:
        """Return the stress at or above `low` beyond which no more than `may_ratio` of the requests are late.

        Tails are nearly exponential: the logarithm of the share late is nearly linear in the stress (regula falsi).
        """

        def excess(at: float) -> float:
            late = self.late_ratio(at, limits_s, longest_limit_s)
            return math.log(late / may_ratio) if late > 0 else -math.inf

        at_low = excess(low)
        if at_low <= 0:
            return low
        step = FIRST_STEP
        high = low * step or 1.0
        while (at_high := excess(high)) > 0:
            step *= step
            low, at_low, high = high, at_high, high * step
        for look in range(MOST_LOOKS):
            if high - low <= PRECISION * high:
                break
            straight = at_high > -math.inf and look % 3 < 2  # else halves: a whole tier may be late from one point on
            share = at_low / (at_low - at_high) if straight else 0.5
            middle = low + (high - low) * min(max(share, 0.01), 0.99)
            found = excess(middle)
            if found > 0:
                low, at_low, at_high = middle, found, at_high / 2
            else:
                high, at_high, at_low = middle, found, at_low / 2
        return high


def below_ratio(tokens: float, *, mean_tokens: float, cv2_ratio: float) -> float:
    """Return the share of prompts shorter than `tokens`: gamma distributed, as where they wait (`waiting`).

    Of both Azure traces of 2023: 16 and 10 % below 256 tokens where it is 10 and 16; 57 and 39 % below 1024 where it is
    47 and 38.
    """
    return 1 - waiting.gamma_above_ratio(mean_tokens, cv2_ratio * mean_tokens**2, tokens)
