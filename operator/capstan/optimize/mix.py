"""Which replicas of which tensor-parallel degree: the least watts that carry the mean load and can carry the peak.

Who calls it: `replicas`, `split`, `advice`. Must not know: memory, what stands.

A small integer programme proposes, closed forms decide. Columns are (tp, load of a replica) at the clock that is best
there; one row asks for the mean load, one for the peak at full clock, one keeps to the GPUs. Its columns are a grid of
loads, so its pick is compared, at the exact loads, with the smallest fleets of a single degree, one of which is always
there: whatever the solver does, there is an answer. The solver's limit is on nodes, not on time: a clock would make a
recorded decision differ when it is decided again.

Source: DynamoLLM's pool manager (facts/dynamollm.md 2.2), with one variable per column so that it is linear.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from capstan.model.plan import Fleet
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import clock, fleets

BINS = 8
"""Loads per degree: an eighth of a replica's capacity apart; the exact comparison afterwards smooths what is left."""

MORE = 2  # replicas of a single degree beyond the fewest: at lower clocks more of them may draw less
NODES = 200  # of the branch and bound; two dozen integers never took more than 30
GAP_RATIO = 0.005  # half a per cent of watts is less than the physics is worth

SOLVER: tuple[tuple[str, int | float | bool], ...] = (
    ("threads", 1),
    ("mip_max_nodes", NODES),
    ("mip_rel_gap", GAP_RATIO),
    ("random_seed", 0),
    # It looks for any feasible fleet first, in which half of the solver's time went: the relaxation rounded is one.
    ("mip_heuristic_run_feasibility_jump", False),
)


@dataclass(frozen=True, slots=True)
class Question:
    """What a pool is asked to carry, and within what.

    Attributes:
        profiles: Degrees to choose among, ascending in tp.
        load: Mean demand. slo: its limits.
        peak_rps: What must be carried at full clock, at least the mean.
        most_replicas, most_gpus: Limits of the pool.
        margin_ratio: Share of each limit to plan for.
        min_clock_mhz: The policy's lowest clock.
        per_gpu_w: What an assigned GPU costs beside its joules, in watts (0: joules only).
        least: Replicas that the answer must hold (nothing that serves is taken away).
    """

    profiles: tuple[Profile, ...]
    load: Workload
    slo: Slo
    peak_rps: float
    most_replicas: int
    most_gpus: int | None
    margin_ratio: float
    min_clock_mhz: float | None = None
    per_gpu_w: float = 0.0
    least: Fleet = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A fleet and its mean watts at the mean load under the clock that is best for it (infinite: no such clock)."""

    fleet: Fleet
    cost_w: float


def cheapest(question: Question) -> Answer | None:
    """Return the least watts that carry the load; None where no fleet within the limits does."""
    each = capacities_rps(question)
    known = [profile for profile in question.profiles if each[profile.tp] > 0]
    fits = [fleet for fleet in _simple(question, each) if allowed(question, fleet)]
    if len(known) > 1 and fits:
        proposed = _proposed(question, each)
        fits += [] if proposed is None or not allowed(question, proposed) else [proposed]
    answers = [Answer(fleet, cost_w(question, fleet, each)) for fleet in dict.fromkeys(fits)]
    return min(answers, key=lambda answer: (answer.cost_w, fleets.gpus(answer.fleet)), default=None)


def capacities_rps(question: Question) -> dict[int, float]:
    """Return what a replica of each degree carries among as many as the peak asks for of the best."""
    found: dict[int, float] = {}
    count = max(fleets.replicas(question.least), 1)
    for _ in range(2):
        margin = question.margin_ratio
        found = fleets.capacities_rps(question.profiles, question.load, question.slo, margin=margin, replicas=count)
        most_rps = max(found.values())
        count = max(math.ceil(question.peak_rps / most_rps), 1) if most_rps > 0 else count
    return found


def allowed(question: Question, fleet: Fleet) -> bool:
    """Return whether a fleet keeps to the limits."""
    gpus = question.most_gpus
    return fleets.replicas(fleet) <= question.most_replicas and (gpus is None or fleets.gpus(fleet) <= gpus)


def cost_w(question: Question, fleet: Fleet, each_rps: dict[int, float]) -> float:
    """Return mean watts of a fleet at the mean load, and what its GPUs cost beside."""
    parts = shares(question.profiles, fleet, question.load, each_rps)
    if not parts:
        return math.inf
    search = clock.Search(parts, question.slo, min_clock_mhz=question.min_clock_mhz, margin=question.margin_ratio)
    best = clock.least_power(search.run())
    watts = search.at(0).gpus_w if best is None else best.gpus_w
    return watts + question.per_gpu_w * fleets.gpus(fleet)


def shares(
    profiles: tuple[Profile, ...], fleet: Fleet, load: Workload, each_rps: dict[int, float]
) -> tuple[clock.Part, ...]:
    """Return a fleet's parts, each replica with the share of the load that its capacity is of all."""
    whole_rps = fleets.capacity_rps(fleet, each_rps)
    if whole_rps <= 0:
        return ()
    by_tp = {profile.tp: profile for profile in profiles}
    return tuple(
        clock.Part(by_tp[tp], count, load.at(load.arrival_rps * each_rps[tp] / whole_rps).coarse())
        for tp, count in fleet
        if each_rps.get(tp, 0.0) > 0
    )


