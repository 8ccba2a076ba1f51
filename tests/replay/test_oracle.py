"""The oracle's search: it meets the SLO, loses to nothing it was shown, and finds what a brute force finds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model.policy import Bounds
from capstan.model.profile import Clocks
from capstan.model.slo import Slo
from capstan.replay.runs import Requests
from capstan.replay.searches import bound, fluid, hindsight, mixture, oracle
from capstan.replay.searches.demand import Limits
from capstan.replay.searches.lateness import Allowance
from capstan.replay.searches.plans import CLOCK_S, SLOT_S, Fleet, Plan
from capstan.replay.searches.schedule import Planner
from capstan.replay.searches.trial import Met, Trial, Tried
from support import builders
from support.planned import PlannedWorld, columns, with_tp
from support.replay import poisson

COARSE = Clocks(min_mhz=330, max_mhz=1980, step_mhz=165, v_min_ratio=0.72, knee_ratio=0.5)
TP4 = builders.profile(clocks=COARSE)  # eleven clocks: the bound walks all of them
TP8 = with_tp(TP4, 8)
SLO = Slo(1.0, 0.06)


def model(*, least: int = 1, degrees: tuple[int, ...] = (4, 8)) -> fluid.Model:
    return fluid.Model((TP4, TP8), SLO, Bounds(least, 6, None, degrees), 48)


def day_and_night() -> Requests:
    """Two minutes of much, two minutes of little."""
    busy, quiet = poisson(240, rate_rps=2.0, prompt=700, output=40), poisson(24, rate_rps=0.2, prompt=700, output=40)
    rows = [(r.arrival_s, r) for r in busy if r.arrival_s < 120] + [(120 + r.arrival_s, r) for r in quiet]
    arrival_s, requests = zip(*rows, strict=True)
    every = columns(requests)
    return Requests(np.array(arrival_s), every.prompt_tokens, every.output_tokens)


REQUESTS = day_and_night()
LIMITS = Limits.flat(REQUESTS, ttft_s=SLO.ttft_s, tpot_s=SLO.tpot_s)


def test_it_meets_the_slo_and_beats_the_best_fixed_fleet_where_load_varies() -> None:
    world = PlannedWorld((TP4, TP8), REQUESTS, LIMITS)
    static = hindsight.best_static(world, model(), REQUESTS, runs=20)
    assert static is not None
    found = oracle.search(world, Planner(model(), REQUESTS), REQUESTS, candidates=[static.plan], runs=14)
    assert found.tried is not None
    again = PlannedWorld((TP4, TP8), REQUESTS, LIMITS)(found.tried.plan)
    assert again.slo_met
    assert again.energy_j == pytest.approx(found.tried.trial.energy_j)
    assert again.energy_j < static.trial.energy_j
    least_j = bound.of(REQUESTS, LIMITS, (TP4, TP8), Bounds(1, 6, None, (4, 8))).energy_j
    gap_ratio = found.gap_ratio(least_j)
    assert gap_ratio is not None
    assert 0 <= gap_ratio < 1


def test_it_never_loses_to_a_plan_that_it_was_shown() -> None:
    """Even without a single run of its own."""
    world = PlannedWorld((TP4, TP8), REQUESTS, LIMITS)
    shown = [Plan.fixed(8, 2), Plan.fixed(8, 1, 1485.0), Plan((Fleet(8, 1), Fleet(4, 1)), (1485.0,), 120.0)]
    found = oracle.search(world, Planner(model(), REQUESTS), REQUESTS, candidates=shown, runs=0)
    met = [trial.energy_j for trial in map(world, shown) if trial.slo_met]
    assert met
    assert found.tried is not None
    assert found.tried.trial.energy_j <= min(met)
    assert found.runs == len(shown)


def test_where_nothing_meets_the_slo_it_says_so() -> None:
    strict = Limits.flat(REQUESTS, ttft_s=0.001, tpot_s=0.06)
    world = PlannedWorld((TP4, TP8), REQUESTS, strict)
    found = oracle.search(world, Planner(model(), REQUESTS), REQUESTS, runs=3)
    assert found.tried is None
    assert found.gap_ratio(1.0) is None
    assert found.runs == 3


def test_the_same_search_finds_the_same_plan() -> None:
    searches = [
        oracle.search(PlannedWorld((TP8,), REQUESTS, LIMITS), Planner(model(degrees=(8,)), REQUESTS), REQUESTS, runs=8)
        for _ in range(2)
    ]
    first, second = (found.tried for found in searches)
    assert first is not None
    assert second is not None
    assert first.plan == second.plan
    assert searches[0].steps == searches[1].steps


@pytest.mark.parametrize(("requests", "runs"), [(20_000, 160), (250_000, 100), (27_000_000, 12)])
def test_long_traces_get_fewer_runs(requests: int, runs: int) -> None:
    assert oracle.runs_for(requests) == runs


def test_no_slot_is_empty_while_somebody_arrives_in_it() -> None:
    sparse = Requests(np.array([5.0, 250.0]), np.array([100, 100]), np.array([10, 10]))
    planner = Planner(model(least=0), sparse)
    sizes = [planner.at(1.0, (8,), 1.0).fleet(slot * SLOT_S).replicas for slot in range(len(planner))]
    assert sizes == [1, 0, 0, 0, 1]


# --- mixtures ----------------------------------------------------------------------------------------


def tried(plan: Plan, joules: list[float], good: list[bool]) -> Tried:
    ticks = np.repeat(np.array(joules) / mixture.TICKS, mixture.TICKS)
    kept = np.array(good)
    return Tried(plan, Trial(bool(kept.all()), sum(joules), float(kept.mean()), kept, ticks))


def test_a_mixture_takes_each_slot_where_it_was_cheapest_and_nobody_was_late() -> None:
    """Ten slots in two windows; the cheap plan is late in the third slot only."""
    requests = Requests(np.arange(1.0, 601.0, 60.0), np.full(10, 10), np.full(10, 10))
    cheap = tried(Plan.fixed(4, 1), [1.0] * 10, [True, True, False, *[True] * 7])
    dear = tried(Plan.fixed(8, 2, 990.0), [3.0] * 10, [True] * 10)
    table = mixture.rows([cheap, dear], Allowance(requests, 0.99), 10)
    by_slot = mixture.mix(table, np.zeros(2), by_window=False)
    assert [fleet.replicas for fleet in by_slot.fleets] == [1, 1, 2, 1, 1, 1, 1, 1, 1, 1]
    assert by_slot.clock_cap_mhz(2 * SLOT_S + CLOCK_S) == 990.0
    by_window = mixture.mix(table, np.zeros(2), by_window=True)
    assert [fleet.replicas for fleet in by_window.fleets] == [2] * 5 + [1] * 5
    allowed = mixture.mix(table, np.ones(2), by_window=False)
    assert [fleet.replicas for fleet in allowed.fleets] == [1] * 10


def test_allowances_sum_to_no_more_than_the_slo_allows() -> None:
    requests = columns(poisson(2000, rate_rps=3.0))
    allowance = Allowance(requests, 0.99)
    assert allowance.allowed.sum() <= 0.01 * 2000
    assert allowance.kept(np.ones(2000, dtype=np.bool_)).all()
    assert not allowance.kept(np.zeros(2000, dtype=np.bool_)).any()


# --- more load never costs less ----------------------------------------------------------------------


def fluid_j(requests: Requests) -> float:
    """Joules of the fluid oracle: each minute at its cheapest fleet and clock within the limits."""
    own = model()
    loads = fluid.loads(requests, SLOT_S)
    joules = 0.0
    for slot in range(len(loads)):
        load = loads.workload(slot)
        options = [
            own.option(Fleet(tp, count), load, mhz)
            for tp in own.degrees()
            for count in range(1, own.most(tp) + 1)
            for mhz in own.clocks_mhz(tp)[::6]
        ]
        joules += min(o.watts for o in options if o.stress_ratio <= 1) * SLOT_S
    return joules


@settings(max_examples=8)
@given(st.integers(1, 50), st.integers(1, 40))
def test_more_load_never_lowers_the_fluid_oracles_joules(seed: int, more: int) -> None:
    """Of equal requests: shorter ones among them lower the mean length, and with it the quantile of latencies."""
    drawn = poisson(40 + more, rate_rps=0.5, seed=seed)
    rows = [dataclasses.replace(row, prompt_tokens=700, output_tokens=60) for row in drawn]
    chosen = sorted(range(len(rows)), key=lambda i: (i * 7919) % len(rows))[:40]
    fewer = columns([rows[i] for i in sorted(chosen)])
    assert fluid_j(fewer) <= fluid_j(columns(rows)) * (1 + 1e-9)


def test_a_stretch_keeps_every_token_that_is_asked_for() -> None:
    loads = fluid.loads(REQUESTS, 5.0)
    assert loads.arrivals.sum() == len(REQUESTS)
    assert loads.prompt_tokens.sum() == REQUESTS.prompt_tokens.sum()
    assert loads.decode_tokens.sum() == pytest.approx(REQUESTS.output_tokens.sum())


def test_the_plan_of_least_watts_draws_no_more_than_the_plan_that_only_chooses_sizes() -> None:
    """By the model's own figures, slot by slot: it may choose the size and the clock of the other plan too."""
    busy = Requests(np.linspace(0.0, 600.0, 3000), np.full(3000, 800), np.full(3000, 150))
    planner = Planner(model(), busy)
    loads = fluid.loads(busy, SLOT_S)

    def watts(plan: Plan) -> float:
        total = 0.0
        for slot in range(len(planner)):
            fleet, mhz = plan.fleet(slot * SLOT_S), plan.clock_cap_mhz(slot * SLOT_S)
            full_mhz = planner.model.profile(fleet.tp).clocks.max_mhz
            total += planner.model.option(fleet, loads.workload(slot), mhz or full_mhz).watts
        return total

    assert watts(planner.least(1.0)) <= watts(planner.at(1.0, planner.model.degrees(), 1.0)) * (1 + 1e-9)


def test_of_the_plans_that_met_the_slo_the_cheapest_with_few_enough_late_requests_is_given() -> None:
    """Pools that each just meet it may miss it together: then those with room take their place."""
    plans = [Plan.fixed(4, count) for count in (1, 2, 3)]
    met = tuple(Met(plan, j, late) for plan, j, late in zip(plans, (1.0, 2.0, 3.0), (0.89, 0.7, 0.2), strict=True))
    found = oracle.Found(None, 3, (), met)
    assert [one and one.plan for one in map(found.within, (0.9, 0.75, 0.6, 0.1))] == [*plans, None]
