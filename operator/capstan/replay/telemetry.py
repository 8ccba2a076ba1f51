"""What Prometheus and the API server would have said of a service: `seen.ServiceSeen` over a world's columns.

Who calls it: `replay.engine` makes one `View` per service, notes every tick in it, and hands it to the system. Must
not know: the future, and the trace beyond what has arrived. Everything measured is `delay_s` late; the counts of pods
are not, because the API server knows them at once. Figures are made when they are asked for, and once.
"""

from __future__ import annotations

import bisect
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capstan.model.fleet import ClassDemand
from capstan.model.slo import Slo
from capstan.replay import kernel
from capstan.replay.pool import Pool
from capstan.replay.runs import Floats, Ints
from capstan.replay.scores import measure
from capstan.replay.seen import ReplicaSeen, Service

Bools = npt.NDArray[np.bool_]

LONGEST_WINDOW_S = 900.0  # KubeAI's ten minutes are the longest window of any system; half as much again


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engines at one tick, shapes `[pod]`, oldest pod first, and the requests before the pool."""

    t_s: float
    replica: Ints
    tp: Ints
    ready: Ints
    draining: Ints
    running: Ints
    waiting: Ints
    kv_usage: Floats
    kv_tokens: Ints
    unrouted: int
    lane: tuple[str, ...]


class View:
    """One service as a system sees it at `now_s`. The engine moves it on with `note`."""

    def __init__(self, service: Service, pool: Pool, *, delay_s: float) -> None:
        self._service = service
        self._pool = pool
        self._delay_s = delay_s
        self._snapshots: deque[Snapshot] = deque()
        self._ticks_s: list[float] = [0.0]
        self._finished: list[int] = [0]
        self._energy_j: list[float] = [0.0]
        self._windows: dict[float, Measured] = {}
        self._counts = (0, 0, 0)
        self._codes = service.codes if service.edges.count > 1 else None
        self._outputs: dict[int, float] = {}
        self._kv_tokens = {profile.tp: profile.kv_tokens for profile in service.profiles}

    # --- what the engine does ----------------------------------------------------------------------

    def note(self, now_s: float, *, energy_j: float, counts: tuple[int, int, int]) -> None:
        """Take note of a tick, and of every engine's queues."""
        self._windows.clear()
        self._counts = counts
        self._ticks_s.append(now_s)
        self._finished.append(self._pool.world.finished_count)
        self._energy_j.append(energy_j)
        self._snapshots.append(self._snapshot(now_s))
        while self._snapshots[0].t_s < now_s - LONGEST_WINDOW_S:
            self._snapshots.popleft()

    def _snapshot(self, now_s: float) -> Snapshot:
        slots = [pod.slot for pod in self._pool.pods]
        rows = self._pool.world.replicas[slots]
        tp = np.array([pod.tp for pod in self._pool.pods], dtype=np.int64)
        kv_tokens = np.array([self._kv_tokens.get(pod.tp, 1) for pod in self._pool.pods], dtype=np.int64)
        return Snapshot(
            t_s=now_s,
            replica=rows["serial"],
            tp=tp,
            ready=rows["state"] == kernel.READY,
            draining=np.array([pod.draining for pod in self._pool.pods], dtype=np.int64),
            running=rows["running"],
            waiting=rows["waiting"],
            kv_usage=rows["kv_tokens"] / kv_tokens,
            kv_tokens=kv_tokens,
            unrouted=self._pool.world.unrouted,
            lane=tuple(pod.lane for pod in self._pool.pods),
        )

    # --- what a system asks ------------------------------------------------------------------------

    @property
    def policy(self) -> str:
        """Key of the policy."""
        return self._service.policy.key

    @property
    def tp(self) -> int:
        """Degree that was last asked for."""
        return self._pool.want.tp

    @property
    def desired(self) -> int:
        """Replicas that were last asked for."""
        return self._pool.want.replicas

    @property
    def ready(self) -> int:
        """Replicas that are Ready and not draining, now."""
        return self._counts[0]

    @property
    def starting(self) -> int:
        """Replicas asked for that are not Ready yet, now."""
        return self._counts[1]

    @property
    def draining(self) -> int:
        """Replicas that drain, now."""
        return self._counts[2]

    @property
    def class_count(self) -> int:
        """How many classes requests are taken for."""
        return self._service.edges.count

    @property
    def at_s(self) -> float:
        """The moment that everything measured is of."""
        return self._ticks_s[-1] - self._delay_s

    def newest(self) -> Snapshot | None:
        """Return the newest snapshot that has arrived, None before the first."""
        return next((s for s in reversed(self._snapshots) if s.t_s <= self.at_s + 1e-9), None)

    @property
    def replicas(self) -> tuple[ReplicaSeen, ...]:
        """Every replica that had a pod at the newest sample, oldest first."""
        snapshot = self.newest()
        if snapshot is None:
            return ()
        columns = (
            snapshot.replica, snapshot.tp, snapshot.ready, snapshot.draining, snapshot.running, snapshot.waiting,
            snapshot.kv_usage, snapshot.kv_tokens,
        )  # fmt: skip
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return tuple(
            ReplicaSeen(r, tp, bool(up), bool(down), on, off, kv, kt) for r, tp, up, down, on, off, kv, kt in rows
        )

    @property
    def waiting_unrouted(self) -> int:
        """Requests that waited before the pool because no replica was ready."""
        snapshot = self.newest()
        return 0 if snapshot is None else snapshot.unrouted

    def window(self, span_s: float) -> Measured:
        """Return what was measured over the last `span_s` seconds."""
        found = self._windows.get(span_s)
        if found is None:
            found = self._windows[span_s] = Measured(self, span_s)
        return found

    @property
    def pools(self) -> tuple[LaneView, ...]:
        """The class pools that were asked for last."""
        names = dict.fromkeys(want.pool for want in self._pool.wants)
        return tuple(LaneView(self, self._pool, name) for name in names)

    def classes(self, span_s: float) -> tuple[ClassDemand, ...]:
        """Return the demand per class over the last `span_s` seconds; lengths of answers as of the newest that ended.

        A class of which no answer has ended yet is taken for as long as all that have.
        """
        window = self.window(span_s)
        if self._codes is None or window.span_s <= 0:
            return ()
        first, last = self._arrived(window.start_s, window.end_s)
        codes, prompts = self._codes[first:last], self._service.requests.prompt_tokens[first:last].astype(np.float64)
        count = np.bincount(codes, minlength=self._service.edges.count)
        total = np.bincount(codes, prompts, minlength=len(count))
        squares = np.bincount(codes, prompts**2, minlength=len(count))
        self._learn_outputs(window.ids)
        usual = window.output_tokens_mean or (
            sum(self._outputs.values()) / len(self._outputs) if self._outputs else None
        )
        if usual is None:
            return ()
        found = []
        for code in np.flatnonzero(count).tolist():
            mean = total[code] / count[code]
            spread = max(float(squares[code] / count[code] / mean**2 - 1), 0.0)
            output = self._outputs.get(code, usual)
            found.append(ClassDemand(code, float(count[code] / window.span_s), float(mean), output, spread))
        return tuple(found)

    def _learn_outputs(self, ids: Ints) -> None:
        """Take note of how long the answers per class were that ended lately."""
        if self._codes is None or not len(ids):
            return
        codes, outputs = self._codes[ids], self._service.requests.output_tokens[ids]
        count = np.bincount(codes)
        for code, tokens in enumerate(np.bincount(codes, outputs).tolist()):
            if count[code]:
                self._outputs[code] = tokens / int(count[code])

    # --- what a window is made of ------------------------------------------------------------------

    def arrivals(self, start_s: float, end_s: float, codes: Bools | None = None) -> int:
        """Return how many requests (of some classes) arrived in (start_s, end_s]; the first instant counts, too."""
        first, last = self._arrived(start_s, end_s)
        if codes is None or self._codes is None:
            return last - first
        return int(codes[self._codes[first:last]].sum())

    def _arrived(self, start_s: float, end_s: float) -> tuple[int, int]:
        """Return the rows of the requests that arrived in (start_s, end_s]."""
        times_s = self._service.requests.arrival_s
        first = int(np.searchsorted(times_s, start_s, "right")) if start_s > 0 else 0
        return first, int(np.searchsorted(times_s, end_s, "right"))

    def of_classes(self, ids: Ints, codes: Bools | None) -> Ints:
        """Return those of the requests that were taken for one of some classes; `codes` has a flag per class."""
        return ids if codes is None or self._codes is None else ids[codes[self._codes[ids]]]

    def done(self, start_s: float, end_s: float) -> Ints:
        """Return the ids of the requests that finished in (start_s, end_s]."""
        world = self._pool.world
        first = self._finished[max(bisect.bisect_right(self._ticks_s, start_s) - 1, 0)]
        last = self._finished[min(bisect.bisect_left(self._ticks_s, end_s), len(self._ticks_s) - 1)]
        ids = world.finished[first:last]
        times_s = world.finish_s[ids]
        return np.asarray(ids[(times_s > start_s) & (times_s <= end_s)])

    def lengths(self, ids: Ints) -> tuple[Ints, Ints]:
        """Return prompt and output tokens of requests."""
        requests = self._service.requests
        return requests.prompt_tokens[ids], requests.output_tokens[ids]

    def latencies(self, ids: Ints) -> tuple[Floats, Floats]:
        """Return TTFT of all of them, and TPOT of those with more than one output token."""
        world, requests = self._pool.world, self._service.requests
        first_s = world.first_s[ids]
        outputs = requests.output_tokens[ids]
        several = outputs > 1
        tpot_s = (world.finish_s[ids][several] - first_s[several]) / (outputs[several] - 1)
        return first_s - requests.arrival_s[ids], tpot_s

    def stress(self, ids: Ints, slo: Slo) -> Floats:
        """Return each request's larger latency over its own limit."""
        world, requests = self._pool.world, self._service.requests
        first_s, steps = world.first_s[ids], np.maximum(requests.output_tokens[ids] - 1, 1)
        edges, limits_s = [tokens for tokens, _ in slo.tiers], [*(limit_s for _, limit_s in slo.tiers), slo.ttft_s]
        own_s = np.asarray(limits_s)[np.searchsorted(edges, requests.prompt_tokens[ids], side="right")]
        ttft, tpot = (first_s - requests.arrival_s[ids]) / own_s, (world.finish_s[ids] - first_s) / steps / slo.tpot_s
        return np.asarray(np.maximum(ttft, tpot))

    def mean_w(self, start_s: float, end_s: float) -> float | None:
        """Return mean watts between the ticks at or before two moments."""
        first = max(bisect.bisect_right(self._ticks_s, start_s) - 1, 0)
        last = bisect.bisect_right(self._ticks_s, end_s) - 1
        if last <= first:
            return None
        return (self._energy_j[last] - self._energy_j[first]) / (self._ticks_s[last] - self._ticks_s[first])

    def snapshots(self, start_s: float, end_s: float) -> list[Snapshot]:
        """Return the snapshots in (start_s, end_s], oldest first."""
        found: list[Snapshot] = []
        for snapshot in reversed(self._snapshots):
            if snapshot.t_s <= start_s:
                break
            if snapshot.t_s <= end_s + 1e-9:
                found.append(snapshot)
        return found[::-1]


