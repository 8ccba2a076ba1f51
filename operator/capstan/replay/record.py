"""What the step-by-step engine keeps while it runs, object by object, and how that becomes columns (`replay.runs`).

Who calls it: `replay.engine`, `replay.telemetry`. It goes when the engine fills columns itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.model.slo import Slo
from capstan.replay import runs, words
from capstan.replay.runs import Floats, Ints


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request's fate. `first_s` and `finish_s` are None for a request that was rejected or never finished."""

    policy: str
    request_id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_s: float | None
    finish_s: float | None


@dataclass(frozen=True, slots=True)
class PolicyTick:
    """One policy at one moment. `gpus_w` sums its GPUs; `clock_cap_mhz` None means no cap."""

    policy: str
    arrival_rps: float
    replicas_desired: int
    replicas_ready: int
    tp: int
    clock_cap_mhz: float | None
    gpus_w: float
    running: int
    waiting: int
    reason: Reason
    expected_w: float | None = None


@dataclass(frozen=True, slots=True)
class DomainTick:
    """One power domain at one moment: `draw_w` is the true AC draw, `cap_mhz` the cap of low-priority GPUs."""

    domain: str
    draw_w: float
    budget_w: float
    level: str
    cap_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Everything at one moment, `t_s` seconds after the run began."""

    t_s: float
    policies: tuple[PolicyTick, ...]
    domains: tuple[DomainTick, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceRun:
    """One policy of a run: its limits and its joules.

    `energy_j` counts assigned GPUs (serving, loaded idle, starting, draining).
    """

    policy: str
    slo: Slo
    energy_j: float
    profile: str


@dataclass(frozen=True, slots=True)
class Run:
    """One system over one trace.

    Attributes:
        system: `capstan`, `fixed`, `single-pool` ...
        source: `rig` or `virtual time`.
        trace: Where the requests came from, in words.
        settings: What was shortened or chosen, as (name, value) pairs for people.
        energy_unassigned_j: GPUs without a pod, at their unloaded idle watts.
    """

    system: str
    source: str
    trace: str
    duration_s: float
    services: tuple[ServiceRun, ...]
    outcomes: tuple[Outcome, ...]
    ticks: tuple[Tick, ...]
    marks: tuple[runs.Mark, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    energy_unassigned_j: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


def ttft_s(outcome: Outcome) -> float | None:
    """Return the time to first token; None where there was none."""
    return None if outcome.first_s is None else outcome.first_s - outcome.arrival_s


def tpot_s(outcome: Outcome) -> float | None:
    """Return (finish - first) / (output - 1); None for one output token or no finish."""
    if outcome.first_s is None or outcome.finish_s is None or outcome.output_tokens <= 1:
        return None
    return (outcome.finish_s - outcome.first_s) / (outcome.output_tokens - 1)


def quantile_of(values: Iterable[float | None], ratio: float) -> float | None:
    """Return the nearest-rank quantile of the values that are there: the smallest that `ratio` do not exceed."""
    ranked = sorted(value for value in values if value is not None)
    return ranked[max(math.ceil(ratio * len(ranked) - 1e-9), 1) - 1] if ranked else None


def from_record(run: Run, profiles: Sequence[Profile]) -> runs.Run:
    """Return a run as columns; all of a pool's joules stand under serving, since its meter does not part them."""
    services = []
    for service, profile in zip(run.services, profiles, strict=True):
        outcomes = sorted((o for o in run.outcomes if o.policy == service.policy), key=lambda o: o.arrival_s)
        pairs = [(tick.t_s, p) for tick in run.ticks for p in tick.policies if p.policy == service.policy]
        series = _service_series([t for t, _ in pairs], [p for _, p in pairs])
        services.append(
            runs.ServiceRun(
                policy=service.policy,
                slo=service.slo,
                profiles=(words.profile(profile),),
                outcomes=_outcomes(outcomes),
                series=series,
                energy=runs.Energy(service.energy_j, 0.0, 0.0),
                reconfigurations=int(np.count_nonzero(np.diff(series.replicas_desired))),
                clock_changes=int(np.count_nonzero(np.diff(np.nan_to_num(series.clock_cap_mhz)))),
                gpu_seconds=float(series.gpus.sum()),
            )
        )
    return runs.Run(
        system=run.system,
        source=run.source,
        trace=run.trace,
        duration_s=run.duration_s,
        services=tuple(services),
        domains=tuple(_domain_series(run, name) for name in sorted({d.domain for t in run.ticks for d in t.domains})),
        marks=run.marks,
        settings=run.settings,
        energy_unassigned_j=run.energy_unassigned_j,
        figures=run.figures,
    )


def _outcomes(outcomes: Sequence[Outcome]) -> runs.Outcomes:
    return runs.Outcomes(
        runs.Requests(
            _floats(o.arrival_s for o in outcomes),
            _ints(o.prompt_tokens for o in outcomes),
            _ints(o.output_tokens for o in outcomes),
        ),
        first_s=_floats(o.first_s for o in outcomes),
        finish_s=_floats(o.finish_s for o in outcomes),
        max_tbt_s=np.full(len(outcomes), np.nan),
    )


def _service_series(times_s: Sequence[float], ticks: Sequence[PolicyTick]) -> runs.ServiceSeries:
    ready = _ints(t.replicas_ready for t in ticks)
    tp = _ints(t.tp for t in ticks)
    none = np.zeros(len(ticks), dtype=np.int64)
    return runs.ServiceSeries(
        t_s=_floats(times_s),
        arrival_rps=_floats(t.arrival_rps for t in ticks),
        replicas_desired=_ints(t.replicas_desired for t in ticks),
        replicas_ready=ready,
        replicas_starting=none,
        replicas_draining=none,
        gpus=ready * tp,
        tp=tp,
        clock_cap_mhz=_floats(t.clock_cap_mhz for t in ticks),
        gpus_w=_floats(t.gpus_w for t in ticks),
        running=_ints(t.running for t in ticks),
        waiting=_ints(t.waiting for t in ticks),
        kv_usage=np.full(len(ticks), np.nan),
        expected_w=_floats(t.expected_w for t in ticks),
        reason=np.array([str(t.reason) for t in ticks], dtype=np.str_),
    )


def _domain_series(run: Run, name: str) -> runs.DomainSeries:
    pairs = [(tick.t_s, d) for tick in run.ticks for d in tick.domains if d.domain == name]
    return runs.DomainSeries(
        name,
        _floats(t for t, _ in pairs),
        _floats(d.draw_w for _, d in pairs),
        _floats(d.budget_w for _, d in pairs),
        np.array([d.level for _, d in pairs], dtype=np.str_),
        _floats(d.cap_mhz for _, d in pairs),
    )


def _floats(values: Iterable[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)
