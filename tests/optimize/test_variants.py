"""The cheapest variant that is good enough: never below the quality, never outside SLO, bounds and GPUs."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model.policy import Bounds
from capstan.model.slo import Slo
from capstan.model.variant import Variant
from capstan.model.workload import Workload
from capstan.optimize import sizing, variants
from capstan.optimize.variants import Choice, Offer
from support import builders
from support.planned import with_tp

TP4 = builders.profile()
BOTH = (TP4, with_tp(TP4, 8))
SLO = Slo(ttft_s=2.0, tpot_s=0.1, percentile_ratio=0.99)
LOAD = Workload(arrival_rps=2.0, prompt_tokens=1000.0, output_tokens=200.0)
BOUNDS = Bounds(1, 16, tensor_parallel=(4, 8))
GPUS = 64


def offer(name: str, quality: float, *, weights: float = 1.0) -> Offer:
    made = Variant(name, TP4.models[0], quality, weight_ratio=weights)
    return Offer(made, tuple(made.profile(profile) for profile in BOTH))


PLAIN, SMALLER = offer("plain", 0.84), offer("smaller", 0.80, weights=0.5)


def cheapest(
    *offers: Offer, quality: float, load: Workload = LOAD, slo: Slo = SLO, bounds: Bounds = BOUNDS, gpus: int = GPUS
) -> Choice | None:
    return variants.cheapest(load, slo, bounds, offers, min_quality_ratio=quality, gpus=gpus)


def test_smaller_weights_draw_less_where_they_are_good_enough() -> None:
    chosen, plain = cheapest(PLAIN, SMALLER, quality=0.8), cheapest(PLAIN, quality=0.8)
    assert chosen is not None
    assert plain is not None
    assert chosen.variant.name == "smaller"
    assert chosen.draw_w < plain.draw_w


def test_the_cheapest_is_left_where_it_is_not_good_enough() -> None:
    chosen = cheapest(PLAIN, SMALLER, quality=0.81)
    assert chosen is not None
    assert chosen.variant.name == "plain"


def test_nothing_is_chosen_where_nothing_is_good_enough() -> None:
    assert cheapest(PLAIN, SMALLER, quality=0.9) is None


def test_of_equal_watts_the_better_one_is_taken() -> None:
    twin = offer("twin", 0.83)
    for order in ((PLAIN, twin), (twin, PLAIN)):
        chosen = cheapest(*order, quality=0.8)
        assert chosen is not None
        assert chosen.variant.name == "plain"


def test_joules_of_a_request_are_the_watts_over_the_rate() -> None:
    chosen = cheapest(PLAIN, quality=0.0)
    assert chosen is not None
    assert chosen.request_j == pytest.approx(chosen.draw_w / 2.0)


def test_the_watts_are_those_of_the_steady_state_that_it_names() -> None:
    """Asked again of `sizing`: the share of the load that one replica has, at the chosen degree and clock."""
    chosen = cheapest(PLAIN, quality=0.0)
    assert chosen is not None
    profile = next(p for p in PLAIN.profiles if p.tp == chosen.tp)
    at = sizing.point(profile, LOAD.scaled(1 / chosen.replicas), SLO, x=chosen.x_ratio)
    assert at is not None
    assert chosen.draw_w == pytest.approx(at.gpu_w * chosen.tp * chosen.replicas)
    assert sizing.meets(at, SLO, margin=variants.MARGIN_RATIO)


def test_an_slo_that_nothing_meets_and_a_fleet_that_is_too_small_choose_nothing() -> None:
    assert cheapest(PLAIN, quality=0.0, slo=Slo(ttft_s=0.001, tpot_s=0.1, percentile_ratio=0.99)) is None
    assert cheapest(PLAIN, quality=0.0, load=dataclasses.replace(LOAD, arrival_rps=500.0), gpus=8) is None
    assert cheapest(PLAIN, quality=0.0, gpus=2) is None


def test_degrees_and_clocks_outside_the_bounds_are_not_looked_at() -> None:
    clocks = TP4.clocks
    chosen = cheapest(PLAIN, quality=0.0, bounds=Bounds(1, 16, tensor_parallel=(8,), min_clock_mhz=clocks.max_mhz))
    assert chosen is not None
    assert (chosen.tp, chosen.x_ratio) == (8, 1.0)


@settings(max_examples=25)
@given(st.floats(0.0, 1.0), st.floats(0.1, 8.0), st.lists(st.floats(0.5, 1.0), min_size=1, max_size=3))
def test_whatever_is_asked_quality_slo_and_gpus_are_kept(quality: float, rate: float, qualities: list[float]) -> None:
    offers = [offer(f"v{i}", each, weights=1 / (i + 1)) for i, each in enumerate(qualities)]
    load = dataclasses.replace(LOAD, arrival_rps=rate)
    chosen = cheapest(*offers, quality=quality, load=load)
    assert (chosen is None) or chosen.variant.quality_ratio >= quality
    if any(each >= quality for each in qualities):
        assert chosen is not None, "this load is small: whoever is good enough can carry it"
        assert chosen.tp * chosen.replicas <= GPUS
        assert BOUNDS.min_replicas <= chosen.replicas <= BOUNDS.max_replicas


@settings(max_examples=15)
@given(st.floats(0.0, 0.84))
def test_a_lower_bar_never_draws_more(quality: float) -> None:
    strict, loose = (cheapest(PLAIN, SMALLER, quality=bar) for bar in (max(quality, 0.8), min(quality, 0.8)))
    assert strict is not None
    assert loose is not None
    assert loose.draw_w <= strict.draw_w
