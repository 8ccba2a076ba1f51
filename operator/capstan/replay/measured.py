"""What was measured of a service in a window: `seen.Window` over what was noted of it.

Who calls it: `replay.telemetry`. Must not know: the world, what is now. Figures are made when they are asked for, and
once.
"""

from __future__ import annotations

from capstan.model.slo import Slo
from capstan.replay.noted import Bools, Notes, Snapshot
from capstan.replay.runs import Floats, Ints, cv2_ratio
from capstan.replay.scores import measure


class Measured:
    """`seen.Window` over notes; see there for what each figure is."""

    def __init__(self, notes: Notes, at_s: float, span_s: float, codes: Bools | None = None) -> None:
        self._notes = notes
        self._codes = codes
        self.end_s = max(at_s, 0.0)
        self.start_s = max(self.end_s - span_s, 0.0)
        self._done: Ints | None = None
        self._latencies: tuple[Floats, Floats] | None = None

    @property
    def span_s(self) -> float:
        """Seconds that the window really covers."""
        return self.end_s - self.start_s

    @property
    def arrivals(self) -> int:
        """Requests that arrived."""
        return self._notes.arrivals(self.start_s, self.end_s, self._codes) if self.span_s > 0 else 0

    @property
    def ids(self) -> Ints:
        """Requests that finished."""
        if self._done is None:
            self._done = self._notes.of_classes(self._notes.done(self.start_s, self.end_s), self._codes)
        return self._done

    @property
    def finished(self) -> int:
        """How many finished."""
        return len(self.ids)

    @property
    def prompt_tokens_mean(self) -> float | None:
        """Mean prompt length of those that finished."""
        return float(self._notes.lengths(self.ids)[0].mean()) if len(self.ids) else None

    @property
    def prompt_cv2_ratio(self) -> float | None:
        """Squared coefficient of variation of the prompt lengths of those that finished."""
        if not len(self.ids):
            return None
        return cv2_ratio(self._notes.lengths(self.ids)[0])

    @property
    def output_tokens_mean(self) -> float | None:
        """Mean output length of those that finished."""
        return float(self._notes.lengths(self.ids)[1].mean()) if len(self.ids) else None

    @property
    def output_tokens_per_s(self) -> float:
        """Output tokens of finished requests over the span."""
        return float(self._notes.lengths(self.ids)[1].sum()) / self.span_s if self.span_s > 0 else 0.0

    @property
    def power_w(self) -> float | None:
        """Mean watts of the service's GPUs."""
        return self._notes.mean_w(self.start_s, self.end_s)

    def ttft_s(self, quantile: float) -> float | None:
        """Time to first token at a quantile, nearest rank."""
        return measure.nearest_rank(self._pair()[0], quantile)

    def tpot_s(self, quantile: float) -> float | None:
        """Mean time per output token of a request at a quantile, nearest rank."""
        return measure.nearest_rank(self._pair()[1], quantile)

    def stress_ratio(self, slo: Slo) -> float | None:
        """Larger latency of a request over its own limit, at the SLO's percentile, nearest rank."""
        return measure.nearest_rank(self._notes.stress(self.ids, slo), slo.percentile_ratio)

    def running_mean(self) -> float | None:
        """Requests running in all replicas, mean over the span."""
        found = self._notes.snapshots(self.start_s, self.end_s)
        return sum(int(s.running.sum()) for s in found) / len(found) if found else None

    def waiting_mean(self) -> float | None:
        """Requests queued in all replicas and before them, mean over the span."""
        found = self._notes.snapshots(self.start_s, self.end_s)
        return sum(int(s.waiting.sum()) + s.unrouted for s in found) / len(found) if found else None

    def peak_kv_usage(self) -> tuple[tuple[int, float], ...]:
        """(replica, highest KV usage) of the replicas that were ready at the end."""
        peaks: dict[int, float] = {}
        found = self._notes.snapshots(self.start_s, self.end_s)
        for snapshot in found:
            for replica, usage in zip(snapshot.replica.tolist(), snapshot.kv_usage.tolist(), strict=True):
                peaks[replica] = max(peaks.get(replica, 0.0), usage)
        return tuple((replica, peaks[replica]) for replica in _ready(found))

    def peak_waiting(self) -> tuple[tuple[int, int], ...]:
        """(replica, longest queue) of the replicas that were ready at the end."""
        peaks: dict[int, int] = {}
        found = self._notes.snapshots(self.start_s, self.end_s)
        for snapshot in found:
            for replica, waiting in zip(snapshot.replica.tolist(), snapshot.waiting.tolist(), strict=True):
                peaks[replica] = max(peaks.get(replica, 0), waiting)
        return tuple((replica, peaks[replica]) for replica in _ready(found))

    def _pair(self) -> tuple[Floats, Floats]:
        if self._latencies is None:
            self._latencies = self._notes.latencies(self.ids)
        return self._latencies


def _ready(found: list[Snapshot]) -> list[int]:
    if not found:
        return []
    last = found[-1]
    return [int(r) for r, up, down in zip(last.replica, last.ready, last.draining, strict=True) if up and not down]
