"""Rows are played as they are told: flags over flags, one scenario and one search for all that share them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.api import errors
from capstan.api import scenario as files
from capstan.replay.experiments import bends, catalog, lab
from capstan.replay.experiments.figures import CAPTURED, ENERGY, GOOD, SAVING
from capstan.replay.experiments.kinds import Experiment, Pair, Row
from capstan.replay.experiments.lab import Cells, Lab
from capstan.replay.options import Options
from capstan.replay.searches import oracle
from support import experiments
from support.small import Folder

FIXED = Row("fixed", "fixed")
AS_TOLD = Options()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Folder:
    """A scenario of 300 requests; nobody writes to it."""
    return experiments.folder(tmp_path_factory.mktemp("lab"), root)


def room(folder: Folder, experiment: Experiment, asked: Options = AS_TOLD, *, quick: bool = False) -> Lab:
    options = dataclasses.replace(asked, profiles=folder.path / "profiles")
    return Lab(experiment, folder.path / "scenario.yaml", options, quick=quick, told=lambda *_: None)


def cells(folder: Folder, *rows: Row, asked: Options = AS_TOLD) -> Cells:
    return room(folder, experiments.experiment(*rows, figures=(ENERGY, GOOD)), asked).play()[1]


# --- flags -------------------------------------------------------------------------------------------


def test_flags_that_are_told_win_and_others_stay() -> None:
    lower = Options(startup_s=30, seeds=(1, 2), periods="60,30,5")
    assert lab.over(lower, Options(startup_s=0, seeds=(7,))) == Options(startup_s=0, seeds=(7,), periods="60,30,5")


@given(st.sampled_from([None, 0, 30]), st.sampled_from([(), (1,), (2, 3)]))
def test_flags_over_themselves_and_over_nothing_are_themselves(startup_s: int | None, seeds: tuple[int, ...]) -> None:
    asked = Options(startup_s=startup_s, seeds=seeds)
    assert lab.over(asked, asked) == lab.over(asked, Options()) == lab.over(Options(), asked) == asked


def test_the_command_line_wins_over_the_experiment_and_a_row_over_both(folder: Folder) -> None:
    experiment = experiments.experiment(FIXED, asked=Options(startup_s=10, periods="60,30,5", scale_rate="1"))
    made = room(folder, experiment, Options(startup_s=20))
    assert (made.loaded.options.startup_s, made.loaded.options.periods) == (20, "60,30,5")
    assert made.loaded.options.seeds == lab.SEEDS
    assert dict(lab.conditions(made))["start-up"] == "20 s"


def test_what_rows_vary_is_not_said_to_hold_for_all(folder: Folder) -> None:
    made = room(folder, experiments.experiment(Row("slow", asked=Options(startup_s=60))))
    assert "start-up" not in dict(lab.conditions(made))


# --- rows and seeds ----------------------------------------------------------------------------------


def test_rows_see_the_same_requests_and_a_row_twice_is_the_same(folder: Folder) -> None:
    found = cells(folder, FIXED, Row("again", "fixed"), asked=Options(seeds=(1, 2), scale_rate="1.5"))
    assert len(found["fixed"]) == 2
    assert found["fixed"] == found["again"]
    first, second = found["fixed"]
    assert first.score.overall.arrived != second.score.overall.arrived, "each seed draws its own requests"


def test_where_nothing_is_drawn_one_seed_is_all_there_is(folder: Folder) -> None:
    made = room(folder, experiments.experiment(FIXED), Options(seeds=(1, 2, 3)))
    _, found = made.play()
    assert (len(found["fixed"]), made.runs) == (1, 1)
    assert dict(lab.conditions(made))["seeds"] == "1"


def test_a_bend_is_one_rows_own(folder: Folder) -> None:
    """Half the idle watts in truth: the row draws less, the other does not."""
    idle = next(part for part in bends.PARTS if part.words == "idle watts")
    found = cells(folder, FIXED, Row("bent", "fixed", bend=bends.truth(idle, 0.5)), Row("again", "fixed"))
    plain, bent, again = (found[label][0].score.energy_j for label in ("fixed", "bent", "again"))
    assert bent < plain == again


def test_limits_that_a_row_bends_are_those_that_it_is_scored_by(folder: Folder) -> None:
    """Nobody answers within a thousandth of 2,000 ms."""
    found = cells(folder, FIXED, Row("tight", "fixed", bend=bends.tighter(0.001)))
    assert found["fixed"][0].score.slo_met
    tight = found["tight"][0].score
    assert not tight.slo_met
    assert tight.policies[0].limits.ttft_s == pytest.approx((0.002,) * 3)


@pytest.mark.parametrize("slo", ["class", "chat"])
def test_the_limits_of_a_set_are_those_of_the_score(folder: Folder, slo: str) -> None:
    found = cells(folder, FIXED, asked=Options(slo=files.SloSet(slo)))
    held = found["fixed"][0].score.policies[0].limits
    assert held.ttft_s == ((0.25, 0.4, 2.0) if slo == "class" else (2.0, 2.0, 2.0))


def test_a_warm_replica_is_charged_to_its_row(folder: Folder) -> None:
    found = cells(folder, Row("cold"), Row("warm", warm=1))
    cold, warm = (found[label][0].score for label in ("cold", "warm"))
    assert warm.energy.idle_j > cold.energy.idle_j
    assert warm.overall.completed == warm.overall.arrived


def test_somebody_elses_autoscaler_has_no_warm_pool(folder: Folder) -> None:
    with pytest.raises(ValueError, match=r"x: only Capstan .* got keda-slo"):
        cells(folder, Row("x", "keda-slo", warm=1))


def test_a_part_of_the_run_alone_is_scored_where_the_beginning_is_left_out(folder: Folder) -> None:
    """300 requests in some 100 s, 3 a second: after 40 s about 180 are left; at most half of a run is left out."""
    for after_s, share in ((40.0, 0.6), (1800.0, 0.5)):
        experiment = dataclasses.replace(experiments.experiment(FIXED, figures=(ENERGY,)), after_s=after_s)
        found = room(folder, experiment).play()[1]["fixed"][0].score
        assert found.overall.arrived == pytest.approx(300 * share, rel=0.15)


# --- single-pool -------------------------------------------------------------------------------------


def test_single_pool_is_found_where_a_figure_needs_it_and_once_per_world(folder: Folder) -> None:
    told: list[str] = []
    experiment = experiments.experiment(FIXED, Row("again", "fixed"), figures=(SAVING,))
    asked = Options(profiles=folder.path / "profiles")
    made = Lab(experiment, folder.path / "scenario.yaml", asked, told=lambda what, _: told.append(what))
    found = made.play()[1]
    assert found["fixed"][0].single is not None
    assert found["fixed"][0].single == found["again"][0].single
    assert sum("single-pool" in what for what in told) == 1
    assert cells(folder, FIXED)["fixed"][0].single is None


def test_the_rate_of_a_fleet_is_the_highest_at_which_it_does_at_every_seed(folder: Folder) -> None:
    """One replica of 4 GPUs: each seed alone finds a rate; together the lowest of them, to the search's 1 %."""
    rates = []
    for seeds in ((1,), (2,), (1, 2)):
        made = room(folder, experiments.experiment(), Options(scale_rate="auto:1", seeds=seeds))
        made.play()
        rates.append(made.rate)
    assert rates[2] == pytest.approx(min(rates[:2]), rel=0.02)
    assert rates[0] != rates[1], "else nothing was to be decided"


