"""Small plants: the shipped scenario's machines and physics, a few servers and a minute of them."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from capstan.api import plant
from capstan.replay.plantlab import draws, scene
from capstan.replay.plantlab.scene import Scene
from capstan.replay.plantlab.world import World

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = ROOT / "policies" / "scenarios" / "plant-hour.yaml"
PROFILES = ROOT / "policies" / "profiles"
NO_FAULTS = plant.Faults(name="nominal")


@functools.cache
def whole() -> Scene:
    """The shipped scenario."""
    return scene.read(SCENARIO, PROFILES)


def small(servers: int = 4, **boards: int) -> Scene:
    """Some servers of each rack with budgets in proportion; `boards` replaces how boards differ."""
    full = whole()
    share = 2 * servers / len(full.servers)
    half = len(full.servers) // 2
    kept = (*full.servers[:servers], *full.servers[half : half + servers])
    names = {server.name for server in kept}
    domains = tuple(
        dataclasses.replace(d, budget_w=d.budget_w * share, nodes=tuple(n for n in d.nodes if n in names))
        for d in full.domains
    )
    spec = full.spec.model_copy(update={"boards": full.spec.boards.model_copy(update=boards)})
    return dataclasses.replace(full, spec=spec, servers=kept, domains=domains)


def steady(rps: float) -> draws.Rate:
    """The same rate all along."""
    return draws.Rate(rps, rps, 1.0)


def world(of: Scene, *, rps: float, seconds: int, compile_it: bool = True, faults: plant.Faults = NO_FAULTS) -> World:
    """A plant that has not begun."""
    return World(of, faults, steady(rps), seed=1, seconds=seconds, compile_it=compile_it)
