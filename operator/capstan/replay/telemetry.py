"""What Prometheus would have said of a policy: rates, lengths, latencies and queues, late by the telemetry delay.

Who calls it: `replay.engine`. Must not know: the future, and the trace beyond what has arrived.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from capstan.model.fleet import PoolObserved, ServiceObserved
from capstan.model.policy import Policy
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample
from capstan.model.workload import Request
from capstan.replay import record
from capstan.replay.record import Outcome


@dataclass(frozen=True, slots=True)
class Gauges:
    """Queues and watts of a policy at one moment; `power_w` is the mean of the second before."""

    running: int
    waiting: int
    power_w: float


@dataclass(slots=True)
class Log:
    """Everything that one policy's engines have shown so far, in order of time."""

    policy: Policy
    arrivals_s: list[float] = field(default_factory=list)
    finished_s: list[float] = field(default_factory=list)
    finished: list[Outcome] = field(default_factory=list)
    gauges_s: list[float] = field(default_factory=list)
    gauges: list[Gauges] = field(default_factory=list)

    def arrived(self, request: Request) -> None:
        """Note an arrival."""
        self.arrivals_s.append(request.arrival_s)

    def ended(self, outcome: Outcome, finish_s: float) -> None:
        """Note a finished request; replicas finish in any order within a slice, so it is put where it belongs."""
        at = bisect.bisect_right(self.finished_s, finish_s)
        self.finished_s.insert(at, finish_s)
        self.finished.insert(at, outcome)

    def gauged(self, now_s: float, gauges: Gauges) -> None:
        """Note queues and watts."""
        self.gauges_s.append(now_s)
        self.gauges.append(gauges)

    def rate_rps(self, at_s: float, *, window_s: float) -> float:
        """Return arrivals per second over the window that ends at `at_s` (a shorter one at the run's start)."""
        return _count(self.arrivals_s, at_s, window_s) / min(window_s, at_s) if at_s > 0 else 0.0


def observed(
    log: Log, pool: PoolObserved, *, now_s: float, delay_s: float, window_s: float, capped: bool
) -> ServiceObserved:
    """Return a policy as one cycle sees it: its pool now, everything measured as of `delay_s` ago."""
    at_s = now_s - delay_s
    product, name = pool.gpu_product, log.policy.key
    if at_s <= 0:
        return ServiceObserved(name, (pool,), gpu_product=product, capped=capped)
    done = log.finished[
        bisect.bisect_right(log.finished_s, at_s - window_s) : bisect.bisect_right(log.finished_s, at_s)
    ]
    last = bisect.bisect_right(log.gauges_s, at_s) - 1
    gauges = log.gauges[last] if last >= 0 else None
    percentile = log.policy.slo.percentile_ratio
    return ServiceObserved(
        policy=name,
        pools=(pool,),
        arrival_rps=Fresh(log.rate_rps(at_s, window_s=window_s), delay_s),
        prompt_tokens=_mean([outcome.prompt_tokens for outcome in done], delay_s),
        output_tokens=_mean([outcome.output_tokens for outcome in done], delay_s),
        running=_of(None if gauges is None else float(gauges.running), delay_s),
        waiting=_of(None if gauges is None else float(gauges.waiting), delay_s),
        ttft_s=_of(record.quantile_of(map(record.ttft_s, done), percentile), delay_s),
        tpot_s=_of(record.quantile_of(map(record.tpot_s, done), percentile), delay_s),
        sample_requests=Fresh(float(len(done)), delay_s),
        power_w=_of(None if gauges is None else gauges.power_w, delay_s),
        output_tokens_per_s=Fresh(sum(o.output_tokens for o in done) / min(window_s, at_s), delay_s),
        gpu_product=product,
        capped=capped,
    )


def _count(times_s: list[float], at_s: float, window_s: float) -> int:
    return bisect.bisect_right(times_s, at_s) - bisect.bisect_right(times_s, at_s - window_s)


def _of(value: float | None, age_s: float) -> Sample[float]:
    return Missing(Reason.NO_DATA) if value is None else Fresh(value, age_s)


def _mean(values: list[int], age_s: float) -> Sample[float]:
    return _of(sum(values) / len(values) if values else None, age_s)
