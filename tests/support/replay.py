"""Builders for the replay's tests: requests, a drained engine, and runs as columns."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from capstan.model.slo import Slo
from capstan.model.workload import Request
from capstan.replay.runs import DomainSeries, Energy, Floats, Ints, Outcomes, Requests, Run, ServiceRun, ServiceSeries
from capstan.replay.world import Emission, Engine

ROOT = Path(__file__).resolve().parents[2]
CHAT = "llm/chat"
SLO = Slo(ttft_s=2.0, tpot_s=0.1)


def poisson(count: int, *, rate_rps: float, prompt: int = 1000, output: int = 200, seed: int = 1) -> list[Request]:
    """Poisson arrivals with exponential lengths around the means."""
    chance = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    t_s, made = 0.0, []
    for i in range(count):
        t_s += chance.expovariate(rate_rps)
        lengths = (1 + int(chance.expovariate(1 / prompt)), 1 + int(chance.expovariate(1 / output)))
        made.append(Request(i, t_s, *lengths))
    return made


def served(engine: Engine, requests: Iterable[Request], *, tokens: bool = True) -> list[Emission]:
    """Submit every request at its arrival and run until the engine is empty."""
    emissions: list[Emission] = []
    for request in requests:
        emissions += engine.advance(request.arrival_s, tokens=tokens)
        engine.submit(request, request.arrival_s)
    while not engine.idle:
        emissions += engine.advance(engine.next_event_s, tokens=tokens)
    return emissions


@dataclasses.dataclass(frozen=True, slots=True)
class Fate:
    """One request by hand; NaN: never got there."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_s: float
    finish_s: float
    max_tbt_s: float


def fate(
    arrival_s: float = 0.0, *, ttft_s: float = 0.5, tpot_s: float = 0.05, prompt: int = 500, output: int = 11
) -> Fate:
    """A request of 500 and 11 tokens, good under `SLO` unless told otherwise; NaN: never got there."""
    first_s = arrival_s + ttft_s
    return Fate(arrival_s, prompt, output, first_s, first_s + max(output - 1, 0) * tpot_s, tpot_s)


def outcomes(fates: Iterable[Fate] = ()) -> Outcomes:
    """The columns of some requests, in order of arrival."""
    rows = sorted(fates, key=lambda one: one.arrival_s)
    times = {
        name: np.array([getattr(row, name) for row in rows], dtype=np.float64)
        for name in ("arrival_s", "first_s", "finish_s", "max_tbt_s")
    }
    prompts = np.array([row.prompt_tokens for row in rows], dtype=np.int64)
    answers = np.array([row.output_tokens for row in rows], dtype=np.int64)
    requests = Requests(times["arrival_s"], prompts, answers)
    return Outcomes(requests, times["first_s"], times["finish_s"], times["max_tbt_s"])


def series(t_s: npt.ArrayLike = (), gpus_w: npt.ArrayLike = 460.0, **columns: npt.ArrayLike) -> ServiceSeries:
    """One quiet replica of four GPUs, sampled at `t_s`; what is given by name replaces a quiet column."""
    times_s = np.asarray(t_s, dtype=np.float64)

    def floats(name: str, quiet: float) -> Floats:
        return np.broadcast_to(np.asarray(columns.get(name, quiet), dtype=np.float64), times_s.shape)

    def ints(name: str, quiet: int) -> Ints:
        return np.broadcast_to(np.asarray(columns.get(name, quiet), dtype=np.int64), times_s.shape)

    return ServiceSeries(
        t_s=times_s,
        arrival_rps=floats("arrival_rps", 1.0),
        replicas_desired=ints("replicas_desired", 1),
        replicas_ready=ints("replicas_ready", 1),
        replicas_starting=ints("replicas_starting", 0),
        replicas_draining=ints("replicas_draining", 0),
        gpus=ints("gpus", 4),
        tp=ints("tp", 4),
        clock_cap_mhz=floats("clock_cap_mhz", math.nan),
        gpus_w=np.broadcast_to(np.asarray(gpus_w, dtype=np.float64), times_s.shape),
        running=ints("running", 0),
        waiting=ints("waiting", 0),
        kv_usage=floats("kv_usage", 0.0),
        expected_w=floats("expected_w", math.nan),
        reason=np.full(times_s.shape, ""),
    )


def domain(draws: Sequence[tuple[float, float, float]], name: str = "rack-7") -> DomainSeries:
    """A domain's samples from (t_s, draw_w, budget_w)."""
    columns = np.array(draws, dtype=np.float64).reshape(-1, 3)
    levels = np.full(len(draws), "Normal")
    return DomainSeries(name, columns[:, 0], columns[:, 1], columns[:, 2], levels, np.full(len(draws), np.nan))


def service(
    fates: Iterable[Fate] = (), *, policy: str = CHAT, slo: Slo = SLO, energy: Energy | None = None
) -> ServiceRun:
    """One service, 1,000 J of serving unless told otherwise."""
    return ServiceRun(policy, slo, ("test-tp4",), outcomes(fates), series(), energy or Energy(1000.0, 0.0, 0.0))


def run(
    fates: Iterable[Fate] = (),
    *,
    draws: Sequence[tuple[float, float, float]] = (),
    duration_s: float | None = None,
    energy_j: float = 1000.0,
    system: str = "capstan",
    unassigned_j: float = 0.0,
) -> Run:
    """One policy `llm/chat`; `draws` are (t_s, draw_w, budget_w) of the domain `rack-7`."""
    end_s = duration_s if duration_s is not None else (draws[-1][0] + 1 if draws else 1.0)
    return Run(
        system=system,
        source="virtual time",
        trace="made up",
        duration_s=end_s,
        services=(service(fates, energy=Energy(energy_j, 0.0, 0.0)),),
        domains=(domain(draws),) if draws else (),
        energy_unassigned_j=unassigned_j,
    )
