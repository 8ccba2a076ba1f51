"""Ticks as the columns that the scorer and the report take (`replay.runs`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from capstan.replay.runs import DomainSeries, Floats, Ints, ServiceSeries
from rig.demo.ticks import PolicyTick, Tick


def of_service(ticks: Sequence[Tick], policy: str) -> ServiceSeries:
    """Return one policy's columns, of the ticks that know it."""
    pairs = [(tick.t_s, p) for tick in ticks for p in tick.policies if p.policy == policy]
    seen = [p for _, p in pairs]
    tp = _ints(p.tp for p in seen)
    return ServiceSeries(
        t_s=_floats(t_s for t_s, _ in pairs),
        arrival_rps=_floats(p.arrival_rps for p in seen),
        replicas_desired=_ints(p.replicas_desired for p in seen),
        replicas_ready=_ints(p.replicas_ready for p in seen),
        replicas_starting=_ints(p.replicas_starting for p in seen),
        replicas_draining=_ints(p.replicas_draining for p in seen),
        gpus=_ints(_pods(p) for p in seen) * tp,
        tp=tp,
        clock_cap_mhz=_floats(p.clock_cap_mhz for p in seen),
        gpus_w=_floats(p.gpus_w for p in seen),
        running=_ints(p.running for p in seen),
        waiting=_ints(p.waiting for p in seen),
        kv_usage=np.full(len(seen), np.nan),  # the demo does not look at it
        expected_w=_floats(p.expected_w for p in seen),
        reason=np.array([str(p.reason) for p in seen], dtype=np.str_),
    )


def of_domain(ticks: Sequence[Tick], domain: str) -> DomainSeries:
    """Return one domain's columns, of the ticks that know it."""
    pairs = [(tick.t_s, d) for tick in ticks for d in tick.domains if d.domain == domain]
    return DomainSeries(
        domain,
        _floats(t_s for t_s, _ in pairs),
        _floats(d.draw_w for _, d in pairs),
        _floats(d.budget_w for _, d in pairs),
        np.array([d.level for _, d in pairs], dtype=np.str_),
        _floats(d.cap_mhz for _, d in pairs),
    )


def changes(column: Floats | Ints) -> int:
    """Return how often a column takes another value; NaN is a value of its own (no cap)."""
    before, after = column[:-1], column[1:]
    return int(np.count_nonzero((before != after) & ~(np.isnan(before) & np.isnan(after))))


def gpu_seconds(series: ServiceSeries) -> float:
    """Return GPUs times seconds, each sample until the next one."""
    return float((series.gpus[:-1] * np.diff(series.t_s)).sum())


def _pods(tick: PolicyTick) -> int:
    return tick.replicas_ready + tick.replicas_starting + tick.replicas_draining


def _floats(values: Iterable[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)
