"""`hpa-queue`: a plain HPA on running + waiting requests per pod.

Who calls it: `registry`, and `clocks`, whose baselines stand on it. Must not know: latencies; it is given none.
"""

from __future__ import annotations

from capstan.replay.autoscalers import defaults, frame, hpa, loadtest
from capstan.replay.seen import Service, ServiceSeen


class InFlight:
    """Metric of type Pods: running + waiting requests of each ready pod, against a load-tested target.

    A starting pod runs its container and shows no metric yet, so it is *missing* to the controller; one that no node
    has room for is *pending*.
    """

    def __init__(self, service: Service, d: defaults.Hpa, test: defaults.LoadTest) -> None:
        self._target = loadtest.Target(service, test)
        self._tolerance_ratio = d.tolerance_ratio

    def recommend(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return what the HPA's formula makes of it."""
        pods, missing = frame.ready(seen), frame.starting(seen)
        return hpa.pods_metric(
            [float(pod.running + pod.waiting) for pod in pods],
            missing=missing,
            pending=max(seen.desired - len(pods) - missing, 0),
            current=seen.desired,
            target=self._target.value(now_s, seen),
            tolerance_ratio=self._tolerance_ratio,
        )


def scaler(service: Service) -> hpa.Hpa:
    """Return the HPA of one service with nothing configured but metric and target."""
    metric = InFlight(service, defaults.Hpa(), defaults.LoadTest())
    return hpa.Hpa(metric, frame.Limits.of(service))


def system() -> frame.Autoscaler:
    """Return `hpa-queue`."""
    return frame.Autoscaler("hpa-queue", scaler, defaults.Hpa().period_s)
