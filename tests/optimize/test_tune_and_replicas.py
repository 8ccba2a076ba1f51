"""One pool in one cycle: when its clock holds still, what its replicas wait for, and how degrees share requests."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.forecast import peak
from capstan.model import fleet, plan
from capstan.model.policy import Bounds, Knob, Knobs
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample
from capstan.model.slo import Slo
from capstan.optimize import fleets, inside, replicas, tune
from capstan.optimize.case import Case, Settings
from support.builders import policy
from support.strategies import BOTH, TP4, service

NOW_S = 5000.0
EVERYTHING = Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ACT, clock=Knob.ACT)
ROOMY = policy(bounds=Bounds(1, 12, tensor_parallel=(4, 8)), knobs=EVERYTHING)
LENGTHS = (1155.0, 211.0, 0.9)


def rates(*spans: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """A rate every 5 s up to now, from (seconds, rps) of spans in order."""
    every = [rps for span_s, rps in spans for _ in range(round(span_s / 5))]
    return tuple((NOW_S - 5.0 * (len(every) - 1 - i), rps) for i, rps in enumerate(every))


def case(known: tuple[tuple[float, float], ...], standing: plan.Fleet = ((4, 2),), **changes: Any) -> Case:
    """A pool that has stood as it does for an hour and looked at its degrees just now."""
    memory = plan.PoolMemory(
        "all", known, LENGTHS, fleet=standing, fleet_since_s=NOW_S - 3600, reshaped_at_s=NOW_S, clock_since_s=0.0
    )
    base = Case(
        now_s=NOW_S,
        policy=ROOMY,
        slo=ROOMY.slo,
        pool="all",
        classes=(),
        seen=service((), rate=known[-1][1]),
        pools=tuple(fleet.PoolObserved("all", tp, count, count) for tp, count in standing),
        profiles=BOTH,
        memory=memory,
        settings=Settings(),
    )
    return dataclasses.replace(base, **changes)


def parts_rps(one: Case) -> float:
    """The load that the clock is chosen for, on the one replica of a fleet."""
    found = tune._parts(one, ((4, 1),))
    return sum(part.count * part.load.arrival_rps for part in found)


# --- the load of the clock ---------------------------------------------------------------------------


@given(st.floats(0.1, 50.0), st.floats(0.1, 50.0), st.floats(0.1, 50.0))
def test_the_rate_of_the_clock_lies_among_those_that_were_seen(one: float, two: float, three: float) -> None:
    known = rates((400, one), (300, two), (60, three))
    assert min(one, two, three) - 1e-9 <= tune._level_rps(case(known))[0] <= max(one, two, three) + 1e-9


def test_a_clock_falls_only_to_where_a_little_more_load_would_not_raise_it_again() -> None:
    """Whatever the load: the clock it falls to is still there when that load grows by a fifth of the room."""
    for rate_rps in (0.8, 1.4, 2.0, 2.6):
        known = rates((700, rate_rps))
        voted = dataclasses.replace(case(known).memory, lower_clock_votes=9)
        fallen = tune.choose(case(known, memory=voted), ((4, 2),))
        assert fallen.cap_mhz is not None
        stands = dataclasses.replace(voted, clock_cap_mhz=fallen.cap_mhz, rates=rates((700, rate_rps * 1.01)))
        assert tune.choose(case(known, memory=stands), ((4, 2),)).cap_mhz == fallen.cap_mhz


def test_where_a_domain_caps_a_clock_that_nobody_needs_falls_as_anywhere_else() -> None:
    """Held up it would keep its domain capped, and watts from whoever could grow with them."""
    known = rates((700, 1.4))
    lately = dataclasses.replace(case(known).memory, lower_clock_votes=9, clock_since_s=NOW_S - 60)
    free, capped = (case(known, memory=lately, seen=service((), rate=1.4, capped=one)) for one in (False, True))
    fallen, under_cap = (tune.choose(one, ((4, 2),)) for one in (free, capped))
    assert fallen.reason is under_cap.reason is Reason.LEAST_ENERGY
    assert under_cap.cap_mhz == fallen.cap_mhz


def test_a_burst_raises_the_clock_at_once() -> None:
    low = dataclasses.replace(case(rates((700, 1.0))).memory, clock_cap_mhz=600.0, rates=rates((700, 1.0), (5, 5.0)))
    risen = tune.choose(case(low.rates, memory=low), ((4, 2),))
    assert (risen.cap_mhz or TP4.clocks.max_mhz) > 600.0


def rested(*, settled_s: float, known: peak.Rates, fleet_since_s: float = 0.0) -> float:
    """The clock below which none falls, of one that settled at 900 MHz so long ago."""
    one = case(known)
    memory = dataclasses.replace(
        one.memory, settled_cap_mhz=900.0, settled_since_s=NOW_S - settled_s, fleet_since_s=fleet_since_s
    )
    return tune._resting_mhz(dataclasses.replace(one, memory=memory))


@pytest.mark.parametrize(
    ("settled_s", "known", "fleet_since_s", "floor_mhz"),
    [
        (599.0, rates((700, 2.0)), 0.0, 900.0),
        (600.0, rates((700, 2.0)), 0.0, 0.0),
        (100.0, rates((400, 4.0), (300, 2.0)), 0.0, 900.0),
        (100.0, rates((500, 4.0), (200, 2.0)), 0.0, 0.0),
        (100.0, rates((700, 2.0)), NOW_S - 50.0, 0.0),
    ],
    ids=["it rests", "ten minutes are over", "calm for five", "the load fell", "another fleet since"],
)
def test_a_clock_rests_where_it_settled_under_a_load_that_stands_still(
    settled_s: float, known: peak.Rates, fleet_since_s: float, floor_mhz: float
) -> None:
    assert rested(settled_s=settled_s, known=known, fleet_since_s=fleet_since_s) == floor_mhz


def test_a_burst_unsettles_nothing_and_a_load_that_lasts_does() -> None:
    one = case(rates((700, 2.0)))
    memory = dataclasses.replace(one.memory, settled_cap_mhz=900.0, settled_since_s=7.0)
    one, risen = dataclasses.replace(one, memory=memory), tune.Choice(1500.0, Reason.LEAST_ENERGY)
    assert tune._settled(one, risen, 0.8) == tune.Settled(900.0, 7.0)
    assert tune._settled(one, tune.Choice(None, Reason.REQUESTS_WAITING), 0.0) == tune.Settled(900.0, 7.0)
    assert tune._settled(one, tune.Choice(900.0, Reason.LEAST_ENERGY), 0.0) == tune.Settled(900.0, 7.0), "back there"
    assert tune._settled(one, risen, 0.0) == tune.Settled(1500.0, NOW_S)


# --- weights -----------------------------------------------------------------------------------------


def test_one_degree_needs_no_weights() -> None:
    assert tune.weights(case(rates((60, 2.0))), ((4, 3),)) == {}


def test_the_degree_that_holds_most_at_equal_stress_has_weight_one() -> None:
    found = tune.weights(case(rates((60, 2.0)), ((4, 1), (8, 1))), ((4, 1), (8, 1)))
    assert set(found) == {4, 8}
    assert max(found.values()) == 1.0
    assert min(found.values()) > 0.2, "a replica of half the GPUs is no fifth of one"


# --- alarms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "rate_rps", "ready", "alarm"),
    [
        (7.0, 1.0, 1, False),
        (7.1, 1.0, 1, True),
        (22.0, 1.0, 4, False),
        (22.1, 1.0, 4, True),
        (36.0, 12.0, 4, False),
        (36.1, 12.0, 4, True),
    ],
    ids=["4 + 3", "more", "4 x 4 + 3 x 2", "more than of four", "1.5 x 12 rps x 2 s", "more than the limit explains"],
)
def test_a_queue_is_an_alarm_where_neither_chance_nor_the_limit_explains_it(
    waiting: float, rate_rps: float, ready: int, alarm: bool
) -> None:
    seen = service((), rate=rate_rps, waiting=Fresh(waiting, 1.0))
    pools = (fleet.PoolObserved("all", 4, ready, ready),)
    assert case(rates((60, rate_rps)), ((4, ready),), seen=seen, pools=pools).queued is alarm


@pytest.mark.parametrize(
    ("ttft_s", "stress", "late"),
    [
        (2.1, Fresh(1.2, 1.0), True),
        (2.1, Fresh(1.05, 1.0), False),
        (1.9, Fresh(1.2, 1.0), False),
        (2.1, Missing(Reason.NO_DATA), True),
    ],
    ids=["now and for minutes", "the last minute alone", "it is over", "only the last minute is known"],
)
def test_late_is_what_the_scored_minutes_miss_too(ttft_s: float, stress: Sample[float], late: bool) -> None:
    """The limit is 2 s."""
    seen = dataclasses.replace(
        service((), rate=12.0), ttft_s=Fresh(ttft_s, 1.0), sample_requests=Fresh(720.0, 1.0), stress_ratio=stress
    )
    assert case(rates((60, 12.0)), seen=seen).alarmed is late


# --- replicas ----------------------------------------------------------------------------------------


def test_capacity_falls_only_to_what_leaves_room() -> None:
    """The peak fits into fewer; with 15 % more it does not: nothing is given up that is asked for again."""
    each_rps = replicas._each_rps(case(rates((60, 1.0))))[4]
    counts = []
    for filled in (0.5, 1.02, 1.5):
        peak = rates((1790, filled * each_rps * 0.85))
        counts.append(fleets.replicas(replicas.choose(case(peak, ((4, 3),))).fleet))
    assert counts == sorted(counts)
    assert counts[0] < 3


def test_what_waits_is_worked_off_within_a_start() -> None:
    quiet = case(rates((60, 1.0)))
    queue = dataclasses.replace(quiet, seen=service((), rate=1.0, waiting=Fresh(600.0, 1.0)))
    ahead = replicas.ready_for_rps(queue) - replicas.ready_for_rps(quiet)
    assert ahead == pytest.approx(600.0 / max(TP4.startup_s, 60.0))


def test_a_knob_that_is_off_keeps_the_gpus() -> None:
    knobs = Knobs(replicas=Knob.OFF, tensor_parallel=Knob.ACT, clock=Knob.ACT)
    off = dataclasses.replace(ROOMY, knobs=knobs)
    base = case(rates((60, 1.0)), ((4, 4),), policy=off)
    due = dataclasses.replace(base.memory, reshaped_at_s=None)
    found = replicas.choose(dataclasses.replace(base, memory=due))
    assert found.reason is Reason.KNOB_OFF
    assert fleets.gpus(found.fleet) == 16


def test_a_fleet_of_two_degrees_is_bounded_by_the_gpus_of_both() -> None:
    """16 GPUs of which one tp 8 has half: two of tp 4, not three."""
    tight = dataclasses.replace(ROOMY, bounds=Bounds(1, 12, max_gpus=16, tensor_parallel=(4, 8)))
    found, why = replicas._bounded(case(rates((60, 1.0)), policy=tight), ((4, 3), (8, 1)))
    assert fleets.gpus(found) <= 16
    assert why is Reason.AT_MAXIMUM


def test_degrees_are_looked_at_once_a_period_and_not_by_all_at_once() -> None:
    """A hundred policies over five minutes of cycles: each due once, nowhere more than a tenth of them together."""
    settings, base = Settings(), case(rates((60, 1.0)))
    due = [0] * 60
    for i in range(100):
        own = dataclasses.replace(ROOMY, key=f"llm/p{i}")
        before_s = NOW_S
        for cycle in range(60):
            now_s = NOW_S + 5.0 * (cycle + 1)
            memory = dataclasses.replace(base.memory, reshaped_at_s=before_s)
            if replicas._due(dataclasses.replace(base, now_s=now_s, policy=own, memory=memory, settings=settings)):
                due[cycle] += 1
                before_s = now_s
    assert sum(due) == 100
    assert max(due) <= 10


def test_a_look_that_led_nowhere_is_a_look_all_the_same() -> None:
    """While capacity may not fall yet, a search that costs ten times the rest would be made at every cycle."""
    base = case(rates((60, 0.2)), ((4, 8),))
    young = dataclasses.replace(base.memory, fleet_since_s=NOW_S - 10.0, reshaped_at_s=None)
    found = replicas.choose(dataclasses.replace(base, memory=young))
    assert found.reason is Reason.COOLING_DOWN
    assert found.reshaped_at_s == NOW_S


# --- what is inside, before any rate tells of it -------------------------------------------------------


def crowded(running: float, *, usual_ratio: float | None = 1.0, waiting: float = 0.0) -> Case:
    """2 rps for minutes on two replicas at 900 MHz, and so many requests inside at this moment."""
    known = rates((700, 2.0))
    calm = case(known)
    memory = dataclasses.replace(calm.memory, clock_cap_mhz=900.0, inside_ratio=usual_ratio)
    seen = dataclasses.replace(calm.seen, running=Fresh(running, 1.0), waiting=Fresh(waiting, 1.0))
    return dataclasses.replace(calm, memory=memory, seen=seen)


def usual_inside(one: Case) -> float:
    """The requests that the closed form has inside."""
    found = tune._inside(one, one.standing)
    assert found is not None
    return found.batch


@pytest.mark.parametrize(
    ("times", "rises"),
    [(1.0, False), (1.2, False), (0.2, False), (4.0, True)],
    ids=["as usual", "chance", "few", "four times"],
)
def test_more_requests_inside_than_chance_explains_raise_the_clock_at_once(times: float, rises: bool) -> None:
    count = usual_inside(crowded(1.0))
    found = tune.choose(crowded(times * count), ((4, 2),))
    assert ((found.cap_mhz or TP4.clocks.max_mhz) > 900.0) is rises


def test_requests_that_wait_are_inside_too() -> None:
    count = usual_inside(crowded(1.0))
    found = tune.choose(crowded(count, waiting=3 * count), ((4, 2),))
    assert (found.cap_mhz or TP4.clocks.max_mhz) > 900.0


def test_what_a_profile_is_off_by_is_no_burst() -> None:
    """Twice as many as worked out, as ever."""
    count = usual_inside(crowded(1.0))
    assert tune.choose(crowded(2 * count, usual_ratio=2.0), ((4, 2),)).cap_mhz == tune.choose(
        crowded(count), ((4, 2),)
    ).cap_mhz  # fmt: skip


def test_the_usual_count_is_learnt_and_without_one_nothing_is_concluded() -> None:
    count = usual_inside(crowded(1.0))
    first = tune.choose(crowded(3 * count, usual_ratio=None), ((4, 2),))
    assert first.inside_ratio == pytest.approx(1 + 5 / 300), "learnt from one on, no profile is off by more than two"
    assert first.cap_mhz == tune.choose(crowded(count), ((4, 2),)).cap_mhz
    later = tune.choose(crowded(2 * count, usual_ratio=1.0), ((4, 2),))
    assert later.inside_ratio == pytest.approx(1 + 5 / 300)


@pytest.mark.parametrize(("stays", "learnt"), [(4.0, False), (6.0, True)])
def test_how_long_engines_decode_is_learnt_once_the_first_requests_have_long_ended(stays: float, learnt: bool) -> None:
    """By Little's law they stay count / rate: lengths watched for less time than five of it are of short answers."""
    count = 1.2 * usual_inside(crowded(1.0))
    young = crowded(count)
    cycles = round(stays * count / 2.0 / 5.0)
    case_ = dataclasses.replace(young, memory=dataclasses.replace(young.memory, lengths_cycles=cycles))
    assert (tune.choose(case_, ((4, 2),)).decode_ratio is not None) is learnt


