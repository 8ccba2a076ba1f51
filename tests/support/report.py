"""Synthetic runs for the report's tests: four minutes, two policies, one rack whose budget is cut once."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np

from capstan.model.classes import Edges
from capstan.model.routes import TokenCost
from capstan.model.slo import Slo
from capstan.replay import classify
from capstan.replay.runs import DomainSeries, Energy, Floats, Mark, Outcomes, Routed, Run, ServiceRun, ServiceSeries
from capstan.replay.scores import compare
from capstan.replay.scores.compare import Comparison, Conditions
from support.replay import Fate, outcomes, series

CHAT, BATCH, RACK = "llm/chat", "llm/batch", "rack-7"
CUT_S = 150.0
PROFILE = "llama-3.1-70b-h100-tp4 (fit error 8.2 %, clock response assumed)"


def run(system: str = "capstan", *, seconds: int = 240, over_s: int = 0, late: int = 0, scale: float = 1.0) -> Run:
    """A run of `seconds`, above budget for `over_s` after the cut, in which `late` requests miss TTFT."""
    rng = random.Random(7)  # noqa: S311 - a test's noise, not a secret
    fates = [_fate(index, seconds, rng, late=index < late) for index in range(5 * seconds)]
    t_s = np.arange(0.0, seconds)
    share = scale * seconds / 240
    return Run(
        system=system,
        source="rig" if system in {"capstan", "fixed"} else "virtual time",
        trace="Azure 2023 conversation, 29 min shape in 4 min, requests thinned 7-fold",
        duration_s=float(seconds),
        services=(
            _service(CHAT, Slo(2.0, 0.1), [f for i, f in enumerate(fates) if i % 4], _chat(t_s), 1_150_000 * share),
            _service(BATCH, Slo(10.0, 0.2, percentile_ratio=0.95), fates[::4], _batch(t_s), 420_000 * share),
        ),
        domains=(_rack(t_s, over_s),),
        marks=(Mark(CUT_S, "budget of rack-7 cut to 9.2 kW"),),
        settings=(("start-up", "8 s instead of 120 s"), ("periods", "20 / 10 / 2 s instead of 1800 / 300 / 5 s")),
        energy_unassigned_j=75.0 * 6 * seconds,
    )


def pair() -> Comparison:
    """Capstan on trial against a baseline that draws twice as much."""
    return compare.of(compare.scored([run(), run(compare.SINGLE_POOL, scale=2.0)]))


def unserved(base: Run) -> Run:
    """The same run without a single finished request."""
    return dataclasses.replace(base, services=tuple(_without(s, _never(s.outcomes)) for s in base.services))


def _without(service: ServiceRun, lost: Outcomes) -> ServiceRun:
    return dataclasses.replace(service, outcomes=lost)


def _never(made: Outcomes) -> Outcomes:
    never = np.full(len(made.requests), np.nan)
    return dataclasses.replace(made, first_s=never, finish_s=never, max_tbt_s=never)


def _service(policy: str, slo: Slo, fates: list[Fate], columns: ServiceSeries, energy_j: float) -> ServiceRun:
    energy = Energy(0.8 * energy_j, 0.15 * energy_j, 0.05 * energy_j)
    return ServiceRun(policy, slo, (PROFILE,), outcomes(fates), columns, energy, 12, 30, 2400.0)


def _fate(index: int, seconds: int, rng: random.Random, *, late: bool) -> Fate:
    arrival_s = rng.random() * seconds
    ttft_s = 3.0 if late and index % 4 else 0.08 * math.exp(rng.gauss(0.3, 0.6))
    output = max(2, int(rng.gauss(200, 80)))
    tpot_s = min(0.022 * math.exp(rng.gauss(0, 0.25)), 0.09)
    first_s = arrival_s + ttft_s
    return Fate(arrival_s, 1024, output, first_s, first_s + tpot_s * (output - 1), 2.5 * tpot_s)


def _wave(t_s: Floats) -> Floats:
    return 1 + 0.6 * np.sin(2 * np.pi * t_s / 240)


def _chat(t_s: Floats) -> ServiceSeries:
    wave = _wave(t_s)
    replicas = np.maximum(1, np.round(2 * wave))
    return series(
        t_s,
        4200 * wave,
        arrival_rps=4 * wave,
        replicas_desired=replicas,
        replicas_ready=np.maximum(1, replicas - (t_s % 40 < 8)),
        clock_cap_mhz=1410 + 15 * (t_s % 7),
        running=30 * wave,
        waiting=3 * np.maximum(0, np.sin(t_s)),
        expected_w=4100 * wave,
    )


def _batch(t_s: Floats) -> ServiceSeries:
    cut = t_s >= CUT_S
    return series(
        t_s,
        np.where(cut, 1600, 2100),
        arrival_rps=np.full(len(t_s), 1.3),
        clock_cap_mhz=np.where(cut, 1275, np.nan),
        running=np.full(len(t_s), 9),
    )


def _rack(t_s: Floats, over_s: int) -> DomainSeries:
    cut = t_s >= CUT_S
    budget_w = np.where(cut, 9200.0, 14000.0)
    draw_w = np.where(cut & (t_s < CUT_S + over_s), 9800.0, np.minimum(5200 + 2600 * _wave(t_s), 0.93 * budget_w))
    level = np.where(~cut, "Normal", np.where(t_s < 190, "LowBase", "LowDeep"))
    return DomainSeries(RACK, t_s, draw_w, budget_w, level, np.where(cut, 1275.0, np.nan))


def told_apart() -> Run:
    """Chat's requests went to pools by a guess that takes every third for a long answer; joules can be shared out."""
    base = run()
    chat, batch = base.services
    edges, requests = Edges(), chat.outcomes.requests
    true = classify.true_codes(requests, edges)
    codes = np.where(np.arange(len(true)) % 3 == 0, true // 3 * 3 + 2, true)
    chat = dataclasses.replace(chat, routed=Routed(codes, edges), token_cost=TokenCost(1.0, 10.0))
    return dataclasses.replace(base, services=(chat, batch))


def compared(*made_runs: Run, conditions: Conditions | None = None) -> Comparison:
    return compare.of(compare.scored(made_runs), conditions or Conditions())
