"""The best plan that anyone could have made: a search over simulated plans that knows every arrival and length.

Who calls it: `app.replay`. Must not know: the engine (it asks `Evaluate`), files.

Same world, same actions: (tp, replicas) every 60 s, the clock every 5 s, transitions free and at once. It is a search,
so what it finds is an upper bound of the true optimum; `searches.bound` is below it, and the gap between is printed.
1. Plans that others found are run first, so that no system which meets the SLO beats it by having been luckier.
2. The fluid model draws plans at several stresses, tps and clocks; the world says what each cost and delayed where.
3. The best of all of them is put together slot by slot (`mixture`) and run; windows with too many late requests are
   mixed again with less allowed, those with room with more. What was run joins the table.
4. The best plan is changed a little in every window at once (`mutant`); windows that gained keep the change.
Every plan is judged by the world; models only say what to try.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from capstan.replay.runs import Floats, Requests
from capstan.replay.scores import measure
from capstan.replay.searches import mixture
from capstan.replay.searches.lateness import Allowance
from capstan.replay.searches.mutant import Mutant
from capstan.replay.searches.plans import SLOT_S, Fleet, Plan
from capstan.replay.searches.schedule import Planner
from capstan.replay.searches.trial import Budget, Evaluate, Met, Spent, Tried

MOST_RUNS, LEAST_RUNS = 160, 12
SEARCH_REQUESTS = 25_000_000
"""World runs of a search: about a minute of the kernel's time (400,000 requests/s), within these two."""

TABLE_SHARE = 0.2  # of the runs: plans at set stresses, before any mixing
AROUND_SHARE = 0.2  # of the runs: the best of those, with other sizes and clocks
MIX_SHARE = 0.2  # of the runs: mixtures, half by window, half by slot; the rest mutates

STRESSES = (0.5, 1.0, 0.25, 2.0, 4.0)
"""Shares of the limits that fleets are planned to at full clock, most useful first. The steady state's quantiles are
those of random arrivals; the trace's are known, so that stresses beyond 1 can hold, and bursts ask for less than 1."""

LEAST_STRESSES = (1.0, 1.4, 0.7, 2.0, 0.5, 3.0)
"""The same for plans of least watts, where size and clock are chosen together."""

CLOCKS = (0.75, 1.0, 0.6, 0.88, 0.5)
"""Clock caps of the table over the maximum: voltage stops falling at the knee (0.75 in the shipped profiles)."""

MORE_RATIO, LESS_RATIO = 1.25, 0.7  # what a window's allowance is multiplied by when it had room, when it was missed


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the search: its name, world runs used so far, the best joules so far (None: none meets the SLO)."""

    stage: str
    runs: int
    energy_j: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found. `tried` is None where no plan met the SLO; `met` are all that did."""

    tried: Tried | None
    runs: int
    steps: tuple[Step, ...]
    met: tuple[Met, ...] = ()

    def within(self, late_ratio: float) -> Met | None:
        """Return the cheapest plan with no more late requests than this share of those that may be; None: none has."""
        found = (one for one in self.met if one.late_ratio <= late_ratio)
        return min(found, key=lambda one: one.energy_j, default=None)

    def gap_ratio(self, bound_j: float) -> float | None:
        """Return how far the plan is above a lower bound, as a share of the plan's joules."""
        return None if self.tried is None else 1 - bound_j / self.tried.trial.energy_j