class LaneView:
    """`seen.PoolSeen` over a view."""

    def __init__(self, view: View, pool: Pool, name: str) -> None:
        self.pool = name
        self._view = view
        self._pool = pool

    @property
    def degrees(self) -> tuple[tuple[int, int, int, int, int], ...]:
        """(tp, asked for, ready, starting or pending, draining) of each degree."""
        wanted = {want.tp: want.replicas for want in self._pool.wants if want.pool == self.pool}
        held = {pod.tp for pod in self._pool.pods if pod.lane == self.pool}
        return tuple((tp, wanted.get(tp, 0), *self._pool.counts((self.pool, tp))) for tp in sorted({*wanted, *held}))

    def pending(self, tp: int) -> int:
        """Replicas of a degree that no node has room for."""
        return self._pool.pending((self.pool, tp))

    @property
    def queues(self) -> tuple[int, int]:
        """Requests that run and that wait in its replicas at the newest sample."""
        snapshot = self._view.newest()
        if snapshot is None:
            return 0, 0
        own = np.array([lane == self.pool for lane in snapshot.lane], dtype=bool)
        return int(snapshot.running[own].sum()), int(snapshot.waiting[own].sum())

    @property
    def energy_j(self) -> float:
        """Joules of its replicas' slots, as of now: differences mean something only while no replica comes or goes."""
        slots = [pod.slot for pod in self._pool.pods if pod.lane == self.pool]
        return float(self._pool.world.energy_j()[slots].sum())

    def window(self, span_s: float) -> Measured:
        """Return what was measured of its classes' requests."""
        own = next((want.classes for want in self._pool.wants if want.pool == self.pool), ())
        flags = np.zeros(self._view.class_count, dtype=bool)
        flags[list(own) or slice(None)] = True
        return Measured(self._view, span_s, flags)


