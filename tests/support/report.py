"""Synthetic runs for the report's tests: four minutes, two policies, one rack whose budget is cut once."""

from __future__ import annotations

import dataclasses
import math
import random

from capstan.model.reasons import Reason
from capstan.model.slo import Slo
from capstan.replay.record import DomainTick, Mark, Outcome, PolicyTick, Run, ServiceRun, Tick

CHAT, BATCH, RACK = "llm/chat", "llm/batch", "rack-7"
CUT_S = 150.0
PROFILE = "llama-3.1-70b-h100-tp4 (modelled; fit error 8.2 %)"


def run(system: str = "capstan", *, seconds: int = 240, over_s: int = 0, late: int = 0) -> Run:
    """A run of `seconds`, above budget for `over_s` after the cut, in which `late` requests miss TTFT."""
    rng = random.Random(7)  # noqa: S311 - a test's noise, not a secret
    outcomes = tuple(_outcome(index, seconds, rng, late=index < late) for index in range(5 * seconds))
    source = "rig" if system in {"capstan", "fixed"} else "virtual time"
    services = (
        ServiceRun(CHAT, Slo(2.0, 0.1), energy_j=1_150_000.0 * seconds / 240, profile=PROFILE),
        ServiceRun(BATCH, Slo(10.0, 0.2, percentile_ratio=0.95), energy_j=420_000.0 * seconds / 240, profile=PROFILE),
    )
    return Run(
        system=system,
        source=source,
        trace="Azure 2023 conversation, 29 min shape in 4 min, requests thinned 7-fold",
        duration_s=float(seconds),
        services=services,
        outcomes=outcomes,
        ticks=tuple(_tick(t, over_s) for t in range(0, seconds, 1)),
        marks=(Mark(CUT_S, "budget of rack-7 cut to 9.2 kW"),),
        settings=(("start-up", "8 s instead of 120 s"), ("periods", "20 / 10 / 2 s instead of 1800 / 300 / 5 s")),
        energy_unassigned_j=75.0 * 6 * seconds,
    )


def unserved(base: Run) -> Run:
    """The same run without a single finished request."""
    lost = tuple(dataclasses.replace(o, first_s=None, finish_s=None) for o in base.outcomes)
    return dataclasses.replace(base, outcomes=lost)


def _outcome(index: int, seconds: int, rng: random.Random, *, late: bool) -> Outcome:
    policy = CHAT if index % 4 else BATCH
    arrival_s = rng.random() * seconds
    ttft_s = 3.0 if late and policy == CHAT else 0.08 * math.exp(rng.gauss(0.3, 0.6))
    output = max(2, int(rng.gauss(200, 80)))
    tpot_s = min(0.022 * math.exp(rng.gauss(0, 0.25)), 0.09)
    finish_s = arrival_s + ttft_s + tpot_s * (output - 1)
    return Outcome(policy, index, arrival_s, 1024, output, arrival_s + ttft_s, finish_s)


def _tick(t: int, over_s: int) -> Tick:
    wave = 1 + 0.6 * math.sin(2 * math.pi * t / 240)
    cut = t >= CUT_S
    replicas = max(1, round(2 * wave))
    chat = PolicyTick(CHAT, 4 * wave, replicas, max(1, replicas - (t % 40 < 8)), 4, 1410 + 15 * (t % 7), 4200 * wave,
                      int(30 * wave), int(3 * max(0, math.sin(t))), Reason.LEAST_ENERGY, 4100 * wave)  # fmt: skip
    batch = PolicyTick(BATCH, 1.3, 1, 1, 4, 1275 if cut else None, 1600 if cut else 2100, 9, 0, Reason.FORECAST_PEAK)
    budget_w = 9200 if cut else 14000
    draw_w = 9800 if cut and t < CUT_S + over_s else min(5200 + 2600 * wave, 0.93 * budget_w)
    level = "LowBase" if cut and t < 190 else "LowDeep" if cut else "Normal"
    return Tick(float(t), (chat, batch), (DomainTick(RACK, draw_w, budget_w, level, 1275 if cut else None),))
