"""A forecast of the whole, and what each pool has of it."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import decide
from capstan.forecast import history, known, peak
from capstan.forecast.calendar import Calendar
from capstan.forecast.peak import Rates
from capstan.model import fleet, plan
from capstan.model.policy import Pools
from capstan.model.sample import Fresh
from capstan.optimize import foresight
from capstan.optimize.case import Case
from support.builders import CHAT, policy, profile

HOURLY = Calendar(slot_s=60.0, slots_per_day=60, origin_s=0.0)
PERIODS = decide.Settings(cluster_period_s=120, pool_period_s=60, lookback_s=120, rate_window_s=30, calendar=HOURLY)
NOW_S = 8 * 3600.0 + 1200.0
STEADY_RPS = 20.0
KNOWN = known.of(
    CHAT, history.of_rates(HOURLY, [(30.0 * (n + 1), STEADY_RPS) for n in range(8 * 120)]), horizon_slots=2
)


def rates(rps: float, *, until_s: float = NOW_S) -> Rates:
    return tuple((until_s - 5.0 * back, rps) for back in range(24, -1, -1))


def pool(name: str, codes: tuple[int, ...], rps: float, *, until_s: float = NOW_S) -> Case:
    subject = policy(pools=Pools(by_class=True))
    memory = plan.PoolMemory(name, rates=rates(rps, until_s=until_s), lengths=(500.0, 100.0, 0.3))
    seen = fleet.ServiceObserved(CHAT, (), arrival_rps=Fresh(rps, 1.0))
    return Case(NOW_S, subject, subject.slo, name, codes, seen, (), (profile(startup_s=30),), memory, PERIODS)


def demand(code: int, rps: float) -> fleet.ClassDemand:
    return fleet.ClassDemand(code, rps, 500.0, 100.0)


SHORT, LONG = (0, 1, 2), (3, 4, 5, 6, 7, 8)


def foreseen(cases: tuple[Case, ...], *classes: fleet.ClassDemand) -> list[float]:
    found = foresight.of(cases, classes, KNOWN, None)
    assert found.tracker is not None
    return [case.foreseen_rps or 0.0 for case in found.cases]


def test_one_pool_has_all_of_the_peak() -> None:
    (alone,) = foreseen((pool("all", (), STEADY_RPS),))
    assert alone > STEADY_RPS
    assert alone < 1.5 * STEADY_RPS


def test_pools_share_the_peak_as_classes_do_with_room_for_chance() -> None:
    """A quarter and three quarters of P: each P p + 2 sqrt(P p (1 - p) / 30 s), which is the same room for both."""
    (whole,) = foreseen((pool("all", (), STEADY_RPS),))
    cases = (pool("s", SHORT, 5.0), pool("ml", LONG, 15.0))
    short, long = foreseen(cases, demand(0, 5.0), demand(4, 9.0), demand(8, 6.0))
    room = peak.GUARD_SIGMAS * math.sqrt(whole * 0.25 * 0.75 / PERIODS.rate_window_s)
    assert short == pytest.approx(0.25 * whole + room)
    assert long == pytest.approx(0.75 * whole + room)


def test_a_pools_own_burst_is_not_lost_in_the_whole() -> None:
    """Usually a tenth of 20 rps; now 8 rps of them are short: what is seen now asks for more than its share."""
    cases = (pool("s", SHORT, 8.0), pool("ml", LONG, 12.0))
    short, _ = foreseen(cases, demand(0, 2.0), demand(4, 18.0))
    assert short >= 8.0


def test_without_demand_per_class_the_last_rates_share() -> None:
    short, long = foreseen((pool("s", SHORT, 5.0), pool("ml", LONG, 15.0)))
    assert short < long
    nobody = foreseen((pool("s", SHORT, 0.0), pool("ml", LONG, 0.0)))
    assert nobody[0] == nobody[1]


def test_what_is_not_seen_now_is_not_forecast() -> None:
    """Prometheus has been silent for a minute: the tracker goes on, the pools have no forecast."""
    found = foresight.of((pool("all", (), STEADY_RPS, until_s=NOW_S - 60.0),), (), KNOWN, None)
    assert [case.foreseen_rps for case in found.cases] == [None]
    assert found.drifted is False


def test_without_a_history_nothing_is_touched() -> None:
    cases = (pool("all", (), STEADY_RPS),)
    found = foresight.of(cases, (), None, KNOWN.tracker)
    assert (found.cases, found.tracker, found.drifted) == (cases, KNOWN.tracker, None)
    short = dataclasses.replace(KNOWN, template=dataclasses.replace(KNOWN.template, typical_rps=()))
    assert foresight.of(cases, (), short, None) == foresight.Foresight(cases, None, None)


@settings(max_examples=40)
@given(st.floats(0.0, 1.0), st.floats(0.0, 40.0))
def test_pools_together_are_ready_for_the_whole(share: float, rps: float) -> None:
    """However classes are shared, and whatever is seen now: no request of the peak is without a place."""
    (whole,) = foreseen((pool("all", (), rps),))
    cases = (pool("s", SHORT, share * rps), pool("ml", LONG, (1 - share) * rps))
    assert sum(foreseen(cases, demand(0, share), demand(8, 1 - share))) >= whole * (1 - 1e-9)


# --- surges, where no history tells more -------------------------------------------------------------


def surging(*, power_budget_w: float | None = None) -> Case:
    """1 rps, and now 9 rps, each over 30 s: 2 x 1 + 3 sqrt(2 x 9 / 30) = 4.3 is exceeded."""
    case = pool("all", (), 1.0)
    memory = dataclasses.replace(case.memory, rates=(*case.memory.rates[:-1], (NOW_S, 9.0)))
    budgeted = dataclasses.replace(case.policy, power_budget_w=power_budget_w)
    return dataclasses.replace(case, memory=memory, policy=budgeted)


def test_a_surge_is_expected_again_at_full_clock() -> None:
    """9 + 3 sqrt(9 / 30) = 10.64 over the window; the jump of 8 rps within 5 s was 8 x 30 / 15 = 16 rps over 15 s."""
    (case,) = foresight.of((surging(),), (), None, None).cases
    assert case.foreseen_rps == pytest.approx(16.0)
    assert case.policy.bounds.min_clock_mhz == case.profiles[0].clocks.max_mhz


def test_under_a_power_budget_a_surge_moves_no_clock() -> None:
    (case,) = foresight.of((surging(power_budget_w=5000.0),), (), None, None).cases
    assert case.foreseen_rps == pytest.approx(16.0)
    assert case.policy.bounds.min_clock_mhz is None


def test_a_forecast_knows_better_than_the_last_minutes() -> None:
    (case,) = foresight.of((surging(),), (), KNOWN, None).cases
    assert case.policy.bounds.min_clock_mhz is None


def test_a_pool_that_nobody_has_seen_does_not_surge() -> None:
    case = pool("all", (), 1.0)
    unseen = dataclasses.replace(case, memory=dataclasses.replace(case.memory, rates=()))
    assert foresight.of((unseen,), (), None, None).cases == (unseen,)
