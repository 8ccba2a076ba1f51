"""A pool of engines as queues with a fixed number of places, under a system: enough to see when it scales and why.

Deliberately not the replay's world: a second, far simpler one, so that a test of an autoscaler's timing leans on
nothing but the contract of `replay.seen`. A request's start and end are known when it arrives (first come, first
served, `places` at once, every request equally long), so nothing has to be stepped.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from capstan.replay.seen import ReplicaSeen, Service, System
from support import autoscalers as fake


@dataclass(frozen=True, slots=True)
class Case:
    """Equal requests at an even rate, engines that all serve alike; `telemetry_s` is how old sights are."""

    rate_rps: float
    prompt_tokens: int
    output_tokens: int
    kv_tokens: int
    places: int
    serve_s: float
    startup_s: float
    telemetry_s: float
    until_s: float


@dataclass(slots=True)
class Queue:
    """One engine: when it is ready, when each place is free again, and (start, end) of all it was given."""

    ready_s: float
    free_s: list[float]
    spans: list[tuple[float, float]] = field(default_factory=list)

    def give(self, now_s: float, serve_s: float) -> None:
        """Take a request."""
        start_s = max(heapq.heappop(self.free_s), now_s)
        heapq.heappush(self.free_s, start_s + serve_s)
        self.spans.append((start_s, start_s + serve_s))

    def load(self, at_s: float) -> tuple[int, int]:
        """Return (running, waiting)."""
        inside = [start_s for start_s, end_s in self.spans if end_s > at_s]
        waiting = sum(start_s > at_s for start_s in inside)
        return len(inside) - waiting, waiting


def played(system: System, service: Service, case: Case) -> list[tuple[float, int, int]]:
    """Return (time, from, to) of every change that a system asks for; replicas are only ever added here."""
    system.start(service)
    pool = [Queue(0.0, [0.0] * case.places)]
    changes: list[tuple[float, int, int]] = []
    arrived, now_s = 0, 0.0
    sights: list[tuple[float, tuple[ReplicaSeen, ...], int]] = [(0.0, _shown(pool, case, 0.0), 0)]
    while now_s < case.until_s:
        now_s += system.period_s
        while arrived / case.rate_rps < now_s:
            at_s = arrived / case.rate_rps
            ready = [queue for queue in pool if queue.ready_s <= at_s]
            min(ready, key=lambda queue: min(queue.free_s)).give(at_s, case.serve_s)
            arrived += 1
        sights.append((now_s, _shown(pool, case, now_s), arrived))
        _, pods, seen = next(sight for sight in reversed(sights) if sight[0] <= max(now_s - case.telemetry_s, 0.0))
        window = fake.FakeWindow(
            arrivals=seen,
            span_s=max(now_s - case.telemetry_s, 0.0),
            prompt_tokens_mean=case.prompt_tokens if seen / case.rate_rps > case.serve_s else None,
            output_tokens_mean=case.output_tokens if seen / case.rate_rps > case.serve_s else None,
        )
        wanted = fake.asked(system, now_s, fake.seen(*pods, desired=len(pool), window=window))
        if wanted != len(pool):
            changes.append((now_s, len(pool), wanted))
        pool += [Queue(now_s + case.startup_s, [now_s] * case.places) for _ in range(wanted - len(pool))]
    return changes


def _shown(pool: list[Queue], case: Case, at_s: float) -> tuple[ReplicaSeen, ...]:
    held = case.prompt_tokens + case.output_tokens // 2
    shown = []
    for i, queue in enumerate(pool):
        running, waiting = queue.load(at_s)
        usage = running * held / case.kv_tokens
        ready = queue.ready_s <= at_s
        shown.append(
            fake.pod(i, ready=ready, running=running, waiting=waiting, kv_usage=usage, kv_tokens=case.kv_tokens)
        )
    return tuple(shown)