def test_where_next_to_nothing_was_worked_out_nothing_is_learnt() -> None:
    """The first requests of a service come before its rate: eighty times as many as worked out."""
    quiet = crowded(8.0, usual_ratio=None)
    rates_of_a_start = rates((600, 0.0), (5, 0.01))
    begun = dataclasses.replace(quiet, memory=dataclasses.replace(quiet.memory, rates=rates_of_a_start))
    assert tune.choose(begun, ((4, 2),)).inside_ratio is None


def risen(before_mhz: float, now_mhz: float, *, age_s: float, times: float) -> inside.Look | None:
    """A look, `age_s` after the clock rose from where it had settled, at `times` what was usual there."""
    one = crowded(times * usual_inside(crowded(1.0)))
    memory = dataclasses.replace(
        one.memory,
        clock_cap_mhz=now_mhz,
        clock_since_s=NOW_S - age_s,
        settled_cap_mhz=before_mhz,
        settled_since_s=NOW_S - 1000.0,
    )
    changed = dataclasses.replace(one, memory=memory)
    return tune._inside(changed, changed.standing)


def test_what_came_before_a_rise_is_held_against_the_clock_before_it() -> None:
    """Thrice as many raised the clock from 900 MHz. A telemetry delay and a stay later there are as many as usual."""
    early, late = risen(900.0, 1500.0, age_s=5.0, times=3.0), risen(900.0, 1500.0, age_s=60.0, times=3.0)
    assert early is not None
    assert late is not None
    assert early.inside_ratio == pytest.approx(3.0)
    assert not early.settled, "and nothing is learnt of it"
    assert late.settled
    assert late.inside_ratio > 1.2 * early.inside_ratio, "fewer are usual at the higher clock"


