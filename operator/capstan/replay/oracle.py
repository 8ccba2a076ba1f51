"""The best plan that anyone could have made: a search over simulated plans that knows every arrival and length.

Who calls it: `app.replay`. Must not know: the engine (it asks `Evaluate`), files.

Same world, same actions: (tp, replicas) every 60 s, the clock every 5 s, transitions free and at once. It is a search,
so what it finds is an upper bound of the true optimum; `replay.bound` is below it, and the gap between is printed.
Its order: plans that others found (so that no system which meets the SLO beats it by having been luckier), one stress
for the whole trace per choice of tp, then a stress per 5-minute window (all windows bisected at once, as requests
stay seconds and windows minutes, so that they hardly touch each other), then single replicas taken out of single
slots. Every plan is judged by the world; the fluid model only orders what to try.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from capstan.replay import score
from capstan.replay.lateness import Allowance
from capstan.replay.plans import Plan
from capstan.replay.runs import Floats, Requests
from capstan.replay.schedule import Planner, Stresses
from capstan.replay.trial import Bools, Budget, Evaluate, Spent, Tried

HOUR_RUNS = 60
HOUR_REQUESTS = 50_000
LEAST_RUNS = 12
"""World runs of a search: 60 up to an hour of 50,000 requests (0.1 s each), fewer for longer traces, never under 12:
one for each tp's first guess, five to bisect, three per window stage."""

STRESS_RANGE = (0.1, 10.0)
"""Stresses between a tenth of a limit and ten times it: the steady state's quantiles are of random arrivals, the
trace's arrivals are known, so that plans beyond 1 can hold."""

GLOBAL_ROUNDS = 5  # a factor 100 to 1.15 after five halvings of its logarithm
WINDOW_ROUNDS = 4
RESERVED_RUNS = 2 * WINDOW_ROUNDS + 2  # kept for the last round of clocks
WINDOW_SPAN = 3.0  # a window's stress is looked for up to three times the trace's


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the search: its name, world runs used so far, the best joules so far (None: none meets the SLO)."""

    stage: str
    runs: int
    energy_j: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found. `tried` is None where no plan met the SLO."""

    tried: Tried | None
    runs: int
    steps: tuple[Step, ...]

    def gap_ratio(self, bound_j: float) -> float | None:
        """Return how far the plan is above a lower bound, as a share of the plan's joules."""
        return None if self.tried is None else 1 - bound_j / self.tried.trial.energy_j


