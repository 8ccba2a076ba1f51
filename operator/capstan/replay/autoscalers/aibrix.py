"""`aibrix-apa`, `aibrix-kpa`: AIBrix's PodAutoscaler on requests in flight, two algorithms and its cooldown windows.

Who calls it: `registry`. Must not know: latencies.

Fidelity: AIBrix keeps the mean over pods in its windows, and KPA divides it by the target without multiplying by the
pods, so as shipped it converges to the load of one pod whatever the count. `repaired` gives KPA the sum instead, as
Knative, its origin, has it; that is what stands in the list. The down window takes the *least* recommendation. Nothing
goes down before the stable window is full: a controller of a running service would have it full. The pods of both
formulas are the ready ones (kpa.go calls them so); with those that start they would ask for more at every tick.
"""

from __future__ import annotations

import math
from collections import deque

from capstan.replay.autoscalers import defaults, frame, loadtest
from capstan.replay.autoscalers.hpa import ceil
from capstan.replay.seen import Service, ServiceSeen


def apa(pods: int, ratio: float, d: defaults.Aibrix) -> int:
    """Return APA's count from `ratio`, the stable mean over the target.

    Example: 4 pods at 1.5: min(8, ceil(6)) = 6; at 0.3: max(floor(2), ceil(1.2)) = 2.
    """
    if ratio > 1 + d.tolerance_ratio:
        return min(ceil(d.most_up_ratio * pods), ceil(pods * ratio))
    if ratio < 1 - d.tolerance_ratio:
        return max(math.floor(pods / d.most_down_ratio), ceil(pods * ratio))
    return pods


def kpa(pods: int, stable: float, panic: float, d: defaults.Aibrix) -> int:
    """Return KPA's count from the stable and the panic window's value over the target.

    Both are per pod as shipped, and sums when repaired; the dead band is around one target as shipped, around one per
    pod when repaired. Example, repaired: 4 pods, stable 6.2: ceil = 7; panic 13 > 2 x 6.2: max(7, 13), at most 8.
    """
    stable_pods, panic_pods = (_kpa_side(pods, value, d) for value in (stable, panic))
    panicking = stable <= 0 or panic / stable > d.panic_ratio
    return max(stable_pods, panic_pods) if panicking else stable_pods


def _kpa_side(pods: int, value: float, d: defaults.Aibrix) -> int:
    ratio = value / max(pods, 1) if d.repaired else value
    if abs(ratio - 1) <= d.tolerance_ratio:
        return pods
    return min(max(ceil(value), math.floor(pods / d.most_down_ratio)), max(1, ceil(d.most_up_ratio * pods)))


class PodAutoscaler:
    """One service: the windows of the metric, an algorithm, bounds, cooldowns."""

    def __init__(self, service: Service, d: defaults.Aibrix, *, knative: bool) -> None:
        self._limits, self._d, self._knative = frame.Limits.of(service), d, knative
        self._target = loadtest.Target(service, defaults.LoadTest())
        self._full_s: float | None = None
        self._ticks: deque[tuple[float, float]] = deque()
        self._advice: deque[tuple[float, int]] = deque()

    def replicas(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return the new count; None while no pod reports."""
        pods = frame.ready(seen)
        if not pods:
            return None
        if self._full_s is None:
            self._full_s = now_s + self._d.stable_s - self._d.period_s
        load = float(sum(pod.running + pod.waiting for pod in pods))
        summed = self._knative and self._d.repaired
        self._ticks.append((now_s, (load if summed else load / len(pods)) / self._target.value(now_s, seen)))
        _drop(self._ticks, now_s - self._d.stable_s)
        stable = self._mean(now_s, self._d.stable_s)
        if self._knative:
            wanted = kpa(len(pods), stable, self._mean(now_s, self._d.panic_s), self._d)
        else:
            wanted = apa(len(pods), stable, self._d)
        if wanted == len(pods):
            wanted = seen.desired  # as many as are ready: nothing to change, also while more start
        if now_s < self._full_s:
            wanted = max(wanted, seen.desired)
        return self._cooled(now_s, self._limits.clip(wanted), seen.desired)

    def _mean(self, now_s: float, span_s: float) -> float:
        values = [value for t, value in self._ticks if t > now_s - span_s]
        return sum(values) / len(values)

    def _cooled(self, now_s: float, wanted: int, current: int) -> int:
        """Return the least advice of the window of its direction: eager to go down, where an HPA is cautious."""
        self._advice.append((now_s, wanted))
        _drop(self._advice, now_s - max(self._d.up_cooldown_s, self._d.down_cooldown_s))
        span_s = self._d.up_cooldown_s if wanted >= current else self._d.down_cooldown_s
        return min((n for t, n in self._advice if t > now_s - span_s), default=wanted)


def _drop(queue: deque[tuple[float, float]] | deque[tuple[float, int]], until_s: float) -> None:
    while queue and queue[0][0] <= until_s:
        queue.popleft()


def apa_system() -> frame.Autoscaler:
    """Return `aibrix-apa`."""
    d = defaults.Aibrix()
    return frame.Autoscaler("aibrix-apa", lambda service: PodAutoscaler(service, d, knative=False), d.period_s)


def kpa_system() -> frame.Autoscaler:
    """Return `aibrix-kpa`, repaired."""
    d = defaults.Aibrix()
    return frame.Autoscaler("aibrix-kpa", lambda service: PodAutoscaler(service, d, knative=True), d.period_s)


def kpa_faithful_system() -> frame.Autoscaler:
    """Return KPA as shipped, on the mean over pods."""
    d = defaults.Aibrix(repaired=False)
    return frame.Autoscaler("aibrix-kpa-faithful", lambda service: PodAutoscaler(service, d, knative=True), d.period_s)
