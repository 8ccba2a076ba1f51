"""How systems stand to each other: savings at equal attainment, what was captured of the possible, over seeds.

Who calls it: `app.replay`, the rig's demo; `pages.report` prints it. Must not know: files, how a run was made.

A figure between two systems exists only where both meet the SLO (DESIGN 7.1). With several seeds it is the mean of
the paired figures (same seed, same trace) with a 95 % interval, and exists only where every seed has it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from capstan.replay.runs import Energy, Run
from capstan.replay.scores import bill
from capstan.replay.scores import score as scoring
from capstan.replay.scores.limits import SloSet
from capstan.replay.scores.score import Figures, Quantiles, Score

SINGLE_POOL, BEST_STATIC, STATIC_POOLS = "single-pool", "best-static", "static-pools"
ORACLE, BOUND = "oracle", "bound"
MISSED = "SLO missed"
AS_GIVEN = "as given"
OVER_PROVISIONED = "Fleet as given: over-provisioned, no rule sized it (--scale-rate auto:N does)."


@dataclass(frozen=True, slots=True)
class Conditions:
    """What held for every system of a comparison; printed beside each of them.

    Attributes:
        scenario: Its name.
        slo: Whose limits the scores are by.
        rate_multiple: Of the trace's own rates (`--scale-rate`).
        provisioning: How the fleet's size came about: `as given`, or `auto:12` (DESIGN 7.1).
        clock_response: `low`, `nominal` or `high` voltage at low clocks (DESIGN 5).
        settings: Anything else that was chosen, as (name, value) pairs for people.
    """

    scenario: str = ""
    slo: SloSet = SloSet.SCENARIO
    rate_multiple: float = 1.0
    provisioning: str = AS_GIVEN
    clock_response: str = "nominal"
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """What DESIGN 7.1 asks to be said of a fleet: that nobody searched for its size, or the rate that was found."""
        if self.provisioning == AS_GIVEN:
            return OVER_PROVISIONED
        return f"Fleet: {self.provisioning}, at {self.rate_multiple:.4g} times the trace's own rates."


@dataclass(frozen=True, slots=True)
class Column:
    """One system: what it left behind and how it scored."""

    run: Run
    score: Score


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure over seeds: its mean, and the half-width of its 95 % interval (None with one seed)."""

    mean: float
    half_width: float | None
    seeds: int


