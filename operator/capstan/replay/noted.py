"""What was noted of a service tick by tick: the columns of a world that everything measured is made of.

Who calls it: `replay.telemetry` notes and asks, `replay.measured` asks for what happened between two moments. Must not
know: how late a system sees it, quantiles.
"""

from __future__ import annotations

import bisect
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capstan.model.slo import Slo
from capstan.replay import kernel
from capstan.replay.pool import Pool
from capstan.replay.runs import Floats, Ints
from capstan.replay.seen import Service

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


class Notes:
    """One service over its ticks. The view moves it on with `note`."""

    def __init__(self, service: Service, pool: Pool) -> None:
        self._service = service
        self._pool = pool
        self._snapshots: deque[Snapshot] = deque()
        self._ticks_s: list[float] = [0.0]
        self._finished: list[int] = [0]
        self._energy_j: list[float] = [0.0]
        self._kv_tokens = {profile.tp: profile.kv_tokens for profile in service.profiles}
        self.codes = service.codes if service.edges.count > 1 else None

    def note(self, now_s: float, *, energy_j: float) -> None:
        """Take note of a tick, and of every engine's queues."""
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

    @property
    def last_s(self) -> float:
        """The newest tick."""
        return self._ticks_s[-1]

    def newest(self, at_s: float) -> Snapshot | None:
        """Return the newest snapshot of `at_s` or before, None before the first."""
        return next((s for s in reversed(self._snapshots) if s.t_s <= at_s + 1e-9), None)

    def arrivals(self, start_s: float, end_s: float, codes: Bools | None = None) -> int:
        """Return how many requests (of some classes) arrived in (start_s, end_s]; the first instant counts, too."""
        first, last = self.arrived(start_s, end_s)
        if codes is None or self.codes is None:
            return last - first
        return int(codes[self.codes[first:last]].sum())

    def arrived(self, start_s: float, end_s: float) -> tuple[int, int]:
        """Return the rows of the requests that arrived in (start_s, end_s]."""
        times_s = self._service.requests.arrival_s
        first = int(np.searchsorted(times_s, start_s, "right")) if start_s > 0 else 0
        return first, int(np.searchsorted(times_s, end_s, "right"))

    def of_classes(self, ids: Ints, codes: Bools | None) -> Ints:
        """Return those of the requests that were taken for one of some classes; `codes` has a flag per class."""
        return ids if codes is None or self.codes is None else ids[codes[self.codes[ids]]]

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
