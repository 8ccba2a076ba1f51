"""One run of the plant: a world, a site, a strategy, second by second.

Who calls it: `campaign`. Must not know: reports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from capstan.api import plant
from capstan.powercap.domains import Level
from capstan.replay.plantlab import draws, layout
from capstan.replay.plantlab.guaranteed import Guaranteed
from capstan.replay.plantlab.layout import Floats, Records
from capstan.replay.plantlab.scene import Scene
from capstan.replay.plantlab.site import Heard, Ints, Site
from capstan.replay.plantlab.statistical import Statistical
from capstan.replay.plantlab.world import World


class Controller(Protocol):
    """A strategy: it hears once a second, and orders."""

    name: str
    levels: tuple[Level, ...]

    def tick(self, heard: Heard, budgets_w: dict[str, float]) -> None:
        """Decide one second."""


class Uncapped:
    """Nobody: what the load would draw."""

    name = "Uncapped"

    def __init__(self, scene: Scene, world: World, site: Site) -> None:
        del world, site
        self.levels = tuple(Level.DISARMED for _ in scene.domains)

    def tick(self, heard: Heard, budgets_w: dict[str, float]) -> None:
        """Do nothing."""


STRATEGIES: dict[str, Callable[[Scene, World, Site], Controller]] = {
    kind.name: kind for kind in (Guaranteed, Statistical, Uncapped)
}


@dataclass(frozen=True, slots=True)
class Cut:
    """From a moment on every domain has this share of its budget."""

    at_s: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What is played: a strategy under faults, at a seed."""

    strategy: str
    faults: plant.Faults
    rate: draws.Rate
    seconds: int
    seed: int
    cut: Cut | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What was played.

    Attributes:
        draw_w: True AC watts [100 ms, domain], the root first.
        budget_w: Budgets [100 ms, domain].
        levels: Of each domain in each second, as numbers of `machine`.
        allowed_w: What the limits in force let the root draw, per second.
        servers: Their records at the end.
        first: The first request of each.
    """

    asked: Asked
    scene: Scene
    draw_w: Floats
    budget_w: Floats
    levels: tuple[tuple[Level, ...], ...]
    allowed_w: Floats
    servers: Records
    first: Ints


def play(scene: Scene, asked: Asked, *, compile_it: bool = True) -> Run:
    """Play one run."""
    world = World(scene, asked.faults, asked.rate, seed=asked.seed, seconds=asked.seconds, compile_it=compile_it)
    first = world.servers["head"].copy()
    site = Site(world, asked.faults, seed=asked.seed)
    controller = STRATEGIES[asked.strategy](scene, world, site)
    levels, allowed_w = [], []
    for _ in range(asked.seconds):
        world.advance()
        controller.tick(site.hear(), _budgets_w(scene, asked.cut, world.now_s))
        site.act()
        levels.append(controller.levels)
        allowed_w.append(world.allowed_w())
    budgets = _budgets(scene, asked)
    return Run(asked, scene, world.ac_w, budgets, tuple(levels), np.array(allowed_w), world.servers, first)


def _budgets_w(scene: Scene, cut: Cut | None, now_s: float) -> dict[str, float]:
    ratio = cut.ratio if cut is not None and now_s >= cut.at_s else 1.0
    return {domain.name: ratio * domain.budget_w for domain in scene.domains}


def _budgets(scene: Scene, asked: Asked) -> Floats:
    """Return the budgets of every 100 ms; one in which the cut lies has the old one."""
    starts_s = np.arange(asked.seconds * layout.BINS) / layout.BINS
    whole_w = np.array([domain.budget_w for domain in scene.domains])
    ratio = np.ones(len(starts_s))
    if asked.cut is not None:
        ratio[starts_s >= asked.cut.at_s] = asked.cut.ratio
    return np.asarray(ratio[:, None] * whole_w)