@pytest.mark.parametrize(
    ("sigmas", "news"), [(0.9, False), (1.1, True)], ids=["inside five deviations", "outside of five"]
)
def test_news_is_what_a_loaded_queue_does_not_do_by_chance(sigmas: float, news: bool) -> None:
    """E is how much faster than the load the requests inside grow, so that a deviation is E / sqrt(N) of N."""
    quiet = tune._inside(crowded(1.0), ((4, 2),))
    assert quiet is not None
    elasticity = inside._elasticity_ratio(crowded(1.0), quiet)
    assert 1.0 < elasticity < 3.0
    times = 1 + sigmas * inside.SIGMAS * elasticity / quiet.batch**0.5
    one = crowded(times * quiet.batch)
    assert (inside.ahead_ratio(one, tune._inside(one, ((4, 2),))) > 0) is news


NOT_SEEN = Missing(Reason.NO_DATA)


def test_without_the_counts_the_rate_alone_speaks() -> None:
    one = crowded(1000.0)
    as_usual = tune.choose(crowded(usual_inside(one)), ((4, 2),)).cap_mhz
    for seen in (dataclasses.replace(one.seen, running=NOT_SEEN), dataclasses.replace(one.seen, waiting=NOT_SEEN)):
        found = tune.choose(dataclasses.replace(one, seen=seen), ((4, 2),))
        assert found.cap_mhz == as_usual
        assert found.inside_ratio == 1.0, "kept"


