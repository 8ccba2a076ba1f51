"""A row of four servers to plan for: BLOOM's profile, a day of watts that follows the day, a domain of 24 kW."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from capstan.model.profile import ClockResponse
from capstan.powercap.domains import Caps, Domain, Thresholds, Timers
from capstan.replay.plan import clocked, planned
from capstan.replay.plan.held import Declared
from capstan.replay.plan.planned import Asked, Server
from capstan.replay.plan.tape import Tape
from capstan.replay.row import systems
from capstan.replay.runs import Floats
from support import rows

BUDGET_W = 24_000.0
DOMAIN = Domain(
    "row-1", BUDGET_W, thresholds=Thresholds(0.80, 0.89, 1.0, 0.05), caps=Caps(1275, 1110, 1305, 285),
    non_gpu_typical_w=2600, non_gpu_worst_w=3000, supply_efficiency_ratio=0.94,
)  # fmt: skip
SERVER = Server(rows.PROFILE, 8, *clocked.services(0.5))
CASE = planned.Case(ClockResponse.NOMINAL, correlated=True)


def day(peak_w: float = 19_000.0, *, seconds: int = 86_400, noise_w: float = 150.0) -> Floats:
    """A sine of the day from three quarters of the peak up to it, and noise that is anew every ten seconds."""
    at = np.arange(seconds)
    wave = 0.875 + 0.125 * np.sin(2 * np.pi * at / 86_400)
    noise = np.repeat(np.random.default_rng(1).normal(0, noise_w, seconds // 10 + 1), 10)[:seconds]
    return np.asarray(peak_w * wave + noise)


def tape(watts: Floats) -> Tape:
    return Tape(watts, 1.0, len(watts), int(np.isnan(watts).sum()))


def asked(watts: Floats, **changes: Any) -> Asked:
    base = Asked(
        declared=Declared(DOMAIN, thresholds=True, caps=True),
        tape=tape(watts),
        server=SERVER,
        servers=4,
        most=6,
        low_ratio=0.5,
        path=systems.IN_BAND,
        timers=Timers(),
        responses=(ClockResponse.NOMINAL,),
        correlated_only=True,
    )
    return dataclasses.replace(base, **changes)
