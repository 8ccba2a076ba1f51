"""The nearest miss: by replicas where some count would do, by latency where none does."""

from __future__ import annotations

import dataclasses

import pytest

from capstan.model.policy import Bounds
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import closest, sizing
from support import builders

LOAD = Workload(0.0, 1000.0, 200.0)
CHAT = Slo(2.0, 0.1)
BOUNDS = Bounds(1, 3, tensor_parallel=(4, 8))
TP4 = builders.profile()


def faster(profile: Profile, tp: int, ratio: float) -> Profile:
    """Return a degree that does everything in `ratio` of the time."""
    t = profile.timing
    timing = dataclasses.replace(
        t,
        weights_s=t.weights_s * ratio,
        prefill_per_token_s=t.prefill_per_token_s * ratio,
        prefill_per_token_long_s=t.prefill_per_token_long_s * ratio,
        prefill_min_s=t.prefill_min_s * ratio,
    )
    return dataclasses.replace(profile, name=f"test-tp{tp}", tp=tp, timing=timing)


TP8 = faster(TP4, 8, 0.6)


def found(
    *profiles: Profile, slo: Slo = CHAT, bounds: Bounds = BOUNDS, peak_rps: float = 5.0, load: Workload = LOAD
) -> closest.Closest:
    one = closest.of(profiles, load, slo, bounds, peak_rps=peak_rps, margin=0.9)
    assert one is not None
    return one


def test_a_load_that_needs_more_replicas_says_how_many() -> None:
    """As many as `sizing` would ask for; the bounds leave three."""
    one_rps = sizing.capacity_rps(TP4, LOAD.coarse(), CHAT, margin=0.9)
    one = found(TP4, peak_rps=10 * one_rps)
    assert (one.tp, one.needed, one.allowed) == (4, 10, 3)


def test_of_two_degrees_the_one_that_lacks_less_is_closest() -> None:
    """Tp 8 carries more each; both are bound by three replicas."""
    one_rps = sizing.capacity_rps(TP4, LOAD.coarse(), CHAT, margin=0.9)
    assert found(TP4, TP8, peak_rps=10 * one_rps).tp == 8


def test_gpus_may_make_the_smaller_degree_the_closer_one() -> None:
    """With 12 GPUs three replicas of tp 4 stand beside one of tp 8, which is not three times as fast."""
    one_rps = sizing.capacity_rps(TP4, LOAD.coarse(), CHAT, margin=0.9)
    one = found(TP4, TP8, bounds=dataclasses.replace(BOUNDS, max_gpus=12), peak_rps=4 * one_rps)
    assert (one.tp, one.allowed) == (4, 3)


def test_a_limit_that_a_lone_request_breaks_is_told_by_its_latency() -> None:
    """A prefill of 1,000 tokens takes tens of milliseconds: nobody answers within one."""
    one = found(TP4, TP8, slo=Slo(0.001, 0.1))
    assert one.needed is None
    assert one.tp == 8
    assert one.alone is not None
    assert one.alone.ttft_s > 0.001


def test_a_degree_that_some_count_would_do_for_is_closer_than_one_that_none_does() -> None:
    lone = sizing.point(TP4, LOAD.at(0.0), CHAT)
    better = sizing.point(TP8, LOAD.at(0.0), CHAT)
    assert lone is not None
    assert better is not None
    between = Slo((lone.ttft_s + better.ttft_s) / 2 / 0.9, 0.1)
    one = found(TP4, TP8, slo=between, peak_rps=1e4)
    assert one.tp == 8
    assert one.needed is not None


def test_requests_that_do_not_fit_are_told_as_such() -> None:
    one = found(TP4, load=Workload(0.0, 300_000.0, 200_000.0))
    assert one.needed is None
    assert one.alone is None


def test_without_physics_nothing_is_close() -> None:
    assert closest.of((), LOAD, CHAT, BOUNDS, peak_rps=1.0, margin=0.9) is None


@pytest.mark.parametrize("peak_rps", [0.0, 1e-9])
def test_next_to_no_load_needs_one_replica(peak_rps: float) -> None:
    assert found(TP4, peak_rps=peak_rps).needed == 1
