"""Small plants: the shipped scenario's machines and physics, a few servers and a minute of them."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from capstan.api import plant
from capstan.powercap.domains import Level
from capstan.replay.plantlab import draws, layout, scene
from capstan.replay.plantlab.play import Asked, Cut, Run
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


def drawn(draw_w: list[float], *, cut: Cut | None = None, faults: plant.Faults = NO_FAULTS) -> Run:
    """A run of one domain of 1,000 W that drew this, 100 ms per figure, whole seconds."""
    of = small(1)
    of = dataclasses.replace(of, domains=(dataclasses.replace(of.root, budget_w=1000.0),))
    seconds = len(draw_w) // layout.BINS
    budget_w = np.full((len(draw_w), 1), 1000.0)
    if cut is not None:
        budget_w[int(np.ceil(cut.at_s * layout.BINS)) :] *= cut.ratio
    levels = tuple((Level.NORMAL,) for _ in range(seconds))
    servers = np.zeros(2, dtype=layout.SERVER)
    asked = Asked("Statistical", faults, steady(1), seconds, 1, cut)
    return Run(
        asked, of, np.array(draw_w)[:, None], budget_w, levels, np.full(seconds, 900.0), servers, servers["head"]
    )