def runs_for(requests: int) -> int:
    """Return the world runs that a search of a trace may use."""
    return max(LEAST_RUNS, min(HOUR_RUNS, HOUR_RUNS * HOUR_REQUESTS // max(requests, 1)))


def search(
    evaluate: Evaluate,
    planner: Planner,
    requests: Requests,
    *,
    candidates: Iterable[Plan] = (),
    runs: int | None = None,
) -> Found:
    """Return the cheapest plan found that meets the SLO.

    Args:
        evaluate: Plays a plan with instant transitions and scores it.
        planner: Makes plans from stresses, on the true physics and the true trace.
        requests: The trace, as `evaluate` plays it.
        candidates: Plans of others: `best-static`, the realised plans of systems. They are all run, whatever `runs`
            says; a search must not lose to one that it was shown.
        runs: World runs beside the candidates; default by the trace's size.
    """
    given = tuple(dict.fromkeys(candidates))
    budget = Budget(evaluate, len(given) + (runs_for(len(requests)) if runs is None else runs))
    hunt = _Hunt(budget, planner, requests)
    try:
        hunt.play(given)
    except Spent:
        hunt.note("out of runs")
    return Found(budget.best, budget.used, tuple(hunt.steps))


class _Hunt:
    """One search in progress: the stresses that stand, and what was learned of late requests."""

    def __init__(self, budget: Budget, planner: Planner, requests: Requests) -> None:
        self.budget = budget
        self.planner = planner
        self.allowance = Allowance(requests, planner.model.slo.percentile_ratio)
        self.steps: list[Step] = []
        at = (np.arange(len(planner)) * planner.slot_s / score.WINDOW_S).astype(np.int64)
        self.window_of_slot = np.minimum(at, self.allowance.windows - 1)
        self.shifts: dict[int, int] = {}
        self.tried: set[int] = set()

    def note(self, stage: str) -> None:
        best = self.budget.best
        self.steps.append(Step(stage, self.budget.used, None if best is None else best.trial.energy_j))

    def play(self, given: tuple[Plan, ...]) -> None:
        for plan in given:
            self.budget.run(plan)
        self.note("plans of others")
        start = self._whole_trace()
        if start is None:
            return
        degrees, level = start
        stresses = Stresses.level(len(self.planner), level, level)
        for stage in ("fleets by window", "clocks by window"):
            stresses = self._by_window(stresses, degrees, clocks=stage.startswith("clocks"))
            self.note(stage)
        while self._fewer(stresses, degrees):
            self.note("single replicas")
        self._by_window(stresses, degrees, clocks=True)
        self.note("clocks again")

    # --- one stress for the whole trace --------------------------------------------------------------

    def _whole_trace(self) -> tuple[tuple[int, ...], float] | None:
        """Return the tps and the stress of the cheapest plan that meets the SLO; None where none does."""
        every = self.planner.model.degrees()
        choices = [(tp,) for tp in every] + ([every] if len(every) > 1 else [])
        found: list[tuple[float, tuple[int, ...], float]] = []
        for degrees in choices:
            found += self._one_stress(degrees)
            self.note("one stress, tp " + "/".join(map(str, degrees)))
        if not found:
            return None
        _, degrees, level = min(found)
        return degrees, level

    def _one_stress(self, degrees: tuple[int, ...]) -> list[tuple[float, tuple[int, ...], float]]:
        """Bisect one stress for the trace and return (joules, degrees, stress) of every plan that met the SLO."""
        low, high = STRESS_RANGE
        found = []
        for _ in range(GLOBAL_ROUNDS):
            middle = math.sqrt(low * high)
            plan = self.planner.plan(Stresses.level(len(self.planner), middle, middle), degrees)
            trial = self.budget.run(plan)
            if trial.slo_met:
                low = middle
                found.append((trial.energy_j, degrees, middle))
            else:
                high = middle
        return found

    # --- a stress per window ---------------------------------------------------------------------------

    def _by_window(self, stresses: Stresses, degrees: tuple[int, ...], *, clocks: bool) -> Stresses:
        """Return stresses whose windows are each as near to their allowance as bisection finds, all at once."""
        base = stresses.clock if clocks else stresses.fleet
        low = np.ones(self.allowance.windows)
        high = np.full(self.allowance.windows, WINDOW_SPAN)
        for _ in range(WINDOW_ROUNDS):
            middle = np.sqrt(low * high)
            kept = self._kept(self._with(stresses, base * middle[self.window_of_slot], clocks=clocks), degrees)
            low, high = np.where(kept, middle, low), np.where(kept, high, middle)
        for _ in range(WINDOW_ROUNDS):
            chosen = self._with(stresses, base * low[self.window_of_slot], clocks=clocks)
            trial = self.budget.run(self._plan(chosen, degrees))
            if trial.slo_met:
                return chosen
            self.allowance.learn(trial.good)
            low = np.where(self.allowance.kept(trial.good), low, np.maximum(low / WINDOW_SPAN**0.25, 1.0))
        return stresses

    def _kept(self, stresses: Stresses, degrees: tuple[int, ...]) -> Bools:
        return self.allowance.kept(self.budget.run(self._plan(stresses, degrees)).good)

    def _plan(self, stresses: Stresses, degrees: tuple[int, ...]) -> Plan:
        return self.planner.plan(stresses, degrees, self.shifts)

    @staticmethod
    def _with(stresses: Stresses, values: Floats, *, clocks: bool) -> Stresses:
        return Stresses(stresses.fleet, values) if clocks else Stresses(values, stresses.clock)

    # --- single replicas -------------------------------------------------------------------------------

    def _fewer(self, stresses: Stresses, degrees: tuple[int, ...]) -> bool:
        """Take one replica out of one slot per window and keep what holds; False when there is nothing left to try."""
        plan, before = self._plan(stresses, degrees), dict(self.shifts)
        picks = self._picks(plan)
        if not picks or self.budget.left < RESERVED_RUNS:
            return False
        standing_j = self.budget.run(plan).energy_j
        self.shifts = before | {slot: before.get(slot, 0) - 1 for slot in picks}
        kept = self.allowance.kept(self.budget.run(self._plan(stresses, degrees)).good)
        holding = [slot for slot in picks if kept[self.window_of_slot[slot]]]
        self.shifts = before | {slot: before.get(slot, 0) - 1 for slot in holding}
        trial = self.budget.run(self._plan(stresses, degrees))
        if not (trial.slo_met and trial.energy_j < standing_j):
            self.shifts, holding = before, []
        self.tried |= set(picks) - set(holding)
        return True

    def _picks(self, plan: Plan) -> list[int]:
        """Return one slot per window, of those not tried: where a replica has the least to do."""
        best: dict[int, tuple[float, int]] = {}
        for slot, fleet in enumerate(plan.fleets):
            if slot not in self.tried and fleet.replicas > max(self.planner.model.bounds.min_replicas, 1):
                share = self.planner.arrivals(slot) / fleet.gpus
                window = int(self.window_of_slot[slot])
                best[window] = min(best.get(window, (math.inf, slot)), (share, slot))
        return [slot for _, slot in best.values()]
