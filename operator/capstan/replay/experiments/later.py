"""The later part of a run: what arrived from a moment on, and the joules drawn from then on.

Who calls it: `lab`, where an experiment leaves the first half-hour out. Must not know: why.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from capstan.replay.runs import Energy, Outcomes, Requests, Routed, Run, ServiceRun, ServiceSeries


def rest(run: Run, from_s: float) -> Run:
    """Return the part of a run from a moment on; times stay those of the whole.

    The samples say when watts were drawn but not what for, so each kind of joules, and the GPU-seconds, are shared out
    by the samples' watts and GPUs. Counts of changes stay those of the whole run.

    Raises:
        ValueError: Nothing of the run is left.
    """
    if from_s <= 0:
        return run
    if from_s >= run.duration_s:
        raise ValueError(f"a run of {run.duration_s:g} s has nothing left after {from_s:g} s")
    return dataclasses.replace(
        run,
        services=tuple(_service(service, from_s) for service in run.services),
        shocks_s=tuple(t_s for t_s in run.shocks_s if t_s >= from_s),
        energy_unassigned_j=run.energy_unassigned_j * (1 - from_s / run.duration_s),
    )


def _service(service: ServiceRun, from_s: float) -> ServiceRun:
    outcomes, energy = service.outcomes, service.energy
    requests = outcomes.requests
    rows = slice(int(np.searchsorted(requests.arrival_s, from_s)), None)
    watts_ratio = _share(service.series, service.series.gpus_w, from_s)
    routed = service.routed
    return dataclasses.replace(
        service,
        outcomes=Outcomes(
            Requests(requests.arrival_s[rows], requests.prompt_tokens[rows], requests.output_tokens[rows]),
            outcomes.first_s[rows],
            outcomes.finish_s[rows],
            outcomes.max_tbt_s[rows],
        ),
        energy=Energy(
            energy.serving_j * watts_ratio, energy.idle_j * watts_ratio, energy.transition_j * watts_ratio
        ),
        gpu_seconds=service.gpu_seconds * _share(service.series, service.series.gpus.astype(np.float64), from_s),
        routed=None if routed is None else Routed(routed.codes[rows], routed.edges),
    )  # fmt: skip


def _share(series: ServiceSeries, values: np.ndarray[tuple[int], np.dtype[np.float64]], from_s: float) -> float:
    """Return which share of a column's integral over time lies after a moment; a sample holds since the one before."""
    spans_s = np.diff(series.t_s, prepend=0.0)
    after_s = np.clip(series.t_s - from_s, 0.0, spans_s)
    whole = float((values * spans_s).sum())
    return float((values * after_s).sum()) / whole if whole > 0 else 0.0