@dataclass(frozen=True, slots=True)
class Relative:
    """One system against the others. None: a system it needs was not run or missed the SLO, or there was no gap.

    Attributes:
        saving: Share of single-pool's joules that it saves; assigned GPUs (boundary *released*).
        saving_fleet: The same with GPUs without a pod counted (boundary *fleet*).
        saving_over_best_static, saving_over_best_static_fleet: The same over best-static.
        captured, captured_of_bound: Share of what lies between single-pool and oracle (bound), released.
        note: `SLO missed` where that is why there is nothing; empty otherwise.
        saving_cost, saving_carbon: Share of single-pool's money and grams of CO2e that it saves; assigned GPUs.
    """

    saving: Estimate | None
    saving_fleet: Estimate | None
    saving_over_best_static: Estimate | None
    saving_over_best_static_fleet: Estimate | None
    captured: Estimate | None
    captured_of_bound: Estimate | None
    note: str = ""
    saving_cost: Estimate | None = None
    saving_carbon: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a report is made of; the first column is the system on trial."""

    columns: tuple[Column, ...]
    relatives: tuple[Relative, ...]
    conditions: Conditions = Conditions()

    @property
    def first(self) -> Column:
        """The system on trial."""
        return self.columns[0]

    def column(self, system: str) -> Column | None:
        """Return the column of a system, or None."""
        return next((column for column in self.columns if column.run.system == system), None)

    def relative(self, system: str) -> Relative:
        """Return how a system stands to the others.

        Raises:
            KeyError: It was not run.
        """
        for column, relative in zip(self.columns, self.relatives, strict=True):
            if column.run.system == system:
                return relative
        raise KeyError(system)


def of(
    columns: Sequence[Column],
    conditions: Conditions = Conditions(),
    *,
    more_seeds: Sequence[Sequence[Score]] = (),
) -> Comparison:
    """Compare the systems of one command.

    Args:
        columns: One per system, the one on trial first; of the first seed.
        conditions: What held for all of them.
        more_seeds: The scores of the same systems at each further seed, in any order.

    Raises:
        ValueError: No column, a system twice, or a seed that lacks a system.
    """
    names = [column.run.system for column in columns]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a comparison needs one run per system and at least one; got {', '.join(names) or 'none'}")
    seeds = [{column.score.system: column.score for column in columns}]
    seeds += [{score.system: score for score in scores} for scores in more_seeds]
    for number, scores in enumerate(seeds):
        if lacking := sorted(set(names) - scores.keys()):
            raise ValueError(f"seed {number + 1} of {len(seeds)} has no run of {', '.join(lacking)}")
    relatives = tuple(_relative(name, seeds) for name in names)
    return Comparison(tuple(columns), relatives, conditions)


def scored(runs: Sequence[Run], slo_set: SloSet = SloSet.SCENARIO) -> tuple[Column, ...]:
    """Score runs and pair each with its score."""
    return tuple(Column(run, scoring.of(run, slo_set)) for run in runs)


def bound(like: Column, energy: Mapping[str, Energy]) -> Column:
    """Return the column of `bound`, which serves nothing and is no run: joules per policy, every request good.

    Args:
        like: Any system of the same trace; its requests, classes and limits are the bound's.
        energy: Joules of each policy.
    """
    tokens = {s.policy: int(s.outcomes.requests.output_tokens.sum()) for s in like.run.services}
    policies = tuple(
        dataclasses.replace(p, slo_met=True, figures=_all_good(p.figures, tokens[p.policy]), energy=energy[p.policy])
        for p in like.score.policies
    )
    score = dataclasses.replace(
        like.score,
        system=BOUND,
        policies=policies,
        domains=(),
        overall=_all_good(like.score.overall, sum(tokens.values())),
        energy_unassigned_j=0.0,
        energy_node_j=None,
        peak_power_w=None,
        gpu_seconds=None,
        reconfigurations=None,
        clock_changes=None,
        bill=bill.NOTHING,
    )
    run = dataclasses.replace(like.run, system=BOUND, source="fluid relaxation", services=(), domains=(), marks=(),
                              settings=(), figures={}, energy_unassigned_j=0.0, energy_node_j=None)  # fmt: skip
    return Column(run, score)


def _all_good(figures: Figures, output_tokens: int) -> Figures:
    none = Quantiles()
    return dataclasses.replace(
        figures,
        completed=figures.arrived,
        good=figures.arrived,
        attainment_ratio=1.0,
        by_class=tuple((name, 1.0) for name, _ in figures.by_class),
        windows_ratio=None if figures.windows_ratio is None else 1.0,
        ttft_s=none,
        tpot_s=none,
        tbt_s=none,
        fluidity_low_ratio=None,
        fluidity_high_ratio=None,
        output_tokens=output_tokens,
    )


# --- one system against the others -------------------------------------------------------------------


def _relative(name: str, seeds: Sequence[Mapping[str, Score]]) -> Relative:
    missed = sum(not scores[name].slo_met for scores in seeds)
    over_seeds = f"{MISSED} in {missed} of {len(seeds)} seeds" if len(seeds) > 1 else MISSED
    return Relative(
        saving=estimate([_saving(scores, SINGLE_POOL, name, fleet=False) for scores in seeds]),
        saving_fleet=estimate([_saving(scores, SINGLE_POOL, name, fleet=True) for scores in seeds]),
        saving_over_best_static=estimate([_saving(scores, BEST_STATIC, name, fleet=False) for scores in seeds]),
        saving_over_best_static_fleet=estimate([_saving(scores, BEST_STATIC, name, fleet=True) for scores in seeds]),
        captured=estimate([_captured(scores, ORACLE, name) for scores in seeds]),
        captured_of_bound=estimate([_captured(scores, BOUND, name) for scores in seeds]),
        note=over_seeds if missed else "",
        saving_cost=estimate([_saved(scores, name, lambda score: score.bill.cost) for scores in seeds]),
        saving_carbon=estimate([_saved(scores, name, lambda score: score.bill.carbon_g) for scores in seeds]),
    )


def _saved(scores: Mapping[str, Score], name: str, spent: Callable[[Score], float | None]) -> float | None:
    """Return the share of what single-pool spent that a system saves; None where either is not known."""
    if not _comparable(scores, SINGLE_POOL, name):
        return None
    base, own = (spent(scores[n]) for n in (SINGLE_POOL, name))
    return None if base is None or own is None or base <= 0 else (base - own) / base


def _saving(scores: Mapping[str, Score], base: str, name: str, *, fleet: bool) -> float | None:
    """Return the share of `base`'s joules that a system saves at one boundary; the bound has no fleet."""
    if not _comparable(scores, base, name) or (fleet and BOUND in (base, name)):
        return None
    base_j, own_j = (scores[n].fleet_j if fleet else scores[n].energy_j for n in (base, name))
    return (base_j - own_j) / base_j if base_j > 0 else None


def _captured(scores: Mapping[str, Score], best: str, name: str) -> float | None:
    """Return what a system captured of what `best` saves."""
    if name == BOUND != best or not _comparable(scores, SINGLE_POOL, best, name):
        return None  # the bound lies beyond what any oracle can capture
    return captured_ratio(scores[SINGLE_POOL], scores[best], scores[name])


def captured_ratio(single: Score, best: Score, own: Score) -> float | None:
    """Return (E_single-pool - E) / (E_single-pool - E_best) of one seed (DESIGN 7.1), boundary *released*.

    None where one of the three missed the SLO, and where there was nothing to capture.
    """
    if not (single.slo_met and best.slo_met and own.slo_met):
        return None
    base_j, best_j = single.energy_j, best.energy_j
    return (base_j - own.energy_j) / (base_j - best_j) if base_j > best_j else None


def _comparable(scores: Mapping[str, Score], *names: str) -> bool:
    return all(name in scores and scores[name].slo_met for name in names)


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """Return mean and half-width of the 95 % interval (Student's t) of paired figures."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):
        return None
    mean = float(np.mean(known))
    if len(known) == 1:
        return Estimate(mean, None, 1)
    from scipy import special  # here, not above: one seed, the common case, needs no Student's t

    spread = float(np.std(known, ddof=1)) / math.sqrt(len(known))
    return Estimate(mean, float(special.stdtrit(len(known) - 1, 0.975)) * spread, len(known))
