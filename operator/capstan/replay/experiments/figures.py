"""Numbers that experiments read off a row at one seed.

Who calls it: `catalog`. Must not know: rows, seeds, tables. Where two systems are compared by joules both must meet the
SLO (DESIGN 7.1); only `CHANGE_ANYWAY` compares them all the same, beside what was lost of the attainment.
"""

from __future__ import annotations

from collections.abc import Callable

from capstan import units
from capstan.replay.experiments.kinds import Cell, Figure, Pair
from capstan.replay.scores import compare
from capstan.replay.scores.score import Score

PERCENT = 100.0
KWH_PER_J = 1 / units.JOULES_PER_KWH


def _own(of: Callable[[Score], float | None]) -> Callable[[Pair], float | None]:
    """Return a figure of the row alone."""
    return lambda pair: of(pair.own.score)


def _saving(energy_j: Callable[[Score], float]) -> Callable[[Pair], float | None]:
    """Return the share of single-pool's joules that a row saves."""

    def of(pair: Pair) -> float | None:
        single, own = pair.own.single, pair.own.score
        if single is None or not (single.slo_met and own.slo_met) or energy_j(single) <= 0:
            return None
        return 1 - energy_j(own) / energy_j(single)

    return of


def _change(of: Callable[[Cell], float | None], *, at_any_attainment: bool = False) -> Callable[[Pair], float | None]:
    """Return by which share a row has more of something than the row beside it."""

    def change(pair: Pair) -> float | None:
        if pair.other is None:
            return None
        if not (at_any_attainment or (pair.own.score.slo_met and pair.other.score.slo_met)):
            return None
        own, other = of(pair.own), of(pair.other)
        return None if own is None or not other else own / other - 1

    return change


def _lost(pair: Pair) -> float | None:
    """Return the attainment that a row loses against the row beside it."""
    if pair.other is None:
        return None
    own, other = (cell.score.overall.attainment_ratio for cell in (pair.own, pair.other))
    return None if own is None or other is None else other - own


def _gpu_hours(score: Score) -> float | None:
    return None if score.gpu_seconds is None else score.gpu_seconds / units.SECONDS_PER_HOUR


def _captured(pair: Pair) -> float | None:
    """Return the share of what the oracle saves over single-pool that a row saves."""
    single, oracle = pair.own.single, pair.own.oracle
    return None if single is None or oracle is None else compare.captured_ratio(single, oracle, pair.own.score)


ENERGY = Figure("energy_j", "GPU kWh", _own(lambda score: score.energy_j), KWH_PER_J, 2)
SAVING = Figure("saving_ratio", "saving %", _saving(lambda score: score.energy_j), PERCENT, 1, baseline=True)
SAVING_FLEET = Figure("saving_fleet_ratio", "fleet %", _saving(lambda score: score.fleet_j), PERCENT, 1, baseline=True)
CAPTURED = Figure("captured_ratio", "captured %", _captured, PERCENT, 1, baseline=True)
CHANGE = Figure("energy_change_ratio", "energy ±%", _change(lambda cell: cell.score.energy_j), PERCENT)
CHANGE_ANYWAY = Figure(
    "energy_change_at_any_attainment_ratio",
    "energy ±%",
    _change(lambda cell: cell.score.energy_j, at_any_attainment=True),
    PERCENT,
)
GOOD = Figure("attainment_ratio", "good %", _own(lambda score: score.overall.attainment_ratio), PERCENT, 2)
LOST = Figure("attainment_loss_ratio", "lost points", _lost, PERCENT, 2)
TTFT = Figure("ttft_p99_s", "TTFT p99 ms", _own(lambda score: score.overall.ttft_s.p99), 1e3, 0)
TPOT = Figure("tpot_p99_s", "TPOT p99 ms", _own(lambda score: score.overall.tpot_s.p99), 1e3, 1)
GPU_HOURS = Figure("gpu_hours", "GPU hours", _own(_gpu_hours), 1.0, 1)
IDLE = Figure("idle_j", "idle kWh", _own(lambda score: score.energy.idle_j), KWH_PER_J, 2)
TRANSITION = Figure("transition_j", "start-up kWh", _own(lambda score: score.energy.transition_j), KWH_PER_J, 2)
COST = Figure("cost", "cost", _own(lambda score: score.bill.cost), 1.0, 1)
CARBON = Figure("carbon_g", "CO2e kg", _own(lambda score: score.bill.carbon_g), 1e-3, 2)
COST_CHANGE = Figure("cost_change_ratio", "cost ±%", _change(lambda cell: cell.score.bill.cost), PERCENT)
CARBON_CHANGE = Figure("carbon_change_ratio", "CO2e ±%", _change(lambda cell: cell.score.bill.carbon_g), PERCENT)
OVER_BUDGET = Figure(
    "longest_over_budget_s",
    "over budget s",
    _own(lambda score: max((domain.longest_excursion_s for domain in score.domains), default=None)),
    1.0,
    0,
)
