"""A small row for tests: BLOOM's profile, POLCA's services, servers of 6 kW, all of them busy unless said otherwise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from capstan.powercap.domains import Caps, Thresholds, Timers
from capstan.replay import believed
from capstan.replay.row import generate, physics, systems, workloads
from capstan.replay.row.physics import Server
from capstan.replay.row.play import Row
from capstan.replay.row.systems import System

PROFILES = Path(__file__).resolve().parents[2] / "policies" / "profiles"
PROFILE = next(one for one in believed.shipped(PROFILES, ()) if one.name == "bloom-a100-80gb-tp8")
SERVER = Server(
    peak_w=6000.0, gpu_share_ratio=0.5, idle_ratio=0.2, decode_ratio=0.63, prefill_ratio=1.02,
    clock_exponent_ratio=1.15, follows_ratio=0.6, supply_efficiency_ratio=0.94,
)  # fmt: skip
SERVICES = workloads.mix(0.5)
KIND = generate.Kind(PROFILE, SERVER, SERVICES, physics.tables(PROFILE, SERVICES, SERVER, 1.0), 0.5)
TOP = len(KIND.tables.clocks_mhz) - 1
POLCA = systems.named(("polca",))[0]


def row(*, count: int = 4, seconds: int = 400, budget_w: float = 20_000.0, level: float = 1.0, seed: int = 1) -> Row:
    """A row that is scored from its first second."""
    levels = np.full(seconds // 60 + 2, level)
    return Row(KIND, budget_w, count, seed, levels, end_s=seconds, score_from_s=0)


def always(mhz: float) -> System:
    """Everything at one clock from the first sample on: any draw is above its thresholds, none above its brake."""
    return dataclasses.replace(
        systems.named(("one-threshold-all",))[0],
        name=f"always-{mhz:.0f}",
        path=systems.Path(sample_s=1, lag_s=0, cap_s=0, brake_s=0),
        thresholds=Thresholds(0.002, 0.003, 1.0, 0.001),
        caps=Caps(mhz, mhz, 1410, 210),
        timers=Timers(spread_ratio=0.0),
    )
