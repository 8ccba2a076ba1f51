"""Searches over fixed fleets, against worlds made up of rules and against the reference engine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model.policy import Bounds
from capstan.model.slo import Slo
from capstan.replay.runs import Requests
from capstan.replay.searches import fluid, hindsight, steady_check
from capstan.replay.searches.demand import Limits
from capstan.replay.searches.plans import Plan
from capstan.replay.searches.trial import Budget, Spent, Trial
from support import builders
from support.planned import PlannedWorld, columns, with_tp
from support.replay import poisson

TP4 = builders.profile()
TP8 = with_tp(TP4, 8)
REQUESTS = columns(poisson(150, rate_rps=3.0, prompt=600, output=60))
EVERY = np.ones(len(REQUESTS), dtype=np.bool_)


def model(*, most_gpus: int = 64, degrees: tuple[int, ...] = (4, 8), least: int = 1) -> fluid.Model:
    bounds = Bounds(min_replicas=least, max_replicas=12, tensor_parallel=degrees)
    return fluid.Model((TP4, TP8), Slo(2.0, 0.1), bounds, most_gpus)


def rule(meets: Callable[[Plan], bool], joules: Callable[[Plan], float]) -> Callable[[Plan], Trial]:
    """A world that is two formulas."""
    return lambda plan: Trial(meets(plan), joules(plan), 1.0, EVERY, np.array([joules(plan)]))


def gpus(plan: Plan) -> float:
    return float(plan.fleets[0].gpus)


@settings(max_examples=100)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_the_smallest_count_is_found_from_any_guess_and_its_neighbour_was_run(
    needs: int, guess: int, most: int
) -> None:
    budget = Budget(rule(lambda plan: plan.fleets[0].replicas >= needs, gpus), 60)
    found = hindsight.smallest(budget, 4, None, guess=guess, most=most)
    run = {tried.plan.fleets[0].replicas for tried in budget.tried}
    if needs > most:
        assert found is None
        assert most in run
    else:
        assert found == needs
        assert needs == 1 or needs - 1 in run
    assert budget.used <= 12


def test_single_pool_is_of_the_largest_tp_at_full_clock_and_no_smaller_one_meets_the_slo() -> None:
    """Checked against every count, in the reference engine."""
    world = PlannedWorld((TP4, TP8), REQUESTS, Limits.flat(REQUESTS, ttft_s=0.4, tpot_s=0.05))
    found = hindsight.single_pool(world, model(), REQUESTS)
    fleet = found.tried.plan.fleets[0]
    assert found.met
    assert fleet.tp == 8
    assert found.tried.plan.clocks_mhz == (None,)
    assert [world(Plan.fixed(8, count)).slo_met for count in range(1, fleet.replicas + 1)] == [False] * (
        fleet.replicas - 1
    ) + [True]


def test_a_fleet_that_cannot_meet_the_slo_is_returned_whole_and_says_so() -> None:
    found = hindsight.single_pool(rule(lambda _: False, gpus), model(most_gpus=24), REQUESTS)
    assert not found.met
    assert found.tried.plan == Plan.fixed(8, 3)


def test_a_fleet_without_room_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no tensor-parallel degree of the bounds fits the fleet"):
        hindsight.single_pool(rule(lambda _: True, gpus), model(most_gpus=2), REQUESTS)


def test_the_best_static_fleet_is_the_cheapest_of_all_that_meet_the_slo() -> None:
    """Against every (tp, count, rung) of the same grid, in a made-up world with a trade between count and clock."""

    def speed(plan: Plan) -> float:
        return math.pow(plan.fleets[0].gpus, 0.9) * ((plan.clocks_mhz[0] or 1980.0) / 1980.0)

    def joules(plan: Plan) -> float:
        return plan.fleets[0].gpus * (1 + 5 * ((plan.clocks_mhz[0] or 1980.0) / 1980.0) ** 3)

    evaluate = rule(lambda plan: speed(plan) >= 9.0, joules)
    found = hindsight.best_static(evaluate, model(), REQUESTS, runs=400)
    rungs = [None, *(TP4.clocks.snapped_mhz(ratio * 1980) for ratio in hindsight.LADDER[1:])]
    grid = [Plan.fixed(tp, n, mhz) for tp, n, mhz in itertools.product((4, 8), range(1, 13), rungs) if tp * n <= 64]
    best_j = min(joules(plan) for plan in grid if speed(plan) >= 9.0)
    assert found is not None
    assert found.trial.slo_met
    assert found.trial.energy_j <= best_j * 1.02


def test_the_best_clock_between_two_rungs_is_found() -> None:
    """Two replicas of tp 8 from 1,490 MHz on; rungs are 99 MHz apart, and 1,485 misses."""

    def meets(plan: Plan) -> bool:
        return gpus(plan) == 16 and (plan.clocks_mhz[0] or 1980.0) >= 1490.0

    def joules(plan: Plan) -> float:
        return gpus(plan) * ((plan.clocks_mhz[0] or 1980.0) / 1980.0)

    found = hindsight.best_static(rule(meets, joules), model(degrees=(8,)), REQUESTS)
    assert found is not None
    mhz = found.plan.clocks_mhz[0]
    assert mhz is not None
    assert 1490.0 <= mhz <= 1490.0 + hindsight.FINE_MHZ


def test_where_no_fixed_fleet_meets_the_slo_there_is_none() -> None:
    assert hindsight.best_static(rule(lambda _: False, gpus), model(), REQUESTS) is None


def test_a_budget_counts_runs_once_and_ends() -> None:
    budget = Budget(rule(lambda plan: gpus(plan) > 4, gpus), 2)
    assert budget.run(Plan.fixed(4, 1)).slo_met is False
    assert budget.run(Plan.fixed(4, 1)).slo_met is False
    assert budget.best is None
    budget.run(Plan.fixed(8, 1))
    assert budget.best is not None
    assert budget.best.plan == Plan.fixed(8, 1)
    with pytest.raises(Spent):
        budget.run(Plan.fixed(8, 2))


def test_the_steady_trace_has_its_tokens_per_second() -> None:
    lengths = np.array([100, 2000]), np.array([50, 400])
    requests = steady_check.steady(4000.0, *lengths, duration_s=4000.0)
    tokens = int((requests.prompt_tokens + requests.output_tokens).sum())
    assert tokens / 4000.0 == pytest.approx(4000.0, rel=0.05)
    assert (np.diff(requests.arrival_s) >= 0).all()


def test_the_steady_check_prints_a_line_per_load_and_never_a_negative_saving() -> None:
    """The oracle is shown the server at full clock, so it cannot use more."""
    lengths = REQUESTS.prompt_tokens, REQUESTS.output_tokens

    def world(requests: Requests) -> PlannedWorld:
        return PlannedWorld((TP8,), requests, Limits.flat(requests, ttft_s=2.0, tpot_s=0.1))

    (line,) = steady_check.check(world, model(most_gpus=8, degrees=(8,)), lengths, runs=6, loads=((100.0, 0.57),))
    assert line.saving_ratio is not None
    assert 0 <= line.saving_ratio < 1
    assert "57%" in steady_check.table((line,))
    with pytest.raises(ValueError, match="one server of 8 GPUs"):
        steady_check.check(world, model(), lengths)
