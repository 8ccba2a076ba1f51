"""What a search asks the world: run this system, say whether the SLO was met, at what joules, and who was late.

Who calls it: `replay.provision`, `searches.oracle`, `searches.steady_check`; `app.replay` hands them an `Evaluate` that
runs the engine and scores the run. Must not know: how either is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capstan.replay.runs import Floats
from capstan.replay.searches.plans import Plan

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of one service. Joules are those of its assigned GPUs (DESIGN 7.1's released boundary).

    `good` says which requests kept their limits, shape `[request]` in order of arrival; `tick_j` are the joules of
    each `plans.CLOCK_S` from 0 on, shape `[tick]` (their sum is `energy_j`). `late_ratio` is how many requests were
    late over those that may be, of all or of the class where that is most.
    """

    slo_met: bool
    energy_j: float
    attainment_ratio: float
    good: Bools
    tick_j: Floats
    late_ratio: float = 0.0


Evaluate = Callable[[Plan], Trial]
"""Plays a plan in the world. `oracle` wants instant transitions; `provision` fixed fleets, where nothing moves."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A plan and what became of it."""

    plan: Plan
    trial: Trial


@dataclass(frozen=True, slots=True)
class Met:
    """A plan that met the SLO, its joules and its trial's `late_ratio`: what is kept of it when its search ends."""

    plan: Plan
    energy_j: float
    late_ratio: float


class Spent(Exception):  # noqa: N818 - a search that ran out of runs has not failed
    """The budget of runs is used up."""


class Budget:
    """Counts world runs, remembers every plan it ran, and keeps the cheapest one that met the SLO."""

    def __init__(self, evaluate: Evaluate, runs: int) -> None:
        self._evaluate = evaluate
        self._known: dict[Plan, Trial] = {}
        self.left = runs
        self.used = 0
        self.best: Tried | None = None

    @property
    def met(self) -> tuple[Met, ...]:
        """Return what met the SLO."""
        each = ((plan, trial) for plan, trial in self._known.items() if trial.slo_met)
        return tuple(Met(plan, trial.energy_j, trial.late_ratio) for plan, trial in each)

    @property
    def tried(self) -> tuple[Tried, ...]:
        """Return every plan that was run."""
        return tuple(Tried(plan, trial) for plan, trial in self._known.items())

    def run(self, plan: Plan) -> Trial:
        """Return a plan's trial; one that was run before costs nothing.

        Raises:
            Spent: No run is left.
        """
        if plan in self._known:
            return self._known[plan]
        if self.left <= 0:
            raise Spent
        self.left -= 1
        self.used += 1
        trial = self._evaluate(plan)
        self._known[plan] = trial
        if trial.slo_met and (self.best is None or trial.energy_j < self.best.trial.energy_j):
            self.best = Tried(plan, trial)
        return trial