# --- what a fall leaves --------------------------------------------------------------------------------


def test_a_load_that_was_seen_to_rise_keeps_more() -> None:
    """4 rps now; one came from 4 to 16 within a minute some time ago, the other only fell."""
    quiet = replicas.choose(case(rates((1200, 16.0), (600, 4.0)), ((4, 4),)))
    restless = replicas.choose(case(rates((600, 4.0), (600, 16.0), (600, 4.0)), ((4, 4),)))
    assert quiet.count < restless.count == 4


# --- beside other pools ------------------------------------------------------------------------------


@pytest.mark.parametrize(("beside_gpus", "degree"), [(16, 4), (24, 8)], ids=["with room beside it", "without"])
def test_a_degree_is_changed_only_where_other_pools_leave_room_to_do_it_first(beside_gpus: int, degree: int) -> None:
    """One of tp 8 for a load that tp 4 carries for less: 24 + 8 GPUs of 32 are held, so the old one would go first."""
    known = rates((1800, 0.3))
    base = case(known, ((8, 1),), most_gpus=32, beside_gpus=beside_gpus)
    due = dataclasses.replace(base, memory=dataclasses.replace(base.memory, reshaped_at_s=None))
    assert fleets.main_tp(replicas.choose(due).fleet) == degree


@pytest.mark.parametrize(("most_gpus", "degree"), [(16, 8), (8, 4)], ids=["beside them", "only in their place"])
def test_no_degree_is_changed_through_a_time_without_replicas(most_gpus: int, degree: int) -> None:
    """Prompts of 4,000 tokens with a second each: too much for any tp 4, not for one of tp 8 in the GPUs of two."""
    tight = dataclasses.replace(ROOMY, slo=Slo(1.0, 0.1))
    base = case(rates((1800, 0.7)), ((4, 2),), most_gpus=most_gpus, policy=tight, slo=tight.slo)
    memory = dataclasses.replace(base.memory, lengths=(4000.0, 100.0, 0.2), reshaped_at_s=None)
    due = dataclasses.replace(base, memory=memory)
    found = replicas.choose(due)
    assert fleets.main_tp(found.fleet) == degree
    assert fleets.gpus(found.fleet) >= 8
