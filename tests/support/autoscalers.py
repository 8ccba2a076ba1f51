"""Builders for the autoscalers' tests: a service, and moments of it as its metrics would show them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from capstan.model.fleet import ClassDemand
from capstan.model.policy import Bounds
from capstan.model.slo import Slo
from capstan.replay.runs import Requests
from capstan.replay.seen import PoolSeen, ReplicaSeen, Seen, Service, System, Want, Window
from support import builders

SLO = Slo(ttft_s=2.0, tpot_s=0.1)


@dataclass(frozen=True, slots=True)
class FakeWindow:
    """A window that says what it is told to, at any quantile."""

    span_s: float = 60.0
    arrivals: int = 600
    finished: int = 600
    prompt_tokens_mean: float | None = 1000.0
    prompt_cv2_ratio: float | None = None
    output_tokens_mean: float | None = 200.0
    output_tokens_per_s: float = 2000.0
    power_w: float | None = None
    ttft: float | None = 0.5
    tpot: float | None = 0.03
    running: float | None = None
    waiting: float | None = None
    kv: tuple[tuple[int, float], ...] = ()
    queues: tuple[tuple[int, int], ...] = ()

    def ttft_s(self, quantile: float) -> float | None:
        return self.ttft

    def tpot_s(self, quantile: float) -> float | None:
        return self.tpot

    def stress_ratio(self, slo: Slo) -> float | None:
        del slo
        return None

    def running_mean(self) -> float | None:
        return self.running

    def waiting_mean(self) -> float | None:
        return self.waiting

    def peak_kv_usage(self) -> tuple[tuple[int, float], ...]:
        return self.kv

    def peak_waiting(self) -> tuple[tuple[int, int], ...]:
        return self.queues


@dataclass(frozen=True, slots=True)
class FakeService:
    """One service at one moment; `desired` and the peaks follow from the replicas unless given."""

    replicas: tuple[ReplicaSeen, ...]
    desired: int
    fake: FakeWindow = field(default_factory=FakeWindow)
    waiting_unrouted: int = 0
    policy: str = builders.CHAT
    tp: int = 4

    pools: tuple[PoolSeen, ...] = ()

    def classes(self, span_s: float) -> tuple[ClassDemand, ...]:
        del span_s
        return ()

    @property
    def ready(self) -> int:
        return sum(pod.ready and not pod.draining for pod in self.replicas)

    @property
    def starting(self) -> int:
        return max(self.desired - self.ready, 0)

    @property
    def draining(self) -> int:
        return sum(pod.draining for pod in self.replicas)

    def window(self, span_s: float) -> Window:
        return dataclasses.replace(self.fake, span_s=min(span_s, self.fake.span_s))


KV_TOKENS = 400_000  # what an engine of builders.profile() has room for


def pod(replica: int = 0, *, held: float = 0.0, **changes: Any) -> ReplicaSeen:
    """A ready pod that runs nothing, unless told otherwise; `held` tokens lie in its KV cache."""
    base = ReplicaSeen(replica, 4, True, False, 0, 0, held / KV_TOKENS, KV_TOKENS)
    return dataclasses.replace(base, **changes)


def seen(
    *pods: ReplicaSeen, desired: int | None = None, window: FakeWindow | None = None, unrouted: int = 0
) -> FakeService:
    """A service with these pods; the window's peaks are what the pods show now unless the window has some."""
    numbered = tuple(dataclasses.replace(p, replica=i) for i, p in enumerate(pods))
    ready = [p for p in numbered if p.ready and not p.draining]
    w = window or FakeWindow()
    if not w.kv:
        peaks = tuple((p.replica, p.kv_usage) for p in ready), tuple((p.replica, p.waiting) for p in ready)
        w = dataclasses.replace(w, kv=peaks[0], queues=peaks[1])
    staying = sum(not p.draining for p in numbered)
    return FakeService(numbered, staying if desired is None else desired, w, unrouted)


def service(replicas: int = 1, **changes: Any) -> Service:
    """A chat service on the round-numbered engine of 4 GPUs, up to 12 replicas on 48 GPUs."""
    policy = builders.policy(slo=SLO, bounds=Bounds(1, 12, tensor_parallel=(4,)))
    empty = np.zeros(0, dtype=np.int64)
    base = Service(
        policy=policy,
        profiles=(builders.profile(),),
        start=Want(policy.key, 4, replicas),
        most_gpus=48,
        requests=Requests(empty.astype(np.float64), empty, empty),
    )
    return dataclasses.replace(base, **changes)


def moment(now_s: float, of: FakeService) -> Seen:
    """Return the moment as a system sees it."""
    return Seen(now_s, (of,))


def asked(system: System, now_s: float, of: FakeService) -> int:
    """Return the replicas that stand in `spec.replicas` after a system has planned."""
    wants = system.plan(moment(now_s, of))
    return wants[0].replicas if wants else of.desired


def clock(system: System, now_s: float, of: FakeService) -> float | None:
    """Return the clock cap that a system names now; fails where it names none."""
    (want,) = system.plan(moment(now_s, of))
    return want.clock_cap_mhz
