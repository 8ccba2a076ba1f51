"""Capacity of a replica, replicas for a peak, and the clock with the least watts."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan.model import steady
from capstan.model.policy import Bounds
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import clock, sizing
from support.builders import profile

P = profile()
CHAT = Slo(ttft_s=2.0, tpot_s=0.1)
CONVERSATION = Workload(0.0, 1155, 211)  # mean lengths of the Azure 2023 conversation trace


def options(rps: float, **bounds: float) -> tuple[clock.Option, ...]:
    load = Workload(rps, CONVERSATION.prompt_tokens, CONVERSATION.output_tokens)
    return clock.options((clock.Part(P, 1, load),), CHAT, min_clock_mhz=bounds.get("min_clock_mhz"), margin=0.9)


@pytest.mark.parametrize(
    ("peak_rps", "each_rps", "replicas"),
    [(10, 4, 3), (8, 4, 2), (8.0000001, 4, 3), (0, 4, 1), (0.1, 4, 1)],
    ids=["ten at four each", "exactly two", "a hair over two", "nothing asked", "hardly anything"],
)
def test_replicas_cover_the_peak(peak_rps: float, each_rps: float, replicas: int) -> None:
    assert sizing.replicas_for(peak_rps, each_rps) == replicas


def test_a_replica_without_capacity_is_a_broken_invariant() -> None:
    with pytest.raises(ValueError, match="one_replica_rps"):
        sizing.replicas_for(1.0, 0.0)


def test_capacity_is_the_edge_of_the_slo() -> None:
    edge_rps = sizing.capacity_rps(P, CONVERSATION, CHAT)
    assert options(edge_rps * 0.999)[0].feasible
    assert not options(edge_rps * 1.001)[0].feasible


def bisected_rps(load: Workload, slo: Slo, margin: float) -> float:
    """Return the capacity that thirty halvings of the bracket find: slow, and with nothing in it to get wrong."""
    low, high = 0.0, sizing.BRACKET_RPS
    for _ in range(30):
        middle = (low + high) / 2
        asked = Workload(middle, load.prompt_tokens, load.output_tokens)
        point = steady.operating_point(P, asked, percentile_ratio=slo.percentile_ratio)
        low, high = (middle, high) if sizing.meets(point, slo, margin=margin) else (low, middle)
    return low


@settings(max_examples=60)
@given(
    st.floats(1, 15_000),
    st.floats(1, 2_000),
    st.floats(0.02, 5.0),
    st.floats(0.01, 0.3),
    st.sampled_from((0.9, 0.95, 0.99)),
    st.sampled_from((0.8, 0.9, 1.0)),
)
def test_the_quick_search_finds_the_very_rate_that_bisection_finds(
    prompt: float, output: float, ttft_s: float, tpot_s: float, quantile: float, margin: float
) -> None:
    load, slo = Workload(0.0, prompt, output).coarse(), Slo(ttft_s, tpot_s, quantile)
    assert sizing.capacity_rps(P, load, slo, margin=margin) == bisected_rps(load, slo, margin)


@settings(max_examples=25)
@given(st.floats(0.3, 5.0), st.floats(1.05, 3.0))
def test_a_looser_slo_never_lowers_capacity(ttft_s: float, factor: float) -> None:
    tight = sizing.capacity_rps(P, CONVERSATION, Slo(ttft_s, 0.1))
    loose = sizing.capacity_rps(P, CONVERSATION, Slo(ttft_s * factor, 0.1 * factor))
    assert loose >= tight


def test_an_unreachable_slo_has_no_capacity() -> None:
    """TTFT of 10 ms is below the host overhead alone."""
    assert sizing.capacity_rps(P, CONVERSATION, Slo(0.010, 0.1)) == 0


def test_the_clock_follows_the_load() -> None:
    best = [clock.least_power(options(rps)) for rps in (0.5, 1.5, 3.0)]
    clocks = [found.clock_mhz for found in best if found is not None]
    assert clocks == sorted(clocks)
    assert clocks[0] < clocks[-1] < P.clocks.max_mhz


def test_the_chosen_clock_is_feasible_and_the_cheapest() -> None:
    looked_at = options(1.5)
    best = clock.least_power(looked_at)
    assert best is not None
    assert best.feasible
    assert all(best.gpus_w <= o.gpus_w for o in looked_at if o.feasible)


def test_an_overload_has_no_feasible_clock() -> None:
    assert clock.least_power(options(40.0)) is None


def test_the_grid_starts_at_the_maximum_and_keeps_the_floor() -> None:
    grid = clock.grid_mhz(P, min_clock_mhz=1200)
    assert grid[0] == 1980
    assert min(grid) >= 1200
    assert all(mhz == P.clocks.snapped_mhz(mhz) for mhz in grid)


@given(
    st.floats(0.03, 10.0), st.integers(50, 4000), st.integers(10, 900), st.none() | st.sampled_from(clock.grid_mhz(P))
)
def test_the_search_finds_what_looking_at_every_clock_finds(
    rps: float, prompt: int, output: int, standing_mhz: float | None
) -> None:
    load = Workload(rps, prompt, output)
    parts = (clock.Part(P, 1, load),)
    every = clock.options(parts, CHAT, min_clock_mhz=None, margin=0.9)
    some = clock.searched(parts, CHAT, min_clock_mhz=None, margin=0.9, standing_mhz=standing_mhz)
    full, quick = clock.least_power(every), clock.least_power(some)
    assert (full is None) == (quick is None)
    if full is not None and quick is not None:
        assert quick.gpus_w <= full.gpus_w * 1.005  # half a percent: far less than what keeps a clock in force
        assert len(some) < len(every)
        assert some[0].clock_mhz == every[0].clock_mhz
        assert standing_mhz is None or standing_mhz in {option.clock_mhz for option in some}


@given(st.floats(0.0, 100.0), st.floats(1.0, 8000.0), st.floats(1.0, 2000.0))
def test_a_coarse_load_is_never_lighter_and_at_most_two_percent_heavier(
    rps: float, prompt: float, output: float
) -> None:
    load = Workload(rps, prompt, output)
    coarse = load.coarse()
    pairs = ((rps, coarse.arrival_rps), (prompt, coarse.prompt_tokens), (output, coarse.output_tokens))
    for asked, given_ in pairs:
        assert asked * (1 - 1e-9) <= given_ <= asked * 1.0201
    assert coarse.coarse() == coarse


@given(st.floats(0.0, 60.0), st.integers(50, 4000), st.integers(10, 900), st.integers(0, 30))
@example(rps=2.0, prompt=2881, output=11, near=0)  # one says three, three say one, and two are it
@example(rps=400.0, prompt=2881, output=11, near=1000)
def test_the_count_that_stands_is_only_a_place_to_look_first(rps: float, prompt: int, output: int, near: int) -> None:
    load = Workload(0.0, prompt, output)
    one_rps = sizing.capacity_rps(P, load, CHAT, margin=0.9)
    found = sizing.smallest(P, load, CHAT, peak_rps=rps, near=near, margin=0.9)
    if one_rps <= 0:
        assert found is None
        return
    assert found is not None

    def carries(count: int) -> bool:
        return sizing.meets(sizing.point(P, load.at(rps / count), CHAT, replicas=count), CHAT, margin=0.9)

    assert carries(found)
    assert found == 1 or not carries(found - 1)


@pytest.mark.parametrize(
    ("max_gpus", "fleet_gpus", "most"),
    [(None, None, 6), (20, None, 5), (None, 11, 2), (20, 11, 2), (3, None, 0)],
    ids=[
        "only the count",
        "20 GPUs are five of four",
        "a fleet of 11 holds two",
        "the tighter of both",
        "not even one",
    ],
)
def test_bounds_and_fleet_leave_the_tighter_count(max_gpus: int | None, fleet_gpus: int | None, most: int) -> None:
    assert Bounds(1, 6, max_gpus=max_gpus, tensor_parallel=(4,)).most_replicas(4, fleet_gpus) == most