class Measured:
    """`seen.Window` over a view; see there for what each figure is."""

    def __init__(self, view: View, span_s: float, codes: Bools | None = None) -> None:
        self._view = view
        self._codes = codes
        self.end_s = max(view.at_s, 0.0)
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
        return self._view.arrivals(self.start_s, self.end_s, self._codes) if self.span_s > 0 else 0

    @property
    def ids(self) -> Ints:
        """Requests that finished."""
        if self._done is None:
            self._done = self._view.of_classes(self._view.done(self.start_s, self.end_s), self._codes)
        return self._done

    @property
    def finished(self) -> int:
        """How many finished."""
        return len(self.ids)

    @property
    def prompt_tokens_mean(self) -> float | None:
        """Mean prompt length of those that finished."""
        return float(self._view.lengths(self.ids)[0].mean()) if len(self.ids) else None

    @property
    def output_tokens_mean(self) -> float | None:
        """Mean output length of those that finished."""
        return float(self._view.lengths(self.ids)[1].mean()) if len(self.ids) else None

    @property
    def output_tokens_per_s(self) -> float:
        """Output tokens of finished requests over the span."""
        return float(self._view.lengths(self.ids)[1].sum()) / self.span_s if self.span_s > 0 else 0.0

    @property
    def power_w(self) -> float | None:
        """Mean watts of the service's GPUs."""
        return self._view.mean_w(self.start_s, self.end_s)

    def ttft_s(self, quantile: float) -> float | None:
        """Time to first token at a quantile, nearest rank."""
        return _nearest_rank(self._pair()[0], quantile)

    def tpot_s(self, quantile: float) -> float | None:
        """Mean time per output token of a request at a quantile, nearest rank."""
        return _nearest_rank(self._pair()[1], quantile)

    def stress_ratio(self, slo: Slo) -> float | None:
        """Larger latency of a request over its own limit, at the SLO's percentile, nearest rank."""
        return _nearest_rank(self._view.stress(self.ids, slo), slo.percentile_ratio)

    def running_mean(self) -> float | None:
        """Requests running in all replicas, mean over the span."""
        found = self._view.snapshots(self.start_s, self.end_s)
        return sum(int(s.running.sum()) for s in found) / len(found) if found else None

    def waiting_mean(self) -> float | None:
        """Requests queued in all replicas and before them, mean over the span."""
        found = self._view.snapshots(self.start_s, self.end_s)
        return sum(int(s.waiting.sum()) + s.unrouted for s in found) / len(found) if found else None

    def peak_kv_usage(self) -> tuple[tuple[int, float], ...]:
        """(replica, highest KV usage) of the replicas that were ready at the end."""
        peaks: dict[int, float] = {}
        found = self._view.snapshots(self.start_s, self.end_s)
        for snapshot in found:
            for replica, usage in zip(snapshot.replica.tolist(), snapshot.kv_usage.tolist(), strict=True):
                peaks[replica] = max(peaks.get(replica, 0.0), usage)
        return tuple((replica, peaks[replica]) for replica in _ready(found))

    def peak_waiting(self) -> tuple[tuple[int, int], ...]:
        """(replica, longest queue) of the replicas that were ready at the end."""
        peaks: dict[int, int] = {}
        found = self._view.snapshots(self.start_s, self.end_s)
        for snapshot in found:
            for replica, waiting in zip(snapshot.replica.tolist(), snapshot.waiting.tolist(), strict=True):
                peaks[replica] = max(peaks.get(replica, 0), waiting)
        return tuple((replica, peaks[replica]) for replica in _ready(found))

    def _pair(self) -> tuple[Floats, Floats]:
        if self._latencies is None:
            self._latencies = self._view.latencies(self.ids)
        return self._latencies


def _ready(found: list[Snapshot]) -> list[int]:
    if not found:
        return []
    last = found[-1]
    return [int(r) for r, up, down in zip(last.replica, last.ready, last.draining, strict=True) if up and not down]


def _nearest_rank(values: Floats, quantile: float) -> float | None:
    """Return the smallest value that `quantile` of the values do not exceed; None of none."""
    if not len(values):
        return None
    rank = measure.rank(len(values), quantile)
    return float(np.partition(values, rank)[rank])
