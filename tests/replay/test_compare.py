"""Figures between systems, by hand: savings at equal attainment, what was captured, over seeds, in money and carbon."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.replay.runs import Run
from capstan.replay.scores import compare, score, tariff
from capstan.replay.scores.compare import Estimate
from capstan.replay.scores.score import Score
from capstan.replay.scores.tariff import Kind, Tariff, TariffError
from support.replay import fate, run, series, service


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


# --- cost and carbon ---------------------------------------------------------------------------------


def metered(*samples: tuple[float, float]) -> Run:
    drawn = series([t_s for t_s, _ in samples], [gpus_w for _, gpus_w in samples])
    return dataclasses.replace(run(), services=(dataclasses.replace(service(), series=drawn),))


def steps(*rows: tuple[float, float]) -> Tariff:
    return Tariff(Kind.PRICE, np.array([start_s for start_s, _ in rows]), np.array([per_kwh for _, per_kwh in rows]))


def test_a_price_is_integrated_over_the_watts() -> None:
    """1 kW for an hour, then 2 kW for one; 0.10 for the first 90 min, 0.30 after: 0.1 + 1 x 0.1 + 1 x 0.3 = 0.5."""
    found = steps((0, 0.10), (5400, 0.30)).over(metered((3600, 1000), (7200, 2000)))
    assert found == pytest.approx(0.5)


def test_a_price_that_never_changes_is_energy_times_price() -> None:
    assert steps((0, 0.25)).over(metered((1800, 4000), (7200, 500))) == pytest.approx(0.25 * (2 + 0.75))


def test_watts_that_are_not_known_have_no_price() -> None:
    assert steps((0, 0.25)).over(metered((1800, math.nan), (7200, 500))) is None
    assert steps((0, 0.25)).over(run()) is None


def test_a_tariff_is_read_from_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "price.csv"
    path.write_text("note,price_per_kwh,start_s\nnight,0.1,0\n\nday,-0.02,21600\n")
    found = tariff.price(path)
    assert (found.start_s.tolist(), found.per_kwh.tolist()) == ([0.0, 21600.0], [0.1, -0.02])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "row 1, start_s, g_per_kwh: missing"),
        ("start_s,price_per_kwh\n0,1\n", "row 1, g_per_kwh: missing; found start_s, price_per_kwh"),
        ("start_s,g_per_kwh\n", "rows: there is none"),
        ("start_s,g_per_kwh\n300,1\n", "row 2, start_s: the first is 300; begin at 0"),
        ("start_s,g_per_kwh\n0,1\n600,1\n300,1\n", "row 4, start_s: 300 is not after the row above"),
        ("start_s,g_per_kwh\n0,1\n600,nan\n", "row 3, g_per_kwh: nan is not possible"),
        ("start_s,g_per_kwh\n0,-5\n", "row 2, g_per_kwh: -5 is not possible"),
        ("start_s,g_per_kwh\n0,much\n", "row 2, g_per_kwh: 'much' is no number"),
        ("start_s,g_per_kwh\n0\n", "row 2, g_per_kwh: '' is no number"),
        ("start_s,g_per_kwh\n\x00,1\n", "row 2, start_s"),
    ],
    ids=["empty", "the other file", "only a header", "late start", "backwards", "NaN", "negative", "words", "short",
         "binary"],
)  # fmt: skip
def test_a_tariff_that_cannot_be_used_names_row_and_column(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "carbon.csv"
    path.write_text(text)
    with pytest.raises(TariffError, match=says):
        tariff.carbon(path)


def test_a_tariff_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TariffError, match=r"none\.csv, file: No such file or directory; give a file"):
        tariff.price(tmp_path / "none.csv")
