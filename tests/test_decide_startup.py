"""The decision with the start-up that was measured: it takes the place of the profile's, and of nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import decide
from capstan.forecast import history, known
from capstan.forecast.calendar import Calendar
from capstan.model import fleet, plan
from capstan.model.policy import Bounds, Knob, Knobs
from capstan.model.sample import Fresh
from capstan.model.workload import Workload
from capstan.optimize import sizing
from support.builders import CHAT, H100, policy, profile

HOURLY = Calendar(slot_s=60.0, slots_per_day=60, origin_s=0.0)
"""A day of an hour in slots of a minute."""

DAY_S, RISE_S = 3600.0, 1800.0
PERIODS = decide.Settings(
    cluster_period_s=60, pool_period_s=60, lookback_s=120, rate_window_s=30, instance_period_s=5, calendar=HOURLY
)
CAPACITY_RPS = sizing.capacity_rps(profile(), Workload(0, 1155, 211), policy().slo)


def usual_rps(t_s: float) -> float:
    """0.4 of a replica's load, and from the middle of each day on 2.6."""
    return (0.4 if t_s % DAY_S < RISE_S else 2.6) * CAPACITY_RPS


def observed(now_s: float, rps: float, *pools: fleet.PoolObserved, waiting: float = 0.0) -> fleet.Observed:
    seen = fleet.ServiceObserved(
        CHAT,
        pools,
        arrival_rps=Fresh(rps, 1.0),
        prompt_tokens=Fresh(1155.0, 1.0),
        output_tokens=Fresh(211.0, 1.0),
        waiting=Fresh(waiting, 1.0),
        gpu_product=H100,
    )
    return fleet.Observed(now_s, (seen,))


def decided(
    rates_rps: list[float], *, believed_s: float, measured_s: float | None, waiting: float = 0.0
) -> list[plan.Decision]:
    """Return the decisions of a load without a history, a cycle each; one replica stands."""
    memory, told = plan.Memory(), []
    pool = fleet.PoolObserved("all", 4, desired=1, ready=1, startup_s=measured_s)
    for cycle, rps in enumerate(rates_rps):
        look = observed(1000.0 + 5.0 * cycle, rps, pool, waiting=waiting)
        told.append(decide.decide(look, (policy(),), (profile(startup_s=believed_s),), memory, PERIODS))
        memory = told[-1].memory
    return told


@pytest.fixture(scope="module")
def past() -> known.Known:
    """Eight such days, told far enough ahead for a start-up of ten minutes."""
    samples = [(30.0 * (n + 1), usual_rps(30.0 * n)) for n in range(int(8 * DAY_S / 30))]
    slots = known.slots(HOURLY, known.horizon_s(cluster_period_s=60, startup_s=600.0))
    return known.of(CHAT, history.of_rates(HOURLY, samples), horizon_slots=slots)


@pytest.mark.parametrize(
    ("measured_s", "least_s", "most_s"),
    [
        pytest.param(None, 30.0, 60.0, id="30 s as believed: an epoch ahead"),
        pytest.param(600.0, 600.0, 1200.0, id="600 s as measured: two start-ups ahead"),
    ],
)
def test_replicas_are_asked_for_a_measured_start_up_before_the_rise(
    past: known.Known, measured_s: float | None, least_s: float, most_s: float
) -> None:
    """The template is smoothed over two slots and a horizon ends within one: up to three slots earlier."""
    memory, replicas, now_s = plan.Memory(), 1, 8 * DAY_S + 60.0
    while replicas < 3:
        assert now_s < 8 * DAY_S + RISE_S, "asked for too late"
        pool = fleet.PoolObserved("all", 4, desired=replicas, ready=replicas, startup_s=measured_s)
        look = observed(now_s, usual_rps(now_s - 30.0), pool)
        found = decide.decide(look, (policy(),), (profile(startup_s=30.0),), memory, PERIODS, (past,))
        memory, replicas, now_s = found.memory, found.policies[0].pools[0].replicas, now_s + 5.0
    assert least_s <= 8 * DAY_S + RISE_S - (now_s - 5.0) <= most_s + 3 * HOURLY.slot_s


RISING_RPS = [2.0 + 0.5 * cycle for cycle in range(20)]


@pytest.mark.parametrize("measured_s", [90.0, 600.0])
def test_what_is_measured_counts_and_not_what_the_profile_says(measured_s: float) -> None:
    """Word for word the decisions of a profile that had said so, over minutes of a rise."""
    as_measured = decided(RISING_RPS, believed_s=20.0, measured_s=measured_s, waiting=200.0)
    assert as_measured == decided(RISING_RPS, believed_s=measured_s, measured_s=None, waiting=200.0)
    assert as_measured != decided(RISING_RPS, believed_s=20.0, measured_s=None, waiting=200.0)


def test_a_measurement_is_of_its_degree_and_of_the_slowest_pool() -> None:
    """Pools of tp 4 took 30 s and 90 s: the replica may be of either. Of tp 8 nothing was measured."""
    knobs = Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ACT, clock=Knob.ACT)
    both = policy(bounds=Bounds(1, 12, tensor_parallel=(4, 8)), knobs=knobs)
    pools = [
        fleet.PoolObserved("all", 4, desired=1, ready=1, startup_s=30.0),
        fleet.PoolObserved("long", 4, desired=1, ready=1, startup_s=90.0),
        fleet.PoolObserved("long", 8, desired=0, ready=0),
    ]
    profiles = (profile(), profile(name="test-tp8", tp=8, startup_s=240.0))
    as_said = (profile(startup_s=90.0), profiles[1])
    silent = [dataclasses.replace(pool, startup_s=None) for pool in pools]
    measured, told = (
        decide.decide(observed(1000.0, 9.0, *seen), (both,), known_as, plan.Memory(), PERIODS)
        for seen, known_as in ((pools, profiles), (silent, as_said))
    )
    assert measured == told


@settings(max_examples=10)
@given(st.floats(0.0, 3600.0), st.floats(0.0, 3600.0), st.floats(0.5, 20.0))
def test_whoever_takes_longer_is_asked_for_no_later(one_s: float, other_s: float, high_rps: float) -> None:
    rates_rps = [high_rps * (1 + cycle / 12) / 2 for cycle in range(13)]
    counts = [
        decided(rates_rps, believed_s=60.0, measured_s=took_s)[-1].policies[0].pools[0].replicas
        for took_s in sorted((one_s, other_s))
    ]
    assert counts[0] <= counts[1]


@pytest.mark.parametrize("startup_s", [-1.0, float("nan"), float("inf")])
def test_what_is_no_time_is_refused(startup_s: float) -> None:
    with pytest.raises(ValueError, match="startup_s"):
        fleet.PoolObserved("all", 4, 1, 1, startup_s=startup_s)
