"""`wva-v1`: llm-d's saturation analyser, one step a minute, and the HPA that acts on its word.

Who calls it: `registry`; `wva_tokens` has the same two stages. Must not know: latencies, rates.

There is one variant (one tp), so "cheapest" and "dearest" are the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from capstan.replay.autoscalers import defaults, frame, hpa
from capstan.replay.seen import Service, ServiceSeen


@dataclass(frozen=True, slots=True)
class Peak:
    """Highest KV usage and longest queue of a pod within the analyser's minute."""

    kv_usage: float
    waiting: float


def step(peaks: Sequence[Peak], d: defaults.WvaV1) -> int:
    """Return +1, 0 or -1 replicas from the peaks of all pods that report.

    Example: peaks (0.75, 0) and (0.65, 1): spare KV (0.05 + 0.15) / 2 = 0.10 is enough, spare queue (5 + 4) / 2 = 4.5
    too: no step up. One pod fewer doubles both loads: 0.80 - 0.70 x 2 < 0.10: no step down.
    """
    others = [p for p in peaks if p.kv_usage < d.kv_usage and p.waiting < d.waiting]
    count = len(others)
    spare_kv = sum(d.kv_usage - p.kv_usage for p in others) / count if others else 0.0
    spare_waiting = sum(d.waiting - p.waiting for p in others) / count if others else 0.0
    if spare_kv < d.spare_kv_usage - hpa.DUST or spare_waiting < d.spare_waiting - hpa.DUST:
        return 1
    if count < 2:
        return 0
    grown = count / (count - 1)
    left_kv = d.kv_usage - (d.kv_usage - spare_kv) * grown
    left_waiting = d.waiting - (d.waiting - spare_waiting) * grown
    fits = left_kv >= d.spare_kv_usage - hpa.DUST and left_waiting >= d.spare_waiting - hpa.DUST
    return -1 if fits else 0


class Saturation:
    """The analyser of one service; it keeps its last word, and is frozen while the cluster is on the way to it."""

    def __init__(self, service: Service, d: defaults.WvaV1) -> None:
        self._limits, self._d = frame.Limits.of(service), d
        self._desired: int | None = None

    def advise(self, now_s: float, seen: ServiceSeen) -> int:
        """Return its word of this minute."""
        del now_s
        if self._desired is None:
            self._desired = seen.desired
        window = seen.window(self._d.window_s)
        kv, queues = window.peak_kv_usage(), dict(window.peak_waiting())
        reporting = len(frame.ready(seen))
        if self._desired != seen.desired or reporting != seen.desired:
            return self._desired
        peaks = [Peak(usage, float(queues.get(replica, 0))) for replica, usage in kv]
        if peaks:
            self._desired = self._limits.clip(max(seen.desired + step(peaks, self._d), 1))
        return self._desired


class Analyser(Protocol):
    """A first stage: its word on the replicas."""

    def advise(self, now_s: float, seen: ServiceSeen) -> int:
        """Return the replicas that it exports as a metric."""
        ...


class Exported:
    """The word as an external metric with target 1: renewed every minute, read by the HPA at every sync."""

    def __init__(self, analyser: Analyser, period_s: float, tolerance_ratio: float) -> None:
        self._analyser, self._timer, self._tolerance_ratio = analyser, frame.Timer(period_s), tolerance_ratio
        self._word: int | None = None

    def recommend(self, now_s: float, seen: ServiceSeen) -> int | None:
        """Return what the HPA makes of the word."""
        if self._timer.due(now_s):
            self._word = self._analyser.advise(now_s, seen)
        if self._word is None:
            return None
        return hpa.external_average(
            float(self._word), current=seen.desired, target=1.0, tolerance_ratio=self._tolerance_ratio
        )


def staged(service: Service, analyser: Analyser, period_s: float) -> hpa.Hpa:
    """Return an analyser with its HPA: default behaviour, so a 300 s down window of its own."""
    metric = Exported(analyser, period_s, defaults.WvaV1().hpa_tolerance_ratio)
    return hpa.Hpa(metric, frame.Limits.of(service))


def scaler(service: Service) -> hpa.Hpa:
    """Return both stages of one service."""
    d = defaults.WvaV1()
    return staged(service, Saturation(service, d), d.period_s)


def system() -> frame.Autoscaler:
    """Return `wva-v1`."""
    return frame.Autoscaler("wva-v1", scaler, defaults.Hpa().period_s)
