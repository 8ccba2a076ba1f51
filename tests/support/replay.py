"""Builders for the replay's tests: requests, a drained engine, and runs with outcomes and ticks."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from capstan.model.reasons import Reason
from capstan.model.slo import Slo
from capstan.model.workload import Request
from capstan.replay.record import DomainTick, Outcome, PolicyTick, Run, ServiceRun, Tick
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


def outcome(
    request_id: int = 0,
    *,
    arrival_s: float = 0.0,
    ttft_s: float | None = 0.5,
    tpot_s: float | None = 0.05,
    **changes: object,
) -> Outcome:
    """A request of 500 and 11 tokens, good under `SLO` unless told otherwise; None: never got there."""
    first_s = None if ttft_s is None else arrival_s + ttft_s
    finish_s = None if first_s is None or tpot_s is None else first_s + 10 * tpot_s
    base = Outcome(CHAT, request_id, arrival_s, 500, 11, first_s, finish_s)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]  # a builder's point is the free choice


def run(
    outcomes: Sequence[Outcome] = (),
    *,
    draws: Sequence[tuple[float, float, float]] = (),
    duration_s: float | None = None,
    energy_j: float = 1000.0,
    slo: Slo = SLO,
) -> Run:
    """One policy `llm/chat`; `draws` are (t_s, draw_w, budget_w) of the domain `rack-7`."""
    ticks = tuple(Tick(t_s, (), (DomainTick("rack-7", draw_w, budget_w, "Normal"),)) for t_s, draw_w, budget_w in draws)
    end_s = duration_s if duration_s is not None else (draws[-1][0] + 1 if draws else 1.0)
    service = ServiceRun(CHAT, slo, energy_j, "test-tp4")
    return Run("capstan", "virtual time", "made up", end_s, (service,), tuple(outcomes), ticks)


def policy_tick(**changes: object) -> PolicyTick:
    """One quiet replica."""
    base = PolicyTick(CHAT, 1.0, 1, 1, 4, None, 460.0, 0, 0, Reason.NO_CHANGE_NEEDED)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]  # see outcome()
