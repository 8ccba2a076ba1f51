"""Fixed fleets chosen with hindsight: the smallest that meets the SLO, and the cheapest of all.

Who calls it: `replay.stage` for `single-pool`, `best-static` and `static-pools`. Must not know: the engine (it
asks `Evaluate`), files. The fluid model guesses where to begin; whether a fleet meets the SLO is the world's word.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from capstan.replay.runs import Requests
from capstan.replay.searches import fluid
from capstan.replay.searches.plans import SLOT_S, Fleet, Plan
from capstan.replay.searches.trial import Budget, Evaluate, Spent, Tried

STATIC_RUNS = 150
STATIC_REQUESTS = 50_000
LEAST_STATIC_RUNS = 30
"""World runs of a search: 150 up to an hour of 50,000 requests (0.1 s each), fewer for longer traces. The ladders of
two degrees take about 60, the scan around the winner the rest."""

FINE_MHZ = 30.0
"""Step of that scan, two of H100's clock steps: joules of neighbours differ by less than 0.5 %."""

GUESS_STRESS_RATIO = 1.0  # the first fleet that is run is the one whose busiest minute is at its limits
MOST_MISSES = 3  # in a row: lateness is noisy by about one rung of clock in runs of ten minutes

RUNG = 0.05
LADDER = tuple(1 - RUNG * i for i in range(11))
"""Shares of the maximum clock, 99 MHz apart on H100, down to half: there a step's watts fall slower than its time
grows (idle and static watts), so that joules per token rise again or stand still."""


@dataclass(frozen=True, slots=True)
class Sized:
    """A fixed fleet and its trial. `met` False: even the largest fleet misses the SLO, and this is that one."""

    tried: Tried
    met: bool
    runs: int


