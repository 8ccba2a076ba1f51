"""The decision with a history: replicas start before a rise that the template knows, and stay when one is near."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import decide
from capstan.forecast import history, known
from capstan.forecast.calendar import Calendar
from capstan.forecast.known import Known
from capstan.model import fleet, plan
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing
from capstan.model.workload import Workload
from capstan.optimize import sizing
from support.builders import CHAT, H100, policy, profile

HOURLY = Calendar(slot_s=60.0, slots_per_day=60, origin_s=0.0)
"""A day of an hour in slots of a minute; a week is seven of them."""

DAY_S = 3600.0
RISE_S = 1800.0  # in each day, from QUIET to BUSY; back at midnight
PERIODS = decide.Settings(
    cluster_period_s=60, pool_period_s=60, lookback_s=120, rate_window_s=30, instance_period_s=5, calendar=HOURLY
)
CAPACITY_RPS = sizing.capacity_rps(profile(), Workload(0, 1155, 211), policy().slo)
QUIET_RPS, BUSY_RPS = 0.4 * CAPACITY_RPS, 2.6 * CAPACITY_RPS


def usual_rps(t_s: float) -> float:
    return QUIET_RPS if t_s % DAY_S < RISE_S else BUSY_RPS


def past(subject: Policy, profiles: tuple[Profile, ...], *, days: int = 8, periods: decide.Settings = PERIODS) -> Known:
    """The same step every day, told up to the midnight that ends the last of `days`."""
    samples = [(30.0 * (n + 1), usual_rps(30.0 * n)) for n in range(int(days * DAY_S / 30))]
    slots = decide.horizon_slots(subject, profiles, periods, gpu_product=H100)
    return known.of(subject.key, history.of_rates(HOURLY, samples), horizon_slots=slots)


class Service:
    """One policy through cycles from a moment on, with replicas that are Ready as soon as they are asked for."""

    def __init__(
        self, *, startup_s: float, begin_s: float, history: bool = True, periods: decide.Settings = PERIODS
    ) -> None:
        self.policy, self.periods = policy(), periods
        self.profiles = (profile(startup_s=startup_s),)
        self.known = (past(self.policy, self.profiles, periods=periods),) if history else ()
        self.memory = plan.Memory()
        self.now_s = begin_s
        self.replicas = 1

    def cycle(self, arrival: Fresh[float] | Missing | None = None) -> plan.PolicyDecision:
        seen = fleet.ServiceObserved(
            CHAT,
            (fleet.PoolObserved("all", 4, desired=self.replicas, ready=self.replicas),),
            arrival_rps=arrival or Fresh(usual_rps(self.now_s - 30.0), 1.0),
            prompt_tokens=Fresh(1155.0, 1.0),
            output_tokens=Fresh(211.0, 1.0),
            waiting=Fresh(0.0, 1.0),
            gpu_product=H100,
        )
        observed = fleet.Observed(self.now_s, (seen,))
        decision = decide.decide(observed, (self.policy,), self.profiles, self.memory, self.periods, self.known)
        self.memory, self.now_s = decision.memory, self.now_s + self.periods.instance_period_s
        self.replicas = decision.policies[0].pools[0].replicas
        return decision.policies[0]

    def until(self, t_s: float) -> list[tuple[float, plan.PolicyDecision]]:
        """Return each cycle's time and decision up to a moment."""
        told = []
        while self.now_s < t_s:
            told.append((self.now_s, self.cycle()))
        return told


BEGIN_S = 8 * DAY_S + 600.0
TODAY_S = 8 * DAY_S + RISE_S


@pytest.mark.parametrize(
    ("startup_s", "periods", "horizon_s"),
    [
        pytest.param(30.0, dataclasses.replace(PERIODS, cluster_period_s=180), 180.0, id="an epoch is the longer"),
        pytest.param(120.0, PERIODS, 240.0, id="two start-ups are the longer"),
    ],
)
def test_replicas_start_before_the_templates_rise(startup_s: float, periods: decide.Settings, horizon_s: float) -> None:
    """2.6 replicas' load comes at half past: three are asked for a start-up ahead at least, a horizon ahead at most.

    The template is smoothed over two slots on either side, so that the rise comes into sight up to two slots earlier;
    and a horizon may begin within a slot, so that it ends within one.
    """
    service = Service(startup_s=startup_s, begin_s=BEGIN_S, periods=periods)
    asked = [(t_s, told) for t_s, told in service.until(TODAY_S) if told.pools[0].replicas >= 3]
    first_s, first = asked[0]
    assert startup_s <= TODAY_S - first_s <= horizon_s + 3 * HOURLY.slot_s
    assert first.replicas_reason is Reason.FORECAST_PEAK
    assert first.forecast_rps is not None
    assert first.forecast_rps > 2 * CAPACITY_RPS


