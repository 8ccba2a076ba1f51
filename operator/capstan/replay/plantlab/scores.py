"""What a run of the plant is worth: joules above a budget, excursions, brakes, and what was paid for it.

Who calls it: `campaign`, `report`. Scores are true AC watts (DESIGN 7.2), of the worst domain where there are several.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan import units
from capstan.powercap.domains import Level
from capstan.replay.plantlab import layout
from capstan.replay.plantlab.layout import Floats
from capstan.replay.plantlab.play import Run
from capstan.replay.plantlab.site import Flags

BIN_S = 1.0 / layout.BINS


@dataclass(frozen=True, slots=True)
class Excess:
    """A domain against its budget.

    Attributes:
        above_j: Joules above it, of means of one second.
        above_fine_j: The same of means of 100 ms.
        longest_s: The longest time that the mean of the last second stood above it.
        peak_ratio: The highest 100 ms over the budget.
    """

    domain: str
    above_j: float
    above_fine_j: float
    longest_s: float
    peak_ratio: float


@dataclass(frozen=True, slots=True)
class Service:
    """How servers of one priority fared: `slowdown_ratio` is their work's time over that at full clock, less 1."""

    slowdown_ratio: float
    refused_ratio: float


@dataclass(frozen=True, slots=True)
class Score:
    """One run.

    Attributes:
        excesses: Per domain, the root first.
        brakes: How often any domain entered Brake.
        stranded_w: The root's budget less what the limits in force let it draw, mean over the run.
        mean_w: What the root drew.
    """

    excesses: tuple[Excess, ...]
    brakes: int
    high: Service
    low: Service
    stranded_w: float
    mean_w: float
    energy_kwh: float

    @property
    def above_j(self) -> float:
        """Joules above the budget in the worst domain, means of one second."""
        return max(excess.above_j for excess in self.excesses)

    @property
    def above_fine_j(self) -> float:
        """The same, means of 100 ms."""
        return max(excess.above_fine_j for excess in self.excesses)

    @property
    def longest_s(self) -> float:
        """The longest excursion of any domain."""
        return max(excess.longest_s for excess in self.excesses)

    @property
    def peak_ratio(self) -> float:
        """The highest 100 ms of any domain over its budget."""
        return max(excess.peak_ratio for excess in self.excesses)


def of(run: Run) -> Score:
    """Return a run's score."""
    highs = np.array(run.scene.highs)
    root_w, budget_w = run.draw_w[:, 0], run.budget_w[:, 0]
    allowed_w = np.repeat(run.allowed_w, layout.BINS)
    return Score(
        excesses=tuple(_excess(run, i) for i in range(len(run.scene.domains))),
        brakes=_brakes(run),
        high=_service(run, highs),
        low=_service(run, ~highs),
        stranded_w=float((budget_w - allowed_w).mean()),
        mean_w=float(root_w.mean()),
        energy_kwh=float(root_w.sum() * BIN_S / units.JOULES_PER_KWH),
    )


def _excess(run: Run, domain: int) -> Excess:
    draw_w, budget_w = run.draw_w[:, domain], run.budget_w[:, domain]
    whole_s = draw_w.reshape(-1, layout.BINS).mean(axis=1)
    allowed_w = budget_w.reshape(-1, layout.BINS).mean(axis=1)
    return Excess(
        domain=run.scene.domains[domain].name,
        above_j=float(np.maximum(whole_s - allowed_w, 0.0).sum()),
        above_fine_j=float(np.maximum(draw_w - budget_w, 0.0).sum() * BIN_S),
        longest_s=BIN_S * longest(trailing_w(draw_w) > budget_w),
        peak_ratio=float((draw_w / budget_w).max()),
    )


def trailing_w(draw_w: Floats) -> Floats:
    """Return the mean of the last second at every 100 ms; of less where the run has just begun."""
    total = np.concatenate(([0.0], np.cumsum(draw_w)))
    ends = np.arange(1, len(draw_w) + 1)
    starts = np.maximum(ends - layout.BINS, 0)
    return np.asarray((total[ends] - total[starts]) / (ends - starts))


def longest(flags: Flags) -> int:
    """Return the length of the longest stretch of what is true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _brakes(run: Run) -> int:
    now = np.array([[level is Level.BRAKE for level in levels] for levels in run.levels], dtype=np.int8)
    return int((np.diff(now, axis=0, prepend=0) == 1).sum())


def _service(run: Run, who: Flags) -> Service:
    servers = run.servers[who]
    asked = int((servers["tail"] - run.first[who]).sum())
    return Service(
        slowdown_ratio=float(servers["busy_s"].sum() / max(servers["ideal_s"].sum(), 1e-9) - 1),
        refused_ratio=float(servers["refused"].sum() / max(asked, 1)),
    )
