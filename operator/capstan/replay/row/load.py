"""A scenario file with a `Row` as what an experiment asks for.

Who calls it: `app.replay_kinds`. Must not know: how a row is played.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from capstan import units
from capstan.api import convert_power, errors, manifests, row, v1alpha1
from capstan.model.profile import Profile
from capstan.powercap.domains import Domain
from capstan.replay import believed
from capstan.replay.options import Options
from capstan.replay.row import experiment, report, systems
from capstan.replay.row.experiment import Asked, Combination
from capstan.replay.row.physics import Server
from capstan.replay.row.systems import System

NOMINAL_PEAK_W = 1000.0  # a server's peak before the watts are scaled: any number gives the same row
MORE_POWER_RATIO = 1.05
"""With --full every world is played with GPUs that draw 5 % more than declared, too (facts/polca.md 1.5)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file and its flags."""

    spec: row.Row
    domain: str
    asked: Asked
    worlds: list[tuple[Combination, int, int]]


def read(path: Path, profiles: Path, wanted: Options) -> Loaded:
    """Read a scenario.

    Raises:
        Invalid: The file, the field and the fix.
    """
    documents = manifests.load(path)
    spec = manifests.only(documents, row.Row, path)
    domain = convert_power.power_domain(manifests.only(documents, v1alpha1.PowerDomain, path).manifest(), ())
    weeks = spec.full_weeks if wanted.full else spec.weeks
    asked = Asked(
        profile=_profile(path, spec, profiles),
        server=_server(spec, domain),
        budget_w=domain.budget_w,
        built=spec.servers,
        peak_ratio=units.ratio_of_percent(spec.peak_percent),
        load_ratio=units.ratio_of_percent(spec.load_percent),
        derived_weeks=weeks.derived,
        scored_weeks=weeks.scored,
        systems=_systems(path, spec, domain, wanted),
    )
    return Loaded(spec, domain.name, asked, list(_worlds(spec, wanted)))


def played(loaded: Loaded, told: Callable[[float], None]) -> report.Found:
    """Play everything that was asked for."""
    found = experiment.pieces(loaded.asked, loaded.worlds, told, os.cpu_count() or 1)
    return report.Found(loaded.spec.name, loaded.domain, loaded.asked, tuple(found))


def _worlds(spec: row.Row, wanted: Options) -> list[tuple[Combination, int, int]]:
    seeds = wanted.seeds or (spec.full_seeds if wanted.full else spec.seeds)
    counts = wanted.servers or tuple(round(spec.servers * (1 + more / 100)) for more in spec.more_percents)
    return [(one, seed, count) for one, seed, count in itertools.product(_combinations(spec, wanted), seeds, counts)]


def _combinations(spec: row.Row, wanted: Options) -> list[Combination]:
    shares = [units.ratio_of_percent(percent) for percent in spec.server.gpu_share_percents]
    lows = [units.ratio_of_percent(percent) for percent in spec.low_share_percents]
    scale = wanted.power_scale or 1.0
    if not wanted.full:
        return [Combination(shares[0], lows[0], scale)]
    mixes = [Combination(share, low, scale) for share, low in itertools.product(shares, lows)]
    return [*mixes, Combination(shares[0], lows[0], MORE_POWER_RATIO)]


def _systems(path: Path, spec: row.Row, domain: Domain, wanted: Options) -> tuple[System, ...]:
    """Return the systems; the paper's run with the domain's own thresholds and caps."""
    usual = (*systems.ALL, *systems.SENSITIVITY) if wanted.full else systems.ALL
    names = wanted.systems or spec.systems or tuple(system.name for system in usual)
    try:
        chosen = systems.named(names)
    except KeyError as unknown:
        known = ", ".join(system.name for system in systems.ALL)
        raise errors.Invalid(f"{path}: systems", f"{unknown} is not known; use some of {known}") from None
    return tuple(
        systems.with_law(system, system.thresholds if system.fixed else domain.thresholds, domain.caps)
        for system in chosen
    )


def _server(spec: row.Row, domain: Domain) -> Server:
    server, gpu = spec.server, spec.server.gpu
    return Server(
        peak_w=NOMINAL_PEAK_W,
        gpu_share_ratio=units.ratio_of_percent(server.gpu_share_percents[0]),
        idle_ratio=units.ratio_of_percent(gpu.idle_percent),
        decode_ratio=units.ratio_of_percent(gpu.decode_percent),
        prefill_ratio=units.ratio_of_percent(gpu.prefill_percent),
        clock_exponent_ratio=float(gpu.clock_exponent),
        follows_ratio=units.ratio_of_percent(server.follows_percent),
        supply_efficiency_ratio=domain.supply_efficiency_ratio,
    )


def _profile(path: Path, spec: row.Row, folder: Path) -> Profile:
    found = {profile.name: profile for profile in believed.shipped(folder, ())}
    if spec.profile not in found:
        raise errors.Invalid(f"{path}: profile", f"{spec.profile} is not in {folder}; name one of its ServingProfiles")
    return found[spec.profile]
