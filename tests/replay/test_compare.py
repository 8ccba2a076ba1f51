"""Figures between systems, by hand: savings at equal attainment, what was captured, over seeds, in money and carbon."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.scores import bill, compare, score
from capstan.replay.scores.compare import Estimate
from capstan.replay.scores.score import Score
from support.replay import fate, run


def scored(system: str, energy_j: float, *, met: bool = True, unassigned_j: float = 0.0) -> compare.Column:
    fates = [fate(ttft_s=0.5 if met else 9.0)]
    return compare.scored([run(fates, energy_j=energy_j, system=system, unassigned_j=unassigned_j)])[0]


def one_seed(found: Estimate | None) -> float:
    assert found is not None
    assert (found.half_width, found.seeds) == (None, 1)
    return found.mean


FOUR = (scored("capstan", 400, unassigned_j=300), scored("single-pool", 1000), scored("best-static", 800),
        scored("oracle", 250))  # fmt: skip


def test_the_ratios_of_the_design_by_hand() -> None:
    bound = compare.bound(FOUR[0], {"llm/chat": score.of(run(energy_j=200)).energy})
    found = compare.of([*FOUR, bound]).relative("capstan")
    # 600 of 1000; with free GPUs 300 of 1000; 400 of 800; 600 of the oracle's 750; 600 of the bound's 800
    assert one_seed(found.saving) == pytest.approx(0.6)
    assert one_seed(found.saving_fleet) == pytest.approx(0.3)
    assert one_seed(found.saving_over_best_static) == pytest.approx(0.5)
    assert one_seed(found.captured) == pytest.approx(0.8)
    assert one_seed(found.captured_of_bound) == pytest.approx(0.75)
    assert found.note == ""


def test_who_misses_the_slo_has_no_saving_and_says_why() -> None:
    found = compare.of([scored("keda-slo", 100, met=False), *FOUR]).relative("keda-slo")
    assert found == compare.Relative(None, None, None, None, None, None, "SLO missed")


def test_nobody_saves_over_a_baseline_that_missed() -> None:
    """The oracle missed: nothing is captured of it, but savings over single-pool stand."""
    columns = [*FOUR[:3], scored("oracle", 250, met=False)]
    found = compare.of(columns).relative("capstan")
    assert (found.captured, found.note) == (None, "")
    assert found.saving is not None
    alone = compare.of([FOUR[0], scored("single-pool", 1000, met=False)]).relative("capstan")
    assert (alone.saving, alone.saving_fleet) == (None, None)


def test_without_a_gap_nothing_can_be_captured() -> None:
    columns = [scored("capstan", 900), scored("single-pool", 1000), scored("oracle", 1000)]
    assert compare.of(columns).relative("capstan").captured is None


def test_dearer_than_the_baseline_is_a_negative_saving() -> None:
    found = compare.of([scored("kubeai", 1500), scored("single-pool", 1000)]).relative("kubeai")
    assert one_seed(found.saving) == pytest.approx(-0.5)


def seeds(*energies_j: tuple[float, float], missed_at: int | None = None) -> compare.Comparison:
    """(capstan, single-pool) per seed."""
    made = [
        (scored("capstan", own_j, met=seed != missed_at), scored("single-pool", base_j))
        for seed, (own_j, base_j) in enumerate(energies_j)
    ]
    further = [[column.score for column in columns] for columns in made[1:]]
    return compare.of(made[0], more_seeds=further)


def test_seeds_are_paired_and_have_a_95_percent_interval() -> None:
    """Savings 0.1 .. 0.5: mean 0.3, deviation 0.1581, / sqrt 5 = 0.07071; t(4, 97.5 %) = 2.776: +-0.1963."""
    found = seeds((900, 1000), (1600, 2000), (2100, 3000), (2400, 4000), (2500, 5000)).relative("capstan").saving
    assert found is not None
    assert found.mean == pytest.approx(0.3)
    assert found.seeds == 5
    assert found.half_width == pytest.approx(2.776445 * 0.5 / math.sqrt(50), rel=1e-5)


def test_a_seed_that_missed_leaves_no_saving() -> None:
    found = seeds((900, 1000), (900, 1000), missed_at=1).relative("capstan")
    assert (found.saving, found.note) == (None, "SLO missed in 1 of 2 seeds")


def test_a_seed_without_one_of_the_systems_is_refused() -> None:
    lone: list[Score] = [FOUR[0].score]
    with pytest.raises(ValueError, match="seed 2 of 2 has no run of best-static, oracle, single-pool"):
        compare.of(FOUR, more_seeds=[lone])


@pytest.mark.parametrize("columns", [[], [FOUR[0], FOUR[0]]], ids=["none", "twice the same"])
def test_a_comparison_needs_each_system_once(columns: list[compare.Column]) -> None:
    with pytest.raises(ValueError, match="one run per system"):
        compare.of(columns)


def test_the_bound_asks_for_every_token_of_the_trace() -> None:
    """Three requests of 11 tokens, one of which `like` never finished: 330 J over 33 tokens."""
    like = compare.scored([run([fate(), fate(), fate(ttft_s=math.nan)])])[0]
    made = compare.bound(like, {"llm/chat": score.of(run(energy_j=330)).energy}).score
    assert (made.overall.attainment_ratio, made.slo_met, made.j_per_output_token) == (1.0, True, 10.0)
    assert made.overall.ttft_s.p50 is None


@given(st.permutations(range(4)))
def test_the_order_of_systems_is_irrelevant(order: list[int]) -> None:
    found = compare.of([FOUR[i] for i in order])
    assert found.relative("capstan") == compare.of(FOUR).relative("capstan")


# --- money and carbon --------------------------------------------------------------------------------


def billed(system: str, cost: float | None, carbon_g: float | None, *, met: bool = True) -> compare.Column:
    column = scored(system, 1000, met=met)
    spent = bill.Bill(cost=cost, carbon_g=carbon_g)
    return dataclasses.replace(column, score=dataclasses.replace(column.score, bill=spent))


def test_money_and_carbon_are_saved_over_single_pool() -> None:
    """60 of 100 in money and 900 of 1,000 g: 40 % and 10 % less, whatever the joules are."""
    found = compare.of([billed("capstan", 60, 900), billed("single-pool", 100, 1000)]).relative("capstan")
    assert found.saving_cost is not None
    assert found.saving_carbon is not None
    assert [found.saving_cost.mean, found.saving_carbon.mean] == pytest.approx([0.4, 0.1])


NOT_SAVED = {
    "nobody knows what it cost": (billed("capstan", None, None), billed("single-pool", 100, 1000)),
    "nobody knows what single-pool cost": (billed("capstan", 60, 900), billed("single-pool", None, None)),
    "single-pool cost nothing": (billed("capstan", 60, 900), billed("single-pool", 0, 0)),
    "it missed the SLO": (billed("capstan", 60, 900, met=False), billed("single-pool", 100, 1000)),
    "single-pool missed the SLO": (billed("capstan", 60, 900), billed("single-pool", 100, 1000, met=False)),
    "there is no single-pool": (billed("capstan", 60, 900),),
}


@pytest.mark.parametrize("columns", NOT_SAVED.values(), ids=NOT_SAVED)
def test_what_is_not_known_was_not_saved(columns: tuple[compare.Column, ...]) -> None:
    found = compare.of(columns).relative("capstan")
    assert (found.saving_cost, found.saving_carbon) == (None, None)


def test_a_saving_in_money_is_paired_over_seeds() -> None:
    """40 % and 20 % less: mean 30 %, +- t(1) 12.706 x 0.1414 / sqrt 2."""
    one, two = ([billed("capstan", own, None), billed("single-pool", 100, None)] for own in (60, 80))
    found = compare.of(one, more_seeds=[[column.score for column in two]]).relative("capstan").saving_cost
    assert found is not None
    assert found.seeds == 2
    assert [found.mean, found.half_width] == pytest.approx([0.3, 1.2706], rel=1e-4)


def test_the_bound_serves_nothing_and_costs_nothing_that_is_known() -> None:
    made = compare.bound(billed("capstan", 60, 900), {"llm/chat": score.of(run(energy_j=330)).energy})
    assert made.score.bill == bill.NOTHING
