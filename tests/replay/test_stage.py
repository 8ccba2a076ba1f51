"""A scenario with its searches: what a fixed fleet costs, what the oracle may do, and how a trial is scored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from capstan.model.classes import Edges
from capstan.model.policy import Bounds, Pools
from capstan.model.slo import Slo
from capstan.replay import engine
from capstan.replay import stage as stages
from capstan.replay.scores import limits, score
from capstan.replay.searches import plans
from capstan.replay.searches.plans import Plan, Scheduled
from capstan.replay.seen import Want
from capstan.replay.stage import Stage
from support import small
from support.small import KEY, Scripted

LOADED = small.requests(400, 10.0)


@pytest.fixture(scope="module")
def stage() -> Stage:
    """A minute at 10 rps: more than one replica of tp 4 needs."""
    return Stage(small.scenario(LOADED, servers=3))


def test_single_pool_is_the_smallest_fleet_of_the_largest_tp_that_meets_the_slo(stage: Stage) -> None:
    run = stage.single_pool()
    series = run.services[0].series
    count = int(series.replicas_desired[0])
    assert set(series.tp.tolist()) == {8}
    assert np.isnan(series.clock_cap_mhz).all()
    assert [stage.meets(n) for n in range(1, count + 1)] == [False] * (count - 1) + [True]
    assert score.of(run).slo_met


def test_best_static_never_costs_more_than_single_pool_and_keeps_the_slo(stage: Stage) -> None:
    static, pool = score.of(stage.best_static()), score.of(stage.single_pool())
    assert static.slo_met
    assert static.energy_j <= pool.energy_j
    assert (static.reconfigurations, pool.reconfigurations) == (0, 0)


def test_the_oracle_is_not_above_what_it_may_copy_and_keeps_the_slo(stage: Stage) -> None:
    others = [stage.single_pool(), stage.best_static()]
    run = stage.oracle(others, lambda _: None)
    found = score.of(run)
    assert found.slo_met
    assert found.energy_j <= min(score.of(other).energy_j for other in others) * (1 + 1e-9)
    assert run.services[0].energy.transition_j == 0, "it changes at once and for nothing"
    assert dict(run.settings)["oracle's search"].endswith("runs")


def test_a_search_tells_how_far_it_is(stage: Stage) -> None:
    told: list[float] = []
    stage.oracle([], told.append)
    assert told == sorted(told)
    assert 0 < told[0] <= told[-1] <= 1


def test_a_trials_joules_by_tick_are_the_runs_and_its_verdict_is_the_scores(stage: Stage) -> None:
    plan = Plan.fixed(4, 2)
    trial = stage.evaluate(stage.scenario, instant=False)(plan)
    run = engine.run(stage.scenario, Scheduled("plan", {KEY: plans.whole(plan)}))
    scored = score.of(run)
    assert (trial.slo_met, trial.energy_j) == (scored.slo_met, scored.energy_j)
    assert trial.tick_j.sum() == pytest.approx(trial.energy_j, rel=1e-9)
    assert len(trial.tick_j) == int(np.ceil(run.duration_s / 5.0))
    assert trial.good.mean() == pytest.approx(trial.attainment_ratio)


def test_a_set_of_limits_is_what_everything_is_scored_by() -> None:
    """A fleet that keeps 2 s for all does not keep 250 ms for short prompts behind long ones."""
    swamped = small.scenario(small.requests(400, 7.0))
    sets = (limits.SloSet.SCENARIO, limits.SloSet.CLASS)
    own, classes = (Stage(swamped, held).evaluate(swamped, instant=False)(Plan.fixed(4, 1)) for held in sets)
    assert classes.attainment_ratio < own.attainment_ratio
    assert classes.energy_j == own.energy_j


def test_playing_a_system_leaves_the_stage_as_it_was(stage: Stage) -> None:
    before = stage.single_pool().services[0].energy
    stage.play(Scripted({10.0: Want(KEY, 4, 1)}))
    assert stage.single_pool().services[0].energy == before
    assert stage.scenario.services[0].policy.bounds == Bounds(1, 4, tensor_parallel=(4, 8))


def test_of_a_long_trace_a_few_hours_say_which_classes_share_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """One split is searched, however near the others are: here that of the whole trace, all in its only hour."""
    made = small.scenario(small.requests(300, 3.0), servers=3)
    edges = Edges((256,), ())
    policy = dataclasses.replace(
        made.services[0].policy, slo=Slo(2.0, 0.1, 0.9), pools=Pools(by_class=True, edges=edges)
    )
    apart = Stage(dataclasses.replace(made, services=(dataclasses.replace(made.services[0], policy=policy),)))
    whole = min(apart.splits(0), key=lambda one: apart.static_j(0, one))
    monkeypatch.setattr(stages, "REACH_RATIO", 1e9)
    search = stages._Search(apart, 0, [], lambda _: None)
    assert search._near(apart.splits(0)) == [*apart.splits(0)]
    monkeypatch.setattr(stages, "LONG_S", 10.0)
    assert search._near(apart.splits(0)) == [whole]
    run = apart.oracle([], lambda _: None)
    assert tuple(sorted(lane.classes for lane in run.services[0].lanes)) == (whole if len(whole) > 1 else ())
    assert score.of(run).slo_met


@pytest.mark.parametrize("clock_cap_mhz", [None, 600.0, 345.0])
def test_a_trial_says_how_many_of_the_late_requests_that_may_be_it_had(
    stage: Stage, clock_cap_mhz: float | None
) -> None:
    """One in a hundred of 400 may be late."""
    trial = stage.evaluate(stage.lane(0, stage.splits(0)[0][0]), instant=True)(Plan.fixed(4, 2, clock_cap_mhz))
    assert trial.late_ratio == pytest.approx(np.count_nonzero(~trial.good) / 4.0)
    assert trial.slo_met is (trial.late_ratio <= 1 and trial.attainment_ratio >= 0.99)