def runs_for(requests: int) -> int:
    """Return the world runs that a search of a trace may use."""
    return max(LEAST_RUNS, min(MOST_RUNS, SEARCH_REQUESTS // max(requests, 1)))


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
        planner: Draws plans, on the true physics and the true trace.
        requests: The trace, as `evaluate` plays it.
        candidates: Plans of others: `best-static`, the realised plans of systems. They are all run, whatever `runs`
            says; a search must not lose to one that it was shown.
        runs: World runs beside the candidates; default by the trace's size.
    """
    given = tuple(dict.fromkeys(candidates))
    most = runs_for(len(requests)) if runs is None else runs
    budget = Budget(evaluate, len(given) + most)
    hunt = _Hunt(budget, planner, requests, most)
    with contextlib.suppress(Spent):
        hunt.play(given)
    hunt.note("end")
    return Found(budget.best, budget.used, tuple(hunt.steps), budget.met)


class _Hunt:
    """One search in progress."""

    def __init__(self, budget: Budget, planner: Planner, requests: Requests, most: int) -> None:
        self.budget = budget
        self.planner = planner
        self.allowance = Allowance(requests, planner.model.slo.percentile_ratio)
        self.steps: list[Step] = []
        self.mutant = Mutant(planner)
        self._most = most
        at = (np.arange(len(planner)) * SLOT_S / measure.WINDOW_S).astype(np.int64)
        self._window_of_slot = np.minimum(at, self.allowance.windows - 1)

    def note(self, stage: str) -> None:
        """Write down where the search stands."""
        best = self.budget.best
        self.steps.append(Step(stage, self.budget.used, None if best is None else best.trial.energy_j))

    def play(self, given: tuple[Plan, ...]) -> None:
        """Run the stages one after the other until the runs are spent."""
        for plan in given:
            self.budget.run(plan)
        self.note("plans of others")
        self._table(self._drawn(), TABLE_SHARE)
        self.note("plans at set stresses")
        self._table(self._around(), AROUND_SHARE)
        self.note("plans around the best")
        rounds = max(round(self._most * MIX_SHARE / 2), 1)
        self._mixtures(rounds, by_window=True)
        self.note("mixtures by window")
        self._mixtures(rounds, by_window=False)
        self.note("mixtures by slot")
        self._mutations()

    # --- a table of plans --------------------------------------------------------------------------------

    def _table(self, plans: Iterator[Plan], share: float) -> None:
        """Run plans, most useful first, with a share of all runs."""
        most = self.budget.used + max(round(self._most * share), 2)
        for plan in plans:
            if self.budget.used >= most:
                return
            self.budget.run(plan)

    def _drawn(self) -> Iterator[Plan]:
        for stress in LEAST_STRESSES:
            yield self.planner.least(stress)
        degrees = self.planner.model.degrees()
        order = sorted((i + j, i, j, tp) for i in range(len(STRESSES)) for j in range(len(CLOCKS)) for tp in degrees)
        for _, i, j, tp in order:
            yield self.planner.at(STRESSES[i], (tp,), CLOCKS[j])

    def _around(self) -> Iterator[Plan]:
        """Yield the best plan with a replica more or less everywhere, at each clock of the table."""
        best = self.budget.best
        if best is None:
            return
        fleets = self._fleets(best.plan)
        order = sorted((abs(more) + j, more, j) for more in (0, -1, 1) for j in range(len(CLOCKS)))
        for _, more, j in order:
            changed = tuple(self.planner.model.resized(fleet, more) for fleet in fleets)
            clocks = tuple(self.planner.clock_mhz(fleet.tp, CLOCKS[j]) for fleet in changed)
            yield Plan(changed, clocks, SLOT_S, SLOT_S)

    # --- mixtures ----------------------------------------------------------------------------------------

    def _mixtures(self, rounds: int, *, by_window: bool) -> None:
        """Mix, run, and correct what each window is allowed by what it had."""
        share = np.ones(self.allowance.windows)
        for _ in range(rounds):
            table = mixture.rows(self.budget.tried, self.allowance, len(self.planner))
            trial = self.budget.run(mixture.mix(table, self.allowance.allowed * share, by_window=by_window))
            if not trial.slo_met:
                self.allowance.learn(trial.good)
            kept = self.allowance.kept(trial.good)
            share = np.where(kept, np.minimum(share * MORE_RATIO, 1.0), share * LESS_RATIO)

    # --- mutations ---------------------------------------------------------------------------------------

    def _mutations(self) -> None:
        """Change the best plan a little in every window at once, keep the windows that gained; until runs are spent.

        A window gained when its joules fell and its late requests stayed within its allowance.
        """
        kinds = 0
        while self.budget.best is not None:
            best = self.budget.best
            changed = self.mutant.changed(best.plan, kinds)
            kinds += 1
            trial = self.budget.run(changed)
            gained = self.allowance.kept(trial.good) & (self._window_j(Tried(changed, trial)) < self._window_j(best))
            if gained.any() and self.budget.best is best:
                by_slot = [changed if gained[window] else best.plan for window in self._window_of_slot]
                self.budget.run(mixture.joined(by_slot))

    def _window_j(self, tried: Tried) -> Floats:
        by_slot = mixture.slot_j(tried, len(self.planner))
        return np.bincount(self._window_of_slot, weights=by_slot, minlength=self.allowance.windows).astype(np.float64)

    def _fleets(self, plan: Plan) -> tuple[Fleet, ...]:
        return tuple(plan.fleet(slot * SLOT_S) for slot in range(len(self.planner)))