def test_without_a_history_the_rise_is_met_when_it_is_seen() -> None:
    service = Service(startup_s=90.0, begin_s=BEGIN_S, history=False)
    assert {told.pools[0].replicas for _, told in service.until(TODAY_S)} == {1}


def test_nothing_is_given_up_shortly_before_a_rise() -> None:
    """Three stand in a quiet night: they fall in its midst, and not within a horizon of the rise."""
    early, late = Service(startup_s=90.0, begin_s=BEGIN_S), Service(startup_s=90.0, begin_s=TODAY_S - 170.0)
    early.replicas = late.replicas = 3
    assert min(told.pools[0].replicas for _, told in early.until(TODAY_S - 400.0)) == 1
    assert {told.pools[0].replicas for _, told in late.until(TODAY_S)} == {3}


def test_a_fall_that_the_template_knows_is_followed_and_not_waited_for() -> None:
    """After midnight the quiet half begins; the next rise is half an hour away."""
    service = Service(startup_s=15.0, begin_s=9 * DAY_S - 300.0)
    service.replicas = 3
    assert service.until(9 * DAY_S)[-1][1].pools[0].replicas >= 3
    assert service.until(9 * DAY_S + 420.0)[-1][1].pools[0].replicas == 1


def test_a_past_of_minutes_is_decided_as_none() -> None:
    """Less than half a day: no template; every decision and every memory is that of an operator without a past."""
    short = Service(startup_s=15.0, begin_s=BEGIN_S)
    little = [(30.0 * (n + 1), 1.0) for n in range(20)]
    short.known = (known.of(CHAT, history.of_rates(HOURLY, little), horizon_slots=1),)
    none = Service(startup_s=15.0, begin_s=BEGIN_S, history=False)
    for _ in range(60):
        assert short.cycle() == none.cycle()
        assert short.memory == none.memory


def test_blind_with_a_history_nothing_is_removed_and_nothing_is_forecast() -> None:
    service = Service(startup_s=15.0, begin_s=TODAY_S + 600.0)
    service.replicas = 3
    service.cycle()
    blind = [service.cycle(Missing(Reason.SOURCE_DOWN)) for _ in range(60)]
    assert {told.pools[0].replicas for told in blind} == {3}
    assert {(told.replicas_reason, told.forecast_rps) for told in blind} == {(Reason.SOURCE_DOWN, None)}


def test_a_load_that_has_left_its_pattern_is_told() -> None:
    """As quiet as ever after the rise, for the whole of a day: the template errs, the last value does not."""
    service = Service(startup_s=15.0, begin_s=BEGIN_S)
    assert service.cycle().forecast_drifted is False
    for _ in range(int(DAY_S / 5)):
        last = service.cycle(Fresh(QUIET_RPS, 1.0))
    assert last.forecast_drifted is True


def test_of_drift_nothing_is_known_without_a_history() -> None:
    assert Service(startup_s=15.0, begin_s=BEGIN_S, history=False).cycle().forecast_drifted is None


def test_memory_is_believed_over_a_later_reading_of_the_past() -> None:
    """The template is renewed once a day; what the tracker has learnt since stays, until the horizon is another."""
    service = Service(startup_s=15.0, begin_s=BEGIN_S)
    service.until(BEGIN_S + 300.0)
    learnt = service.memory.of(CHAT).tracker
    assert learnt is not None
    fresh = past(service.policy, service.profiles, days=4)
    service.known = (fresh,)
    service.cycle()
    kept = service.memory.of(CHAT).tracker
    assert kept is not None
    assert kept.far.score.slots >= learnt.far.score.slots
    service.known = (dataclasses.replace(fresh, tracker=dataclasses.replace(fresh.tracker, horizon_slots=5)),)
    service.cycle()
    replaced = service.memory.of(CHAT).tracker
    assert replaced is not None
    assert replaced.horizon_slots == 5


@settings(max_examples=20)
@given(st.lists(st.floats(0.0, 9 * CAPACITY_RPS), min_size=1, max_size=12), st.floats(0.0, DAY_S))
def test_no_load_makes_a_plan_that_leaves_its_bounds_or_a_forecast_below_what_is_seen(
    rates_rps: list[float], at_s: float
) -> None:
    service = Service(startup_s=15.0, begin_s=8 * DAY_S + at_s)
    for rate_rps in rates_rps:
        told = service.cycle(Fresh(rate_rps, 1.0))
        assert 1 <= told.pools[0].replicas <= service.policy.bounds.max_replicas
        assert told.forecast_rps is not None
        assert told.forecast_rps >= rate_rps
