"""Clock rules: what they keep, what they refuse, and where they go blind."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import steady
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import sizing
from capstan.replay.autoscalers import clocks, defaults, loadtest
from capstan.replay.autoscalers.registry import REGISTRY
from capstan.replay.seen import Service
from support import autoscalers as fake
from support import builders

PROFILE = builders.profile()
MIX = Workload(2.0, 1000.0, 200.0)
HOUR = fake.FakeWindow(span_s=3600.0, arrivals=7200, finished=7200)


@given(st.floats(0.1, 1.0))
def test_the_lowest_clock_keeps_and_the_one_below_does_not(edge: float) -> None:
    """Grid 345 to 1980 by 15: the answer is the first clock at or above the edge."""
    found = clocks.lowest(PROFILE, 0.0, lambda x: x >= edge)
    x = PROFILE.clocks.ratio(found)
    assert x >= edge or found is None
    below = x - 15 / 1980
    assert below < edge or found == 345


def test_the_lowest_clock_obeys_the_bound_of_the_policy() -> None:
    assert clocks.lowest(PROFILE, 1200.0, lambda x: True) == 1200
    assert clocks.lowest(PROFILE, 0.0, lambda x: False) is None


def test_a_rate_that_holds_a_target_holds_it() -> None:
    rate_rps = clocks.rate_holding(PROFILE, MIX, 40.0, 0.6)
    assert loadtest.in_flight(PROFILE, Workload(rate_rps, 1000.0, 200.0), 0.6) == pytest.approx(40.0, rel=1e-3)
    assert rate_rps < clocks.rate_holding(PROFILE, MIX, 40.0, 1.0), "a slower clock serves fewer at the same depth"


def service(*, ttft_s: float, tpot_s: float) -> Service:
    base = fake.service(2)
    return dataclasses.replace(base, policy=dataclasses.replace(base.policy, slo=Slo(ttft_s, tpot_s)))


def test_the_static_clock_is_chosen_once_and_keeps_the_slo_at_the_targets_load() -> None:
    system, of = REGISTRY["static-clock"](), service(ttft_s=2.0, tpot_s=0.1)
    system.start(of)
    pods = [fake.pod(running=10)] * 2
    short = fake.FakeWindow(span_s=300.0)
    assert not [w for w in system.plan(fake.moment(0.0, fake.seen(*pods, window=short))) if w.clock_cap_mhz]
    chosen = fake.clock(system, 600.0, fake.seen(*pods, window=HOUR))
    assert chosen is not None
    assert PROFILE.clocks.min_mhz <= chosen < PROFILE.clocks.max_mhz
    target = loadtest.target(PROFILE, MIX, of.policy.slo, defaults.LoadTest().target_ratio)

    def meets(x: float) -> bool:
        load = Workload(clocks.rate_holding(PROFILE, MIX, target, x), 1000.0, 200.0)
        return sizing.meets(steady.operating_point(PROFILE, load, x=x), of.policy.slo, margin=0.9)

    assert meets(chosen / 1980)
    assert chosen == 345 or not meets((chosen - 15) / 1980)
    longer = fake.FakeWindow(span_s=3600.0, prompt_tokens_mean=4000.0)
    later = system.plan(fake.moment(1200.0, fake.seen(*pods, window=longer)))
    assert all(want.clock_cap_mhz == chosen for want in later), "never revised"


def test_throttllem_slows_down_when_idle_and_speeds_up_with_what_waits() -> None:
    system = REGISTRY["throttllem-like"]()
    system.start(service(ttft_s=2.0, tpot_s=0.1))
    goal = fake.seen(*[fake.pod(running=4, held=4400)] * 2, window=fake.FakeWindow(arrivals=60))
    slow = fake.clock(system, 0.0, goal)
    assert slow is not None
    busier = fake.seen(*[fake.pod(running=20, held=22_000)] * 2, window=fake.FakeWindow(arrivals=120))
    faster = fake.clock(system, 5.0, busier)
    assert faster is not None
    assert faster > slow
    swamped = fake.seen(*[fake.pod(running=200, waiting=50, held=220_000)] * 2)
    assert fake.clock(system, 10.0, swamped) is None


def test_a_higher_clock_keeps_whatever_a_lower_one_does() -> None:
    pod = fake.pod(running=60, waiting=1, held=66_000)
    kept = [
        clocks.keeps_projected(PROFILE, pod, MIX, Slo(2.0, 0.1), mhz / 1980, horizon_s=10, margin=0.9)
        for mhz in range(345, 1981, 15)
    ]
    assert kept == sorted(kept)
    assert kept[-1]
    assert not kept[0]


def test_voltana_has_two_clocks_and_goes_up_for_anyone_who_waits() -> None:
    """1005 / 1410 of 1980 is 1411 MHz; the grid has 1410."""
    system = REGISTRY["voltana-like"]()
    system.start(service(ttft_s=2.0, tpot_s=0.1))
    calm = fake.FakeWindow(arrivals=120)
    pods = [fake.pod(running=10, held=11_000)] * 2
    assert fake.clock(system, 0.0, fake.seen(*pods, window=calm)) == 1410
    waits = fake.seen(pods[0], fake.pod(running=10, waiting=1, held=11_000), window=calm)
    assert fake.clock(system, 5.0, waits) is None
    assert fake.clock(system, 10.0, fake.seen(*pods, window=calm)) == 1410
    rush = fake.FakeWindow(arrivals=60 * 12)  # 6 rps a pod, of about 7 at this clock
    assert fake.clock(system, 15.0, fake.seen(*pods, window=rush)) is None


@pytest.mark.parametrize("name", ["throttllem-like", "voltana-like"])
def test_blind_means_full_clock(name: str) -> None:
    system = REGISTRY[name]()
    system.start(service(ttft_s=2.0, tpot_s=0.1))
    calm = fake.seen(*[fake.pod(running=1, held=100)] * 2, window=fake.FakeWindow(arrivals=60))
    assert fake.clock(system, 0.0, calm) is not None
    assert fake.clock(system, 5.0, fake.seen(fake.pod(ready=False))) is None
