"""`kubeai`: replicas from the mean requests in flight at KubeAI's proxy over ten minutes.

Who calls it: `registry`. Must not know: latencies.

KubeAI reloads its averages at a restart, so the average here starts with the first value seen, not with zeros, and
nothing goes down before the ten minutes are full: a controller of a running service would have them full.
"""

from __future__ import annotations

from collections import deque

from capstan.replay.autoscalers import defaults, frame, loadtest
from capstan.replay.autoscalers.hpa import ceil
from capstan.replay.seen import Service, ServiceSeen


def wanted(in_flight_mean: float, target_requests: float) -> int:
    """Return ceil(mean / target). Example: 230 in flight at 100 each: 3."""
    return ceil(in_flight_mean / target_requests)


class ModelAutoscaler:
    """One service: the moving average, and a count of verdicts that say less."""

    def __init__(self, service: Service, d: defaults.Kubeai) -> None:
        self._limits, self._d = frame.Limits.of(service), d
        self._values: deque[int] = deque(maxlen=round(d.window_s / d.period_s))
        self._target = loadtest.Target(service, defaults.LoadTest()) if d.load_tested else None
        self._lower = 0

    def replicas(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return the new count: up at once, down after enough verdicts in a row."""
        self._values.append(frame.in_flight(seen))
        target = self._d.target_requests if self._target is None else self._target.value(now_s, seen)
        asked = self._limits.clip(wanted(sum(self._values) / len(self._values), target))
        if asked >= seen.desired or len(self._values) < round(self._d.window_s / self._d.period_s):
            self._lower = 0
            return max(asked, seen.desired)
        self._lower += 1
        if self._lower < self._d.lower_verdicts:
            return None
        self._lower = 0
        return asked


def system() -> frame.Autoscaler:
    """Return `kubeai`."""
    return _of("kubeai", defaults.Kubeai())


def shipped_system() -> frame.Autoscaler:
    """Return it with the target that it has where nobody sets one."""
    return _of("kubeai-shipped", defaults.Kubeai(load_tested=False))


def _of(name: str, d: defaults.Kubeai) -> frame.Autoscaler:
    return frame.Autoscaler(name, lambda service: ModelAutoscaler(service, d), d.period_s)
