"""The serving core as one function: what it does, what it holds, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import decide
from capstan.model import fleet, plan
from capstan.model.policy import Bounds, Knob, Knobs, Policy
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample, Stale
from capstan.model.workload import Workload
from capstan.optimize import clock, sizing
from support.builders import CHAT, H100, policy, profile

P = profile(startup_s=15)
QUICK = decide.Settings(cluster_period_s=60, instance_period_s=5, lookback_s=120, rate_window_s=30)
CAPACITY_RPS = sizing.capacity_rps(P, Workload(0, 1155, 211), policy().slo)


def seen(rps: Sample[float] | float = 2.0, *, ready: int = 2, starting: int = 0, **more: Any) -> fleet.ServiceObserved:
    base = fleet.ServiceObserved(
        policy=CHAT,
        pools=(fleet.PoolObserved("all", 4, desired=ready + starting, ready=ready, starting=starting),),
        arrival_rps=Fresh(rps, 1.0) if isinstance(rps, float | int) else rps,
        prompt_tokens=Fresh(1155.0, 1.0),
        output_tokens=Fresh(211.0, 1.0),
        waiting=Fresh(0.0, 1.0),
        gpu_product=H100,
    )
    return dataclasses.replace(base, **more)


class Service:
    """Steps one policy through cycles, as the live loop does."""

    def __init__(self, subject: Policy, *, known: bool = True, settings: decide.Settings = QUICK) -> None:
        self.policy = subject
        self.settings = settings
        self.profiles = (P,) if known else ()
        self.memory = plan.Memory()
        self.now_s = 1000.0

    def cycle(self, service: fleet.ServiceObserved, times: int = 1) -> plan.PolicyDecision:
        for _ in range(times):
            observed = fleet.Observed(self.now_s, (service,))
            decision = decide.decide(observed, (self.policy,), self.profiles, self.memory, self.settings)
            self.memory = decision.memory
            self.now_s += self.settings.instance_period_s
        return decision.policies[0]


def test_replicas_cover_the_forecast_peak_at_once() -> None:
    decision = Service(policy()).cycle(seen(2.2 * CAPACITY_RPS, ready=1))
    assert decision.pools[0].replicas >= 3
    assert decision.replicas_reason is Reason.FORECAST_PEAK


def test_a_count_falls_only_after_the_cluster_period() -> None:
    service = Service(policy(), settings=dataclasses.replace(QUICK, lookback_s=20))
    service.cycle(seen(2.0 * CAPACITY_RPS, ready=3))
    held = service.cycle(seen(1.0, ready=3), times=8)
    assert held.pools[0].replicas == 3
    assert held.replicas_reason is Reason.COOLING_DOWN
    lowered = service.cycle(seen(1.0, ready=3), times=5)
    assert lowered.pools[0].replicas == 1


def test_a_count_falls_by_half_at_most_where_the_load_is_hardly_known() -> None:
    """Five minutes of looks are to be remembered, and one minute was watched: 5 -> 3, rounded up."""
    service = Service(policy(), settings=dataclasses.replace(QUICK, lookback_s=300))
    lowered = service.cycle(seen(1.0, ready=5), times=14)
    assert lowered.pools[0].replicas == 3


def test_the_peak_of_the_epoch_is_provisioned_for() -> None:
    service = Service(policy())
    service.cycle(seen(2.0 * CAPACITY_RPS, ready=3))
    later = service.cycle(seen(1.0, ready=3), times=10)
    assert later.pools[0].replicas == 3
    assert later.replicas_reason in {Reason.NO_CHANGE_NEEDED, Reason.COOLING_DOWN}


def test_a_restarted_operator_removes_nothing_at_first_sight() -> None:
    decision = Service(policy()).cycle(seen(0.5, ready=5))
    assert decision.pools[0].replicas == 5
    assert decision.replicas_reason is Reason.COOLING_DOWN


@pytest.mark.parametrize(
    ("rps", "reason"),
    [
        (Missing(Reason.SOURCE_DOWN), Reason.SOURCE_DOWN),
        (Missing(Reason.LABEL_MISMATCH), Reason.LABEL_MISMATCH),
        (Missing(Reason.NO_DATA), Reason.NO_DATA),
        (Stale(0.0, 90.0), Reason.STALE_DATA),
    ],
    ids=["Prometheus down", "a pod missing from the metrics", "no series", "an old zero"],
)
def test_blind_keeps_the_replicas_and_gives_up_its_own_caps(rps: Sample[float], reason: Reason) -> None:
    service = Service(policy())
    capped = service.cycle(seen(1.0, ready=3), times=5)
    assert capped.pools[0].clock_cap_mhz is not None
    blind = service.cycle(seen(rps, ready=3), times=100)
    assert blind.pools[0] == plan.PoolPlan("all", 4, 3, clock_cap_mhz=None)
    assert (blind.replicas_reason, blind.clock_reason) == (reason, reason)
    assert blind.expected == plan.Effect()


def test_the_floor_holds_without_any_metrics() -> None:
    """Bounds are enforced by a path that needs no Prometheus."""
    subject = policy(bounds=Bounds(min_replicas=2, max_replicas=4, tensor_parallel=(4,)))
    decision = Service(subject).cycle(seen(Missing(Reason.SOURCE_DOWN), ready=0))
    assert decision.pools[0].replicas == 2


def test_a_missing_profile_holds_and_serves_at_full_clock() -> None:
    decision = Service(policy(), known=False).cycle(seen(9.0, ready=2))
    assert decision.pools[0] == plan.PoolPlan("all", 4, 2)
    assert decision.replicas_reason is Reason.PROFILE_MISSING


def test_a_named_profile_that_is_not_there_is_missing_even_where_another_fits() -> None:
    decision = Service(policy(profile_names=("other",))).cycle(seen(2.0))
    assert decision.replicas_reason is Reason.PROFILE_MISSING


def test_the_clock_falls_after_agreeing_ticks_and_rises_at_once() -> None:
    service = Service(policy())
    first, second, third = (service.cycle(seen(1.0)) for _ in range(3))
    assert (first.pools[0].clock_cap_mhz, first.clock_reason) == (None, Reason.WAITING_FOR_AGREEMENT)
    assert second.pools[0].clock_cap_mhz is None
    assert third.clock_reason is Reason.LEAST_ENERGY
    low_mhz = third.pools[0].clock_cap_mhz
    assert low_mhz is not None
    risen = service.cycle(seen(1.9 * CAPACITY_RPS))
    assert risen.pools[0].clock_cap_mhz is None or risen.pools[0].clock_cap_mhz > low_mhz


def test_cycles_that_an_event_woke_are_no_ticks() -> None:
    service = Service(policy())
    for _ in range(10):
        woken = service.cycle(seen(1.0))
        service.now_s -= service.settings.instance_period_s - 0.1
    assert woken.clock_reason is Reason.WAITING_FOR_AGREEMENT
    assert woken.pools[0].clock_cap_mhz is None


def test_waiting_requests_mean_full_clock_and_one_more_replica() -> None:
    service = Service(policy())
    service.cycle(seen(1.0), times=5)
    alarmed = service.cycle(seen(1.0, waiting=Fresh(50.0, 1.0)))
    assert alarmed.pools[0] == plan.PoolPlan("all", 4, 3, clock_cap_mhz=None)
    assert (alarmed.replicas_reason, alarmed.clock_reason) == (Reason.REQUESTS_WAITING, Reason.REQUESTS_WAITING)


def test_a_first_burst_is_no_silence() -> None:
    """300 requests at once to an idle service: none has finished, so no lengths are known, and they wait."""
    burst = seen(
        0.0, prompt_tokens=Missing(Reason.NO_DATA), output_tokens=Missing(Reason.NO_DATA), waiting=Fresh(171.0, 1.0)
    )
    decision = Service(policy()).cycle(burst)
    assert (decision.replicas_reason, decision.clock_reason) == (Reason.REQUESTS_WAITING, Reason.REQUESTS_WAITING)
    assert decision.pools[0].replicas == 3


def test_an_alarm_waits_for_the_replicas_that_are_starting() -> None:
    service = Service(policy())
    service.cycle(seen(1.0))
    service.cycle(seen(1.0, waiting=Fresh(50.0, 1.0)))
    again = service.cycle(seen(1.0, ready=2, starting=1, waiting=Fresh(50.0, 1.0)))
    assert again.pools[0].replicas == 3


def test_few_requests_raise_no_alarm() -> None:
    def slow(requests: float) -> fleet.ServiceObserved:
        return seen(1.0, sample_requests=Fresh(requests, 1.0), ttft_s=Fresh(9.0, 1.0), tpot_s=Fresh(0.05, 1.0))

    few = Service(policy()).cycle(slow(20.0))
    many = Service(policy()).cycle(slow(500.0))
    assert few.clock_reason is not Reason.REQUESTS_WAITING
    assert many.clock_reason is Reason.REQUESTS_WAITING


def test_nothing_is_scaled_out_into_a_capped_domain() -> None:
    decision = Service(policy()).cycle(seen(9 * CAPACITY_RPS, ready=2, capped=True))
    assert decision.pools[0].replicas == 2
    assert decision.replicas_reason is Reason.POWER_LIMITED


def test_a_power_budget_lowers_the_clock_even_blind() -> None:
    """8 GPUs at 700 W worst case are 5,600 W; a budget of 3,000 W leaves 375 W each."""
    subject = policy(power_budget_w=3000.0)
    blind = Service(subject).cycle(seen(Missing(Reason.SOURCE_DOWN), ready=2))
    assert blind.clock_reason is Reason.POWER_LIMITED
    assert blind.pools[0].clock_cap_mhz is not None
    loaded = Service(subject).cycle(seen(1.2 * CAPACITY_RPS, ready=2), times=4)
    assert loaded.expected.power_w is not None
    assert loaded.expected.power_w <= 3000


def test_a_power_budget_that_no_clock_fits_ends_in_the_clock_that_bounds_the_worst_case() -> None:
    """150 W a GPU is less than any clock needs under this load: the lowest clock, not full clock."""
    subject = policy(power_budget_w=1200.0, bounds=Bounds(min_replicas=1, max_replicas=2, tensor_parallel=(4,)))
    decision = Service(subject).cycle(seen(1.9 * CAPACITY_RPS, ready=2), times=4)
    assert decision.clock_reason is Reason.POWER_LIMITED
    assert decision.pools[0].clock_cap_mhz == clock.grid_mhz(P)[-1]


def test_a_paused_policy_has_no_plan() -> None:
    decision = Service(policy(paused=True)).cycle(seen(2.0))
    assert decision.pools == ()
    assert decision.replicas_reason is Reason.PAUSED


def test_a_knob_that_is_off_is_not_planned() -> None:
    decision = Service(policy(knobs=Knobs(clock=Knob.OFF))).cycle(seen(1.0), times=4)
    assert decision.pools[0].clock_cap_mhz is None
    assert decision.clock_reason is Reason.KNOB_OFF


def test_a_new_policy_starts_with_its_minimum_at_the_smallest_known_tp() -> None:
    subject = policy(bounds=Bounds(min_replicas=2, max_replicas=6, tensor_parallel=(2, 4, 8)))
    decision = Service(subject).cycle(seen(Missing(Reason.NO_DATA), pools=()))
    assert decision.pools[0] == plan.PoolPlan("all", 4, 2)


def test_a_constant_load_reaches_a_fixed_point_and_stays() -> None:
    """Promise P6: no flapping at a fixed point."""
    service = Service(policy())
    service.cycle(seen(1.3, ready=2), times=60)
    pools = {service.cycle(seen(1.3, ready=1)).pools for _ in range(60)}
    assert len(pools) == 1


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.floats(0, 60), st.none()), min_size=1, max_size=25),
    st.integers(0, 4),
    st.integers(0, 6),
)
def test_no_history_leaves_the_bounds(rates: list[float | None], low: int, spread: int) -> None:
    subject = policy(bounds=Bounds(min_replicas=low, max_replicas=low + spread, tensor_parallel=(4,)))
    service = Service(subject)
    for rate in rates:
        rps: Sample[float] = Missing(Reason.NO_DATA) if rate is None else Fresh(rate, 1.0)
        pool = service.cycle(seen(rps, ready=max(low, 1))).pools[0]
        assert low <= pool.replicas <= low + spread
        assert pool.clock_cap_mhz is None or P.clocks.min_mhz <= pool.clock_cap_mhz < P.clocks.max_mhz


@settings(max_examples=30)
@given(st.lists(st.floats(0, 20), min_size=2, max_size=4))
def test_the_order_of_policies_is_irrelevant(rates: list[float]) -> None:
    policies = tuple(policy(f"llm/p{i}") for i in range(len(rates)))
    services = tuple(dataclasses.replace(seen(rate), policy=p.key) for p, rate in zip(policies, rates, strict=True))
    observed = fleet.Observed(0.0, services)
    forward = decide.decide(observed, policies, (P,), plan.Memory(), QUICK)
    backward = decide.decide(observed, policies[::-1], (P,), plan.Memory(), QUICK)
    assert {d.policy: d for d in forward.policies} == {d.policy: d for d in backward.policies}


def test_late_requests_ask_for_the_full_clock_first_and_for_a_replica_when_that_did_not_help() -> None:
    """The clock answers in a step, a replica in minutes, and the observed p99 is that of the last minute."""
    service = Service(policy())
    service.cycle(seen(1.0), times=5)
    late = seen(1.0, tpot_s=Fresh(0.5, 1.0), sample_requests=Fresh(1000.0, 1.0))
    first = service.cycle(late)
    assert first.pools[0] == plan.PoolPlan("all", 4, 2, clock_cap_mhz=None)
    assert first.clock_reason is Reason.REQUESTS_WAITING
    window = round(service.settings.rate_window_s / service.settings.instance_period_s)
    assert service.cycle(late, times=window - 1).pools[0].replicas == 2
    assert service.cycle(late, times=2).pools[0].replicas == 3
