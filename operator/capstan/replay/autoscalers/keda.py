"""`keda-slo`: llm-d's scaler on how near latencies are to their limits, behind KEDA and an HPA.

Who calls it: `registry`. Must not know: queues.
"""

from __future__ import annotations

from collections import deque

from capstan.model.slo import Slo
from capstan.replay.autoscalers import defaults, frame, hpa
from capstan.replay.seen import Service, ServiceSeen, Window


def pressure(window: Window, slo: Slo, d: defaults.KedaSlo) -> float | None:
    """Return s = min(2, max(P90 TTFT / limit, P90 TPOT / limit)), None where nothing has finished."""
    ttft_s, tpot_s = window.ttft_s(d.quantile_ratio), window.tpot_s(d.quantile_ratio)
    ratios = [v / limit for v, limit in ((ttft_s, slo.ttft_s), (tpot_s, slo.tpot_s)) if v is not None]
    return min(max(ratios), d.most_ratio) if ratios else None


def asked(current: int, s: float, d: defaults.KedaSlo) -> int:
    """Return the replicas that bring pressure `s` to the near edge of the band, `current` inside it.

    Example: 4 at 0.9: ceil(4 x 0.9 / 0.55) = ceil(6.55) = 7. 4 at 0.25: ceil(4 x 0.25 / 0.40) = ceil(2.5) = 3.
    """
    if s > d.up_ratio:
        return hpa.ceil(current * s / d.up_ratio)
    if s < d.down_ratio:
        return hpa.ceil(current * s / d.down_ratio)
    return current


def credited(current: int, wanted: int, ready_share: float) -> float:
    """Return the metric after in-flight credit: an increase counts by the share of pods that are ready.

    Example: 4 -> 7 while 3 of 4 are ready: 4 + 3 x 0.75 = 6.25, which the HPA makes 7.
    """
    return current + (wanted - current) * ready_share if wanted > current else float(wanted)


class Latency:
    """External metric of type AverageValue with target 1: its value is the wanted count."""

    def __init__(self, service: Service, d: defaults.KedaSlo, tolerance_ratio: float) -> None:
        self._slo, self._d, self._tolerance_ratio = service.policy.slo, d, tolerance_ratio
        self._samples: deque[tuple[float, float]] = deque()

    def recommend(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return what the HPA makes of the scaler's answer; None (KEDA's fallback) where nothing was measured."""
        d = self._d
        found = pressure(seen.window(d.window_s), self._slo, d)
        if found is None or seen.desired == 0:
            return None
        self._samples.append((now_s, found))
        while self._samples[0][0] <= now_s - d.smoothing_s:
            self._samples.popleft()
        s = sum(value for _, value in self._samples) / len(self._samples)
        total = credited(seen.desired, asked(seen.desired, s, d), min(len(frame.ready(seen)) / seen.desired, 1.0))
        return hpa.external_average(total, current=seen.desired, target=1.0, tolerance_ratio=self._tolerance_ratio)


def scaler(service: Service) -> hpa.Hpa:
    """Return the HPA that KEDA makes for one service."""
    d = defaults.KedaSlo()
    behaviour = hpa.Behaviour(up_rates=d.up_rates, down_rates=d.down_rates)
    return hpa.Hpa(Latency(service, d, defaults.Hpa().tolerance_ratio), frame.Limits.of(service), behaviour)


def system() -> frame.Autoscaler:
    """Return `keda-slo`."""
    return frame.Autoscaler("keda-slo", scaler, defaults.Hpa().period_s)