# --- the oracle --------------------------------------------------------------------------------------


def test_every_row_of_a_seed_stands_beside_the_oracle_of_that_seed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds of 90 requests, a short search; the last row is the oracle itself, which captures all that it saves."""
    monkeypatch.setattr(oracle, "MOST_RUNS", oracle.LEAST_RUNS)
    experiment = dataclasses.replace(experiments.experiment(FIXED), figures=(ENERGY, SAVING))
    asked = Options(scale_rate="0.3", seeds=(1, 2))
    _, found = room(folder, catalog.with_oracle(experiment), asked).play()
    each = found["oracle"]
    assert [cell.oracle for cell in found["fixed"]] == [cell.score for cell in each]
    assert each[0].score.energy_j != each[1].score.energy_j
    for cell in each:
        assert cell.score.slo_met
        assert cell.single is not None
        assert cell.score.energy_j < cell.single.energy_j
        assert CAPTURED.of(Pair(cell, None)) == pytest.approx(1.0)


def test_without_an_oracle_no_row_has_one(folder: Folder) -> None:
    assert cells(folder, FIXED)["fixed"][0].oracle is None


def test_a_stage_per_seed_is_that_of_rows_without_a_flag(folder: Folder) -> None:
    made = room(folder, experiments.experiment(FIXED), Options(seeds=(1, 2), scale_rate="1.5"))
    counts = [(seed, len(stage.scenario.services[0].requests)) for seed, stage in made.stages()]
    assert [seed for seed, _ in counts] == [1, 2]
    _, played = room(folder, experiments.experiment(FIXED), Options(seeds=(1, 2), scale_rate="1.5")).play()
    assert [count for _, count in counts] == [cell.score.overall.arrived for cell in played["fixed"]]


# --- quick, and what cannot be ----------------------------------------------------------------------


def test_a_rehearsal_is_one_seed_and_says_so(folder: Folder) -> None:
    made = room(folder, experiments.experiment(FIXED), Options(seeds=(4, 5), scale_rate="1.5"), quick=True)
    _, found = made.play()
    assert len(found["fixed"]) == 1
    held = dict(lab.conditions(made))
    assert held["seeds"] == "4"
    assert "no result" in held["shortened"]


def test_a_rehearsal_is_cut_after_its_first_minutes(folder: Folder) -> None:
    assert room(folder, experiments.experiment(FIXED), quick=True).loaded.run.duration_seconds == lab.QUICK_S
    assert room(folder, experiments.experiment(FIXED)).loaded.run.duration_seconds is None


REFUSED = {
    "a system that nobody made": (Row("x", "magic"), AS_TOLD, "--systems: magic"),
    "more replicas than there is room for": (FIXED, Options(scale_rate="auto:4000"), "--scale-rate: auto:4000 asks"),
    "a rate in words": (FIXED, Options(scale_rate="much"), "--scale-rate: much"),
    "periods in the wrong order": (FIXED, Options(periods="5,60,300"), "--periods"),
}


@pytest.mark.parametrize(("row", "asked", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_played_names_the_flag(folder: Folder, row: Row, asked: Options, says: str) -> None:
    with pytest.raises(errors.Invalid, match=says):
        cells(folder, row, asked=asked)
