"""The catalogue: issue 5's list is there, every row can be read, and every comparison has its other half."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from capstan.api import errors
from capstan.optimize import case
from capstan.replay import load, play
from capstan.replay.experiments import bends, catalog, findings, scenes
from capstan.replay.experiments.kinds import Experiment, Row
from capstan.replay.experiments.lab import over
from capstan.replay.load import Loaded
from capstan.replay.options import Options

ASKED_FOR = {
    "systems", "ablation", "pools", "startup", "tightness", "margin", "predictor", "wrong-profile", "clock-response",
    "objectives", "contention", "shock", "long-context", "reasoning", "variants",
}  # fmt: skip


@functools.cache
def loaded(name: str) -> Loaded:
    """A shipped scenario, read."""
    return load.read(load.SHIPPED / "scenarios" / f"{name}.yaml")


def rows(experiment: Experiment) -> tuple[Row, ...]:
    return experiment.rows(loaded(experiment.scenario))


def test_every_experiment_of_the_issue_is_there() -> None:
    assert set(catalog.BY_NAME) == ASKED_FOR


each = pytest.mark.parametrize("experiment", catalog.EXPERIMENTS, ids=lambda experiment: experiment.name)


@each
def test_rows_have_labels_of_their_own_and_the_row_that_they_are_compared_with(experiment: Experiment) -> None:
    """`findings.of` refuses others; without a cell per row it never comes to reading one."""
    made = rows(experiment)
    assert any(row.shown for row in made)
    with pytest.raises(KeyError):
        findings.of(experiment, made, {})


@each
def test_every_system_is_one_that_can_be_played(experiment: Experiment) -> None:
    systems = [row.system for row in rows(experiment)]
    assert set(play.wanted(systems, loaded(experiment.scenario).systems)) == set(systems)


@each
def test_flags_of_rows_are_none_that_a_replay_would_refuse(experiment: Experiment) -> None:
    whole = loaded(experiment.scenario)
    for row in rows(experiment):
        over(over(Options(), experiment.asked), row.asked).over(whole.run, Path())


@each
def test_goals_are_about_rows_that_are_there(experiment: Experiment) -> None:
    labels = {row.label for row in rows(experiment)}
    for goal in experiment.goals:
        assert {goal.row, goal.beside} - {None} <= labels


def test_the_papers_six_systems_are_compared_with_the_best_fleet_that_never_moves() -> None:
    made = rows(catalog.SYSTEMS)
    assert [row.system for row in made if row.beside == "best-static"] == list(catalog.PAPERS)
    assert len(catalog.PAPERS) == 6


def test_pools_go_from_one_to_sixteen_which_need_sixteen_classes() -> None:
    made = rows(catalog.POOLS)
    assert [row.system for row in made] == ["capstan", *(f"pools-{n}" for n in (1, 2, 3, 4, 6, 9, 16))]
    whole = loaded("conversation-hour")
    edges = made[-1].asked.over(whole.run, Path()).edges
    assert not isinstance(edges, str)
    assert edges.count == 16


def test_each_part_of_a_profile_is_wrong_either_way_beside_the_same_truth_told() -> None:
    made = {row.label: row for row in rows(catalog.WRONG_PROFILE)}
    shown = [row for row in made.values() if row.shown]
    assert len(shown) == 2 * len(bends.PARTS)
    for row in shown:
        assert row.beside is not None
        assert not made[row.beside].shown


def test_every_start_is_played_with_and_without_a_warm_replica() -> None:
    made = [(row.asked.startup_s, row.warm) for row in rows(catalog.STARTUP)]
    assert made == [(seconds, warm) for warm in (0, 1) for seconds in (30, 60, 120, 240, 480)]


def test_the_margin_that_others_are_compared_with_is_the_shipped_one() -> None:
    assert case.Settings().slo_margin_ratio == catalog.SHIPPED_MARGIN
    assert catalog.SHIPPED_MARGIN in catalog.MARGINS


def test_variants_that_are_not_good_enough_have_no_row() -> None:
    """`small` has 0.694 of the 0.82 that are asked for."""
    assert [row.label for row in rows(scenes.VARIANTS)] == ["plain", "draft-3", "fp8", "cheapest"]


def test_an_intensity_that_is_given_replaces_both_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "carbon.csv"
    path.write_text("start_s,g_per_kwh\n0,300\n")
    scenario = load.SHIPPED / "scenarios" / "conversation-hour.yaml"
    made = catalog.OBJECTIVES.rows(load.read(scenario, Options(carbon_intensity=path)))
    assert [row.label.split(",")[0] for row in made] == ["joules", "cost", "carbon"]


@pytest.mark.parametrize("experiment", [catalog.SYSTEMS, catalog.ABLATION], ids=lambda experiment: experiment.name)
def test_the_oracle_comes_last_and_what_is_captured_of_it_beside_the_savings(experiment: Experiment) -> None:
    """Last, because its search begins with what the others had standing."""
    asked = catalog.with_oracle(experiment)
    assert [row.label for row in rows(asked)] == [*(row.label for row in rows(experiment)), "oracle"]
    names = [figure.name for figure in asked.figures]
    assert names[:4] == ["energy_j", "saving_ratio", "saving_fleet_ratio", "captured_ratio"]
    assert {*names} == {figure.name for figure in experiment.figures} | {"captured_ratio"}
    assert asked.baseline


@pytest.mark.parametrize(
    "experiment",
    [catalog.POOLS, catalog.STARTUP, catalog.MARGIN, catalog.CLOCK_RESPONSE],
    ids=lambda experiment: experiment.name,
)
def test_no_oracle_is_that_of_rows_in_different_worlds(experiment: Experiment) -> None:
    with pytest.raises(errors.Invalid, match=f"--oracle: rows of {experiment.name} .*; use it with systems"):
        rows(catalog.with_oracle(experiment))


NEEDS = {
    "contention without rivals": (scenes.CONTENTION, "one policy"),
    "shock without events": (scenes.SHOCK, "no events"),
    "variants without variants": (scenes.VARIANTS, "no variants"),
}


@pytest.mark.parametrize(("experiment", "says"), NEEDS.values(), ids=NEEDS)
def test_a_scenario_without_what_is_needed_is_refused(experiment: Experiment, says: str) -> None:
    with pytest.raises(errors.Invalid, match=f"--scenario: conversation-hour .*{says}.*; give one"):
        experiment.rows(loaded("conversation-hour"))
