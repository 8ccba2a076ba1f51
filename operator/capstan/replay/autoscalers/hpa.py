"""The Horizontal Pod Autoscaler: its formulas, and its stage of windows and rates that any metric can be put before.

Who calls it: `queue`, `keda`, `wva`, `clocks`. Must not know: which metric it is given.

Source: kubernetes pkg/controller/podautoscaler (`calcPlainMetricReplicas`, `GetExternalPerPodMetricReplicas`,
`stabilizeRecommendationWithBehaviors`, `convertDesiredReplicasWithBehaviorRate`), retold.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from capstan.replay.autoscalers import defaults
from capstan.replay.autoscalers.frame import Limits
from capstan.replay.seen import ServiceSeen

DUST = 1e-9  # what binary fractions leave behind; the API's milli-units have none


def ceil(value: float) -> int:
    """Return the next whole number, blind to rounding dust: 3.0000000001 is 3."""
    return math.ceil(value - DUST)


def within(ratio: float, tolerance_ratio: float) -> bool:
    """Return whether a ratio of metric to target is near enough to 1 to leave everything alone."""
    return abs(1.0 - ratio) <= tolerance_ratio + DUST


def pods_metric(
    values: Sequence[float], *, missing: int, pending: int, current: int, target: float, tolerance_ratio: float
) -> int | None:
    """Return what a metric of type Pods recommends, or None where no pod reports (the controller then does nothing).

    Args:
        values: The metric of each pod that reports it.
        missing: Running pods that report nothing: count as `target` when the rest say down, as 0 when they say up.
        pending: Pods on no node yet: 0 when the rest say up, else left out.
        current: `spec.replicas`.
        target: `averageValue`, > 0.
        tolerance_ratio: Deviation from 1 that is left alone.

    Example: (9, 9) against 5 is a ratio of 1.8: ceil(1.8 x 2) = 4. With one pod missing, (9, 9, 0): 1.2, ceil(3.6) = 4.
    """
    if not values:
        return None
    ratio = sum(values) / len(values) / target
    filled = list(values)
    if missing:
        filled += [target if ratio < 1 else 0.0] * missing
    if pending and ratio > 1:
        filled += [0.0] * pending
    corrected = sum(filled) / len(filled) / target
    turned = (ratio < 1 < corrected) or (corrected < 1 < ratio)
    if within(corrected, tolerance_ratio) or turned:
        return current
    wanted = ceil(corrected * len(filled))
    backwards = (corrected < 1 and wanted > current) or (corrected > 1 and wanted < current)
    return current if backwards else wanted


def external_average(total: float, *, current: int, target: float, tolerance_ratio: float) -> int:
    """Return what an external metric of type AverageValue recommends: ceil(total / target), unless near enough.

    Example: total 4.6 against target 1 at 3 replicas: 4.6 / 3 is off by 53 %, so 5.
    """
    if current > 0 and within(total / (target * current), tolerance_ratio):
        return current
    return ceil(total / target)


def stabilised(current: int, wanted: int, *, up_window: Sequence[int], down_window: Sequence[int]) -> int:
    """Return a recommendation between the least of the up window and the most of the down window.

    Both windows hold past recommendations and this one. Example: at 5, 2 wanted, the down window has (2, 4): 4.
    """
    least, most = min((*up_window, wanted)), max((*down_window, wanted))
    return least if current < least else min(current, most)


def highest(current: int, rates: Sequence[tuple[defaults.Rate, int]]) -> int:
    """Return the most replicas that the up rates allow: the most generous one counts.

    Args:
        current: Replicas now.
        rates: Each rate with the net replicas added within its period.
    """
    allowed = []
    for rate, added in rates:
        began = current - added
        allowed.append(ceil(began * (1 + rate.amount / 100)) if rate.percent else began + round(rate.amount))
    return max(allowed)


def lowest(current: int, rates: Sequence[tuple[defaults.Rate, int]]) -> int:
    """Return the fewest replicas that the down rates allow; `rates` come with the net replicas added, as above."""
    allowed = []
    for rate, added in rates:
        began = current - added
        allowed.append(math.floor(began * (1 - rate.amount / 100)) if rate.percent else began - round(rate.amount))
    return max(min(allowed), 0)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`spec.behavior` of an HPA."""

    up_window_s: float = defaults.Hpa().up_window_s
    down_window_s: float = defaults.Hpa().down_window_s
    up_rates: tuple[defaults.Rate, ...] = defaults.Hpa().up_rates
    down_rates: tuple[defaults.Rate, ...] = defaults.Hpa().down_rates


class Stage:
    """What happens to a recommendation before it becomes `spec.replicas`: windows, rates, bounds; it remembers both."""

    def __init__(self, limits: Limits, behaviour: Behaviour) -> None:
        self._limits = limits
        self._behaviour = behaviour
        self._advice: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def settle(self, now_s: float, current: int, wanted: int) -> int:
        """Return the new `spec.replicas`, and remember the advice and the change."""
        b = self._behaviour
        if not self._advice:
            self._advice.append((now_s, current))  # the controller seeds its windows with what it finds
        steady = stabilised(
            current,
            wanted,
            up_window=[n for t, n in self._advice if t > now_s - b.up_window_s],
            down_window=[n for t, n in self._advice if t > now_s - b.down_window_s],
        )
        self._advice.append((now_s, wanted))
        settled = self._limits.clip(self._slowed(now_s, current, steady))
        if settled != current:
            self._changes.append((now_s, settled - current))
        self._forget(now_s)
        return settled

    def _slowed(self, now_s: float, current: int, wanted: int) -> int:
        b = self._behaviour
        if wanted > current:
            return min(
                wanted, max(highest(current, [(r, self._added(now_s, r.period_s)) for r in b.up_rates]), current)
            )
        if wanted < current:
            down = [(r, self._added(now_s, r.period_s)) for r in b.down_rates]
            return max(wanted, min(lowest(current, down), current))
        return wanted

    def _added(self, now_s: float, period_s: float) -> int:
        return sum(change for t, change in self._changes if t > now_s - period_s)

    def _forget(self, now_s: float) -> None:
        b = self._behaviour
        while self._advice and self._advice[0][0] <= now_s - max(b.up_window_s, b.down_window_s, 1.0):
            self._advice.popleft()
        longest_s = max(rate.period_s for rate in (*b.up_rates, *b.down_rates))
        while self._changes and self._changes[0][0] <= now_s - longest_s:
            self._changes.popleft()


class Metric(Protocol):
    """What an HPA is given: a recommendation before windows and rates, None while there is nothing to go by."""

    def recommend(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return the replicas that the metric asks for."""
        ...


class Hpa:
    """A metric behind the stage: what `kube-controller-manager` does every 15 s."""

    def __init__(self, metric: Metric, limits: Limits, behaviour: Behaviour | None = None) -> None:
        self._metric = metric
        self._stage = Stage(limits, behaviour or Behaviour())

    def replicas(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return the new `spec.replicas`, None where the metric is silent."""
        wanted = self._metric.recommend(now_s, seen)
        return None if wanted is None else self._stage.settle(now_s, seen.desired, wanted)