def runs_for(requests: int) -> int:
    """Return the world runs that a search of a trace may use."""
    return max(LEAST_STATIC_RUNS, min(STATIC_RUNS, STATIC_RUNS * STATIC_REQUESTS // max(requests, 1)))


def single_pool(evaluate: Evaluate, model: fluid.Model, requests: Requests, *, runs: int = STATIC_RUNS) -> Sized:
    """Return the smallest fixed fleet of the largest tp that meets the SLO at full clock (DESIGN 7.1).

    More replicas never hurt, so it is bisected; the last two counts, one that misses and one that meets, were run.

    Raises:
        ValueError: No tp of the bounds fits the fleet.
    """
    budget = Budget(evaluate, runs)
    tp = max((tp for tp in model.degrees() if model.most(tp) >= 1), default=None)
    if tp is None:
        raise ValueError("no tensor-parallel degree of the bounds fits the fleet; add GPUs or a smaller degree")
    count = smallest(budget, tp, None, guess=_guess(model, requests, tp), most=model.most(tp), least=_least(model))
    plan = Plan.fixed(tp, model.most(tp) if count is None else count)
    return Sized(Tried(plan, budget.run(plan)), count is not None, budget.used)


def _least(model: fluid.Model) -> int:
    return max(model.bounds.min_replicas, 1)


def _guess(model: fluid.Model, requests: Requests, tp: int) -> int:
    """Return the replicas that the busiest minute asks for in steady state."""
    loads = fluid.loads(requests, SLOT_S)
    sizes = (model.smallest(tp, loads.workload(slot), GUESS_STRESS_RATIO).replicas for slot in range(len(loads)))
    return max(sizes, default=1)


def smallest(
    budget: Budget, tp: int, clock_cap_mhz: float | None, *, guess: int, most: int, least: int = 1
) -> int | None:
    """Return the fewest replicas that meet the SLO at a clock; None where `most` do not. Gallops from a guess."""

    def meets(count: int) -> bool:
        return budget.run(Plan.fixed(tp, count, clock_cap_mhz)).slo_met

    low, high = least - 1, min(max(guess, least), most)  # low misses (or is below the bounds), high is asked
    step = 1
    while not meets(high):
        if high == most:
            return None
        low, high, step = high, min(high + step, most), 2 * step
    step = 1
    while high - low > 1:
        middle = max(high - step, low + 1) if step else (low + high) // 2
        if meets(middle):
            high, step = middle, 2 * step
        else:
            low, step = middle, 0
    return high


def best_static(evaluate: Evaluate, model: fluid.Model, requests: Requests, *, runs: int | None = None) -> Tried | None:
    """Return the cheapest (tp, replicas, clock) that never moves and meets the SLO; None where none does.

    For each tp the smallest fleet at full clock, then with 0, 1, 2 ... replicas more the lowest clock that still
    meets the SLO, as long as one more replica pays; then finely around the winner. Joules are those of the released
    boundary.
    """
    budget = Budget(evaluate, runs_for(len(requests)) if runs is None else runs)
    with contextlib.suppress(Spent):
        for tp in sorted(model.degrees(), key=lambda tp: _first_guess_w(model, requests, tp)):
            _best_of(budget, model, tp, _guess(model, requests, tp))
        _finely(budget, model)
    return budget.best


def _finely(budget: Budget, model: fluid.Model) -> None:
    """Run every fine clock within a rung and a half of the winner's, with its count and one more or less."""
    if budget.best is None:
        return
    plan = budget.best.plan
    fleet, clocks = plan.fleets[0], model.profile(plan.fleets[0].tp).clocks
    middle_mhz = plan.clocks_mhz[0] or clocks.max_mhz
    reach = int(1.5 * RUNG * clocks.max_mhz / FINE_MHZ)
    near = sorted(range(-reach, reach + 1), key=abs)
    counts = (n for n in (fleet.replicas, fleet.replicas - 1, fleet.replicas + 1) if n >= _least(model))
    for count in (n for n in counts if n <= model.most(fleet.tp)):
        for step in near:
            ratio = (middle_mhz + step * FINE_MHZ) / clocks.max_mhz
            budget.run(Plan.fixed(fleet.tp, count, _capped_mhz(model, fleet.tp, ratio)))


def _first_guess_w(model: fluid.Model, requests: Requests, tp: int) -> float:
    """Return the watts of a tp's first guess at the mean load: degrees that look cheap are searched first."""
    loads = fluid.loads(requests, max(float(requests.arrival_s[-1]), SLOT_S))
    fleet = Fleet(tp, max(_guess(model, requests, tp), 1))
    return model.option(fleet, loads.workload(0), model.profile(tp).clocks.max_mhz).watts


def _best_of(budget: Budget, model: fluid.Model, tp: int, guess: int) -> None:
    """Search one tp; the budget keeps the best."""
    most = model.most(tp)
    count = smallest(budget, tp, None, guess=guess, most=most, least=_least(model)) if most else None
    own_j = float("inf")
    while count is not None and count <= most:
        if budget.best is not None and _least_j(budget, model, tp, count) >= budget.best.trial.energy_j:
            return  # even far below any clock that meets the SLO this fleet costs more
        found_j = _down_the_clocks(budget, model, tp, count)
        if found_j >= own_j:
            return
        own_j, count = found_j, count + 1


def _capped_mhz(model: fluid.Model, tp: int, ratio: float) -> float | None:
    clocks = model.profile(tp).clocks
    lowest_mhz = max(model.bounds.min_clock_mhz or clocks.min_mhz, clocks.min_mhz)
    return None if ratio >= 1 else clocks.snapped_mhz(max(ratio * clocks.max_mhz, lowest_mhz))


def _least_j(budget: Budget, model: fluid.Model, tp: int, count: int) -> float:
    """Return about the least joules that a fleet can use: those at the lowest clock of the ladder."""
    return budget.run(Plan.fixed(tp, count, _capped_mhz(model, tp, LADDER[-1]))).energy_j


def _down_the_clocks(budget: Budget, model: fluid.Model, tp: int, count: int) -> float:
    """Return the least joules of a fleet that meets the SLO: down a ladder of clocks, then around its best rung.

    No bisection: lateness is a count of unlucky requests and does not fall strictly with the clock. Some misses in a
    row end the ladder.
    """
    met: dict[float, float] = {}
    misses = 0
    for ratio in LADDER:
        energy_j = _met_j(budget, Plan.fixed(tp, count, _capped_mhz(model, tp, ratio)))
        misses = misses + 1 if energy_j == float("inf") else 0
        if misses == MOST_MISSES:
            break
        met[ratio] = energy_j
    best = min(met, key=lambda ratio: met[ratio])
    for near in (best - RUNG / 2, best - RUNG * 1.5):
        met[near] = _met_j(budget, Plan.fixed(tp, count, _capped_mhz(model, tp, near)))
    return min(met.values())


def _met_j(budget: Budget, plan: Plan) -> float:
    trial = budget.run(plan)
    return trial.energy_j if trial.slo_met else float("inf")
