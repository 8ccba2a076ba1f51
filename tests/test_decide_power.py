"""A whole decision under power domains: who grows, whose clock rises, and what a cap must never teach."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import decide
from capstan.model import fleet, plan
from capstan.model.headroom import DomainSeen, Place
from capstan.model.policy import Bounds, Policy, Priority
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Stale
from support.builders import policy
from support.strategies import QUICK, TP4, pools_of, service

BUSY_RPS = 30.0  # some six replicas


def rack(
    name: str = "rack", *, left_w: float, low_mhz: float | None = None, high_mhz: float | None = None
) -> DomainSeen:
    """20 kW; low priority grows below 15 kW, high below 17 kW, and so does low where it alone is capped."""
    ratios: dict[str, Any] = {"low_ratio": 0.75, "high_ratio": 0.85, "brake_ratio": 0.97}
    return DomainSeen(name, 20_000.0, Fresh(left_w, 1.0), low_mhz=low_mhz, high_mhz=high_mhz, **ratios)


class Racked:
    """Decides again and again for some policies; what was planned stands Ready, in one rack."""

    def __init__(self, *policies: Policy, rps: float = BUSY_RPS, replicas: int = 2) -> None:
        self.policies, self.rps = policies, rps
        self.memory = plan.Memory()
        self.now_s = 1000.0
        self.standing: dict[str, tuple[fleet.PoolObserved, ...]] = {
            one.key: (fleet.PoolObserved("all", 4, replicas, replicas),) for one in policies
        }
        self.home = "rack"

    def cycle(self, *domains: DomainSeen, times: int = 1, capped: bool = False, **more: object) -> plan.Decision:
        for _ in range(times):
            seen = tuple(self._seen(key, pools, capped=capped, **more) for key, pools in self.standing.items())
            observed = fleet.Observed(self.now_s, seen, domains=domains)
            decision = decide.decide(observed, self.policies, (TP4,), self.memory, QUICK)
            self.memory, self.now_s = decision.memory, self.now_s + QUICK.instance_period_s
            self.standing = {one.policy: pools_of(one) for one in decision.policies}
        return decision

    def _seen(self, key: str, pools: tuple[fleet.PoolObserved, ...], **more: object) -> fleet.ServiceObserved:
        places = tuple(Place(self.home, pool.tp, pool.ready) for pool in pools)
        return service((), rate=self.rps, policy=key, pools=pools, places=places, **more)

    def gpus(self, key: str) -> int:
        return sum(pool.tp * pool.ready for pool in self.standing[key])


LOW, HIGH = policy("llm/low"), policy("llm/high", priority=Priority.HIGH)


def test_without_domains_nothing_is_limited_and_nothing_done() -> None:
    one = Racked(LOW)
    decided = one.cycle(times=4).policies[0]
    assert one.gpus("llm/low") >= 20
    assert decided.power == plan.NO_POWER_PLAN
    assert one.memory.of("llm/low").power is None


def test_growth_stops_where_the_watts_end() -> None:
    """7.5 kW left of 20: 2.5 kW to the low threshold are one replica of four busy GPUs, not the four that it lacks."""
    one = Racked(LOW)
    one.cycle(rack(left_w=7500.0), times=2)
    decided = one.cycle(rack(left_w=5000.0), times=4).policies[0]
    assert one.gpus("llm/low") == 12
    assert decided.replicas_reason is Reason.POWER_LIMITED


def test_high_priority_grows_on_the_watts_that_both_ask_for() -> None:
    """1.5 kW to low's line, 3.5 kW to high's, which are one replica: high has it, though low asks for the same."""
    both = Racked(HIGH, LOW)
    both.cycle(rack(left_w=6500.0), times=2)
    assert both.gpus("llm/low") == 8
    assert both.gpus("llm/high") > 8


def test_of_two_equals_with_watts_for_one_replica_one_has_it() -> None:
    """Not half a replica each for ever."""
    both = Racked(policy("llm/a"), policy("llm/b"))
    both.cycle(rack(left_w=8500.0), times=2)
    assert sorted((both.gpus("llm/a"), both.gpus("llm/b"))) == [8, 12]


@pytest.mark.parametrize(
    "domain",
    [
        rack(left_w=6000.0),
        rack(left_w=4400.0, low_mhz=1785),
        rack(left_w=6000.0, low_mhz=1560, high_mhz=1830),
        rack(left_w=20_000.0, low_mhz=1560, high_mhz=1830),
        dataclasses.replace(rack(left_w=0.0, low_mhz=1785), headroom_w=Stale(20_000.0, 90.0)),
        dataclasses.replace(rack(left_w=0.0, low_mhz=1785), headroom_w=fleet.NO_DATA),
    ],
    ids=["low would be capped next", "high would be", "high is", "high is, whatever is left", "stale", "unknown"],
)
def test_where_low_priority_does_not_grow(domain: DomainSeen) -> None:
    """It lacks four replicas; 1.4 kW to the high threshold are less than one at the capped clock."""
    one = Racked(LOW)
    decided = one.cycle(domain, times=3, capped=domain.low_mhz is not None).policies[0]
    assert (one.gpus("llm/low"), decided.replicas_reason) == (8, Reason.POWER_LIMITED)
    one.cycle(domain, rack("other", left_w=20_000.0), times=3, capped=domain.low_mhz is not None)
    assert one.gpus("llm/low") > 8, "all of it goes where there is room"


def test_low_priority_grows_where_it_is_capped_as_far_as_high_is_not_touched() -> None:
    """14.5 kW are drawn: 2.5 kW to the high threshold are a replica at 1,785 MHz, and not two."""
    one = Racked(LOW)
    one.cycle(rack(left_w=5500.0, low_mhz=1785), times=2, capped=True)
    decided = one.cycle(rack(left_w=3500.0, low_mhz=1785), times=4, capped=True).policies[0]
    assert (one.gpus("llm/low"), decided.replicas_reason) == (12, Reason.POWER_LIMITED)


def test_where_low_priority_is_capped_the_next_replica_of_high_stays_free() -> None:
    """High asks for nothing. The same 2.5 kW would be a replica of low, or that of high."""
    both = Racked(HIGH, LOW, rps=BUSY_RPS)
    both.standing["llm/high"] = (fleet.PoolObserved("all", 4, 12, 12),)
    both.cycle(rack(left_w=5500.0, low_mhz=1785), times=4, capped=True)
    assert both.gpus("llm/low") == 8


def test_a_clock_rises_no_further_than_on_granted_watts() -> None:
    """It has settled low; the load doubles. Above the high threshold nothing is granted, with watts it rises."""
    one = Racked(policy("llm/low", bounds=Bounds(2, 2, tensor_parallel=(4,))), rps=3.0)
    settled = one.cycle(rack(left_w=15_000.0), times=60).policies[0].pools[0].clock_cap_mhz
    assert settled is not None
    memory, one.rps = one.memory, 7.0
    held = one.cycle(rack(left_w=2500.0), times=12).policies[0]
    assert (held.pools[0].clock_cap_mhz, held.clock_reason) == (settled, Reason.POWER_LIMITED)
    one.memory = memory
    risen = one.cycle(rack(left_w=15_000.0), times=12).policies[0].pools[0].clock_cap_mhz
    assert risen is None or risen > settled


def test_what_a_cap_has_slowed_teaches_nothing() -> None:
    """Latencies far beyond their limits for five minutes: neither margin nor decode time moves, no replica is added."""
    one = Racked(LOW, rps=4.0)
    one.cycle(rack(left_w=15_000.0), times=30)
    before, gpus = one.memory.of("llm/low").pools[0], one.gpus("llm/low")
    late = {"tpot_s": Fresh(0.3, 1.0), "stress_ratio": Fresh(3.0, 1.0), "sample_requests": Fresh(500.0, 1.0)}
    late |= {"running": Fresh(300.0, 1.0), "waiting": Fresh(80.0, 1.0)}
    one.cycle(rack(left_w=6000.0, low_mhz=1560), times=60, capped=True, **late)
    after = one.memory.of("llm/low").pools[0]
    assert (after.margin_ratio, after.decode_ratio, one.gpus("llm/low")) == (
        before.margin_ratio,
        before.decode_ratio,
        gpus,
    )


def test_blind_gives_up_its_own_caps_whatever_domains_grant() -> None:
    """Promise P3: the energy plan's clock goes; the caps of domains hold by themselves."""
    one = Racked(LOW, rps=2.0)
    one.cycle(rack(left_w=15_000.0), times=60)
    seen = one._seen("llm/low", one.standing["llm/low"])
    blind = dataclasses.replace(seen, arrival_rps=fleet.NO_DATA)
    observed = fleet.Observed(one.now_s, (blind,), domains=(rack(left_w=-500.0),))
    decided = decide.decide(observed, one.policies, (TP4,), one.memory, QUICK).policies[0]
    assert decided.pools[0].clock_cap_mhz is None


@settings(max_examples=20)
@given(st.floats(-2000, 20_000), st.floats(0, 8000), st.sampled_from((None, 1785.0)))
def test_more_headroom_never_plans_fewer_gpus(left_w: float, more_w: float, low_mhz: float | None) -> None:
    """And nobody shrinks for want of it."""
    few, many = Racked(HIGH, LOW), Racked(HIGH, LOW)
    few.cycle(rack(left_w=left_w, low_mhz=low_mhz), times=2)
    many.cycle(rack(left_w=min(left_w + more_w, 20_000), low_mhz=low_mhz), times=2)
    for key in ("llm/high", "llm/low"):
        assert 8 <= few.gpus(key) <= many.gpus(key)


@settings(max_examples=20)
@given(st.floats(-2000, 20_000), st.booleans())
def test_the_order_of_policies_changes_nothing(left_w: float, capped: bool) -> None:
    domain = rack(left_w=left_w, low_mhz=1560 if capped else None)
    one, other = Racked(HIGH, LOW), Racked(LOW, HIGH)
    first = {d.policy: d for d in one.cycle(domain, times=2, capped=capped).policies}
    second = {d.policy: d for d in other.cycle(domain, times=2, capped=capped).policies}
    assert first == second