def _simple(question: Question, each_rps: dict[int, float]) -> list[Fleet]:
    """Return the smallest fleets that carry the peak with more of one degree beside what must stay."""
    found: list[Fleet] = []
    left_rps = question.peak_rps - fleets.capacity_rps(question.least, each_rps)
    for tp, one_rps in each_rps.items():
        if one_rps > 0:
            least = max(math.ceil(left_rps / one_rps - 1e-9), 0 if question.least else 1)
            found += [fleets.with_more(question.least, tp, least + more) for more in range(MORE + 1)]
    return found


def _proposed(question: Question, each_rps: dict[int, float]) -> Fleet | None:
    """Return the integer programme's fleet, or None where it has none within its nodes."""
    import highspy  # here, not above: an operator whose policies have one degree each never loads it, nor numpy

    program = highspy.Highs()  # type: ignore[no-untyped-call]  # its stubs leave the constructor bare
    program.silent()
    for name, value in SOLVER:
        program.setOptionValue(name, value)
    columns = [(profile.tp, *one) for profile in question.profiles for one in _columns_of(question, profile, each_rps)]
    if not columns:
        return None
    counts = [
        program.addIntegral(lb=0, ub=question.most_replicas, obj=watts + question.per_gpu_w * tp)
        for tp, _, watts in columns
    ]
    each = list(zip(counts, columns, strict=True))
    program.addConstr(sum(n * load_rps for n, (_, load_rps, _) in each) >= question.load.arrival_rps)
    program.addConstr(sum(n * each_rps[tp] for n, (tp, _, _) in each) >= question.peak_rps)
    program.addConstr(sum(n * 1.0 for n, _ in each) <= question.most_replicas)
    if question.most_gpus is not None:
        program.addConstr(sum(n * tp for n, (tp, _, _) in each) <= question.most_gpus)
    for tp, least in question.least:
        program.addConstr(sum((n * 1.0 for n, (own, _, _) in each if own == tp), 0.0 * counts[0]) >= least)
    program.minimize()
    if program.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    found: dict[int, int] = {}
    for n, (tp, _, _) in each:
        found[tp] = found.get(tp, 0) + round(program.val(n))
    return fleets.of(found) or None


def _columns_of(question: Question, profile: Profile, each_rps: dict[int, float]) -> tuple[tuple[float, float], ...]:
    if each_rps[profile.tp] <= 0:
        return ()
    lengths = question.load.at(0.0).coarse()
    return _columns(profile, lengths, question.slo, each_rps[profile.tp], question.margin_ratio, question.min_clock_mhz)


@functools.lru_cache(maxsize=8192)
def _columns(
    profile: Profile, lengths: Workload, slo: Slo, one_rps: float, margin: float, min_clock_mhz: float | None
) -> tuple[tuple[float, float], ...]:
    """Return (load, watts) of one replica at each load of the grid under the clock that is best there."""
    found = []
    for index in range(1, BINS + 1):
        load = lengths.at(one_rps * index / BINS)
        search = clock.Search((clock.Part(profile, 1, load),), slo, min_clock_mhz=min_clock_mhz, margin=margin)
        best = clock.least_power(search.run())
        watts = search.at(0).gpus_w if best is None else best.gpus_w
        if watts < math.inf:
            found.append((load.arrival_rps, watts))
    return tuple(found)
