"""Plans over time, and the systems that play them word for word."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from capstan.replay.runs import ServiceSeries
from capstan.replay.searches import plans
from capstan.replay.searches.plans import Fleet, Plan, Scheduled
from capstan.replay.seen import Seen, Service, Want
from support import builders
from support.planned import columns
from support.replay import poisson

KEY = builders.CHAT
PLAN = Plan((Fleet(4, 1), Fleet(8, 2)), (None, 900.0, 1200.0))
SERVICE = Service(
    policy=builders.policy(KEY),
    profiles=(builders.profile(),),
    start=Want(KEY, 4, 3),
    most_gpus=8,
    requests=columns(poisson(3, rate_rps=1.0)),
)


def series(t_s: list[float], ready: list[int], tp: list[int], cap: list[float]) -> ServiceSeries:
    zeros, none = np.zeros(len(t_s)), np.zeros(len(t_s), dtype=np.int64)
    blank = ServiceSeries(
        np.array(t_s), zeros, none, none, none, none, none, none, zeros, zeros, none, none, zeros, zeros, np.array([""])
    )
    return dataclasses.replace(
        blank, replicas_ready=np.array(ready), tp=np.array(tp), clock_cap_mhz=np.array(cap, dtype=np.float64)
    )


@pytest.mark.parametrize(
    ("t_s", "fleet", "clock"),
    [
        (0.0, Fleet(4, 1), None),
        (4.999, Fleet(4, 1), None),
        (5.0, Fleet(4, 1), 900.0),
        (59.9, Fleet(4, 1), 1200.0),
        (60.0 - 1e-9, Fleet(8, 2), 1200.0),  # a tick that is a sum of floats
        (1e6, Fleet(8, 2), 1200.0),  # the last holds to the end
    ],
)
def test_what_stands_at_a_moment(t_s: float, fleet: Fleet, clock: float | None) -> None:
    assert (PLAN.fleet(t_s), PLAN.clock_cap_mhz(t_s)) == (fleet, clock)


def test_a_scheduled_system_wants_its_plan_whatever_it_sees() -> None:
    system = Scheduled("oracle", {KEY: plans.whole(PLAN)})
    assert system.start(SERVICE) == (Want(KEY, 4, 1),)
    assert system.plan(Seen(61.0, ())) == (Want(KEY, 8, 2, 1200.0),)
    assert system.period_s == 5.0


def test_a_fixed_plan_is_asked_for_once_and_others_keep_their_start() -> None:
    system = Scheduled("single-pool", {KEY: plans.whole(Plan.fixed(8, 2))})
    assert system.start(SERVICE) == (Want(KEY, 8, 2),)
    assert system.plan(Seen(600.0, ())) == ()
    assert Scheduled("single-pool", {}).start(SERVICE) == (SERVICE.start,)


def test_a_plan_without_a_fleet_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a fleet"):
        Plan(())


def test_a_realised_plan_has_the_most_that_was_ready_in_each_slot_and_every_clock() -> None:
    seen = series([0, 30, 60, 65, 90, 130], [1, 2, 2, 1, 1, 3], [4, 4, 8, 8, 4, 8], [math.nan, 900, 900, 800, 800, 800])
    plan = plans.realised(seen)[0]
    assert plan.fleets == (Fleet(4, 2), Fleet(8, 2), Fleet(8, 3))
    assert [plan.clock_cap_mhz(t_s) for t_s in (0, 25, 30, 60, 65, 130)] == [None, None, 900, 900, 800, 800]


def test_a_realised_plan_is_also_told_by_its_mean_and_word_for_word() -> None:
    """Ready 1 for 45 s and 3 for 15 s of the first minute: most 3, mean 1.5 rounded up 2, raw as it was."""
    t_s = [float(5 * i) for i in range(25)]
    seen = series(t_s, [1] * 9 + [3] * 3 + [1] * 13, [4] * 25, [math.nan] * 25)
    most, mean, raw = plans.realised(seen)
    assert (most.fleet(0.0), mean.fleet(0.0)) == (Fleet(4, 3), Fleet(4, 2))
    assert [raw.fleet(t).replicas for t in (0, 44, 45, 59, 60, 500)] == [1, 1, 3, 3, 1, 1]


def test_a_run_that_never_moved_is_told_once_by_the_slot_and_once_word_for_word() -> None:
    assert len(plans.realised(series([0.0, 30.0, 60.0], [2, 2, 2], [4, 4, 4], [math.nan] * 3))) == 2


def test_a_run_without_samples_has_no_plan() -> None:
    with pytest.raises(ValueError, match="without samples"):
        plans.realised(series([], [], [], []))
