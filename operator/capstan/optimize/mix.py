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
from collections.abc import Mapping, Sequence
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


def capacities_rps(question: Question) -> Mapping[int, float]:
    """Return what a replica of each degree carries among as many as the peak asks for of the best."""
    found: Mapping[int, float] = {}
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


def cost_w(question: Question, fleet: Fleet, each_rps: Mapping[int, float]) -> float:
    """Return mean watts of a fleet at the mean load, and what its GPUs cost beside."""
    parts = shares(question.profiles, fleet, question.load, each_rps)
    if not parts:
        return math.inf
    watts = _least_w(parts, question.slo, min_clock_mhz=question.min_clock_mhz, margin=question.margin_ratio)
    return watts + question.per_gpu_w * fleets.gpus(fleet)


def _least_w(parts: tuple[clock.Part, ...], slo: Slo, *, min_clock_mhz: float | None, margin: float) -> float:
    """Return watts of parts under the clock that is best for them; none keeps the SLO: under the full one."""
    looked = clock.searched(parts, slo, min_clock_mhz=min_clock_mhz, margin=margin)
    best = clock.least_power(looked)
    return looked[0].gpus_w if best is None else best.gpus_w


def shares(
    profiles: tuple[Profile, ...], fleet: Fleet, load: Workload, each_rps: Mapping[int, float]
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


def _simple(question: Question, each_rps: Mapping[int, float]) -> list[Fleet]:
    """Return the smallest fleets that carry the peak with more of one degree beside what must stay."""
    found: list[Fleet] = []
    left_rps = question.peak_rps - fleets.capacity_rps(question.least, each_rps)
    for tp, one_rps in each_rps.items():
        if one_rps > 0:
            least = max(math.ceil(left_rps / one_rps - 1e-9), 0 if question.least else 1)
            found += [fleets.with_more(question.least, tp, least + more) for more in range(MORE + 1)]
    return found


def _proposed(question: Question, each_rps: Mapping[int, float]) -> Fleet | None:
    """Return the integer programme's fleet, or None where it has none within its nodes."""
    columns = [(profile.tp, *one) for profile in question.profiles for one in _columns_of(question, profile, each_rps)]
    if not columns:
        return None
    costs_w = [watts + question.per_gpu_w * tp for tp, _, watts in columns]
    counts = _solved(costs_w, _rows(question, columns, each_rps), most=question.most_replicas)
    found: dict[int, int] = {}
    for (tp, _, _), count in zip(columns, counts, strict=False):  # no solution, no counts
        found[tp] = found.get(tp, 0) + round(count)
    return fleets.of(found) or None


_Row = tuple[float, float, Sequence[float]]
"""One constraint, each in a unit of its own: the sum of counts times values, shape `[column]`, lies between the two."""


def _rows(
    question: Question, columns: Sequence[tuple[int, float, float]], each_rps: Mapping[int, float]
) -> tuple[_Row, ...]:
    """Return what binds the counts of columns of (tp, load, watts)."""
    rows: list[_Row] = [
        (question.load.arrival_rps, math.inf, [load_rps for _, load_rps, _ in columns]),
        (question.peak_rps, math.inf, [each_rps[tp] for tp, _, _ in columns]),
        (-math.inf, question.most_replicas, [1.0] * len(columns)),
    ]
    if question.most_gpus is not None:
        rows.append((-math.inf, question.most_gpus, [float(tp) for tp, _, _ in columns]))
    rows += [(least, math.inf, [float(tp == own) for own, _, _ in columns]) for tp, least in question.least]
    return tuple(rows)


def _solved(costs_w: Sequence[float], rows: Sequence[_Row], *, most: int) -> Sequence[float]:
    """Return a count of each column, from 0 to `most`, at the least cost; none where no solution was found.

    The programme is passed whole: written down as expressions, a column and a row at a time, it took half as long as
    to be solved.
    """
    import highspy  # here, not above: an operator whose policies have one degree each never loads it, nor numpy

    count, programme = len(costs_w), highspy.HighsLp()
    programme.num_col_, programme.num_row_ = count, len(rows)
    programme.col_cost_, programme.integrality_ = [*costs_w], [highspy.HighsVarType.kInteger] * count
    programme.col_lower_, programme.col_upper_ = [0.0] * count, [most] * count
    programme.row_lower_, programme.row_upper_ = [low for low, _, _ in rows], [high for _, high, _ in rows]
    matrix = programme.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_ = [count * row for row in range(len(rows) + 1)]
    matrix.index_ = [*range(count)] * len(rows)
    matrix.value_ = [value for _, _, values in rows for value in values]
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # its stubs leave the constructor bare
    solver.silent()
    for name, value in SOLVER:
        solver.setOptionValue(name, value)
    solver.passModel(programme)
    solver.run()
    feasible = solver.getInfo().primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    return solver.getSolution().col_value if feasible else ()


def _columns_of(question: Question, profile: Profile, each_rps: Mapping[int, float]) -> tuple[tuple[float, float], ...]:
    if each_rps[profile.tp] <= 0:
        return ()
    lengths = question.load.coarse_lengths()
    return _columns(profile, lengths, question.slo, each_rps[profile.tp], question.margin_ratio, question.min_clock_mhz)


@functools.lru_cache(maxsize=8192)
def _columns(
    profile: Profile, lengths: Workload, slo: Slo, one_rps: float, margin: float, min_clock_mhz: float | None
) -> tuple[tuple[float, float], ...]:
    """Return (load, watts) of one replica at each load of the grid under the clock that is best there."""
    found = []
    for index in range(1, BINS + 1):
        load = lengths.at(one_rps * index / BINS)
        watts = _least_w((clock.Part(profile, 1, load),), slo, min_clock_mhz=min_clock_mhz, margin=margin)
        if watts < math.inf:
            found.append((load.arrival_rps, watts))
    return tuple(found)
