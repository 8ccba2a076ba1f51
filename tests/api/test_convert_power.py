"""PowerDomains on their way inside: watts and shares, what is refused, what a slow meter is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.api import convert_power, errors, manifests, v1alpha1
from capstan.powercap import budget, domains
from support import api


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"spec.strategy": "Guaranteed"}, "spec.strategy", id="watt-grants"),
        pytest.param(
            {"spec.reductions": [{"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "budgetWatts": 1}]},
            "spec.reductions",
            id="timed-reductions",
        ),
        pytest.param({"spec.feeds": [{"name": "a", "query": "up"}]}, "spec.feeds", id="redundant-feeds"),
    ],
)
def test_a_domain_refuses_what_it_would_not_hold(changes: dict[str, object], field: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        convert_power.power_domain(api.changed(api.rack(), changes), ())
    assert caught.value.field == field


def test_a_power_domain_arrives_in_watts_and_shares() -> None:
    domain = convert_power.power_domain(api.rack(), ("gpu-0", "gpu-1"))
    assert domain == domains.Domain(
        name="rack-7",
        budget_w=40_000.0,
        kind="Rack",
        thresholds=domains.Thresholds(0.62, 0.72, 0.97, 0.05),
        caps=domains.Caps(1785.0, 1560.0, 1830.0, 405.0),
        non_gpu_typical_w=2800.0,
        non_gpu_worst_w=4600.0,
        supply_efficiency_ratio=0.94,
        nodes=("gpu-0", "gpu-1"),
    )
    assert not domain.armed, "a manifest does not arm: admission does"


def test_thresholds_and_caps_left_out_are_the_machines_own() -> None:
    bare = api.changed(api.rack(), {"spec.thresholds": api.DROP, "spec.caps": api.DROP})
    domain = convert_power.power_domain(bare, ())
    assert domain.thresholds == domains.Thresholds()
    assert domain.caps == domains.Caps()


@given(
    percents=st.tuples(st.integers(1, 70), st.integers(60, 90), st.integers(80, 100), st.integers(1, 9)),
    clocks=st.tuples(*[st.integers(1500, 2000)] * 3, st.integers(1, 1600)),
)
def test_an_accepted_domain_never_breaks_an_invariant_of_the_machine(
    percents: tuple[int, int, int, int], clocks: tuple[int, int, int, int]
) -> None:
    names = ("lowPercent", "highPercent", "brakePercent", "hysteresisPercent")
    caps = ("lowBaseMegahertz", "lowDeepMegahertz", "highMegahertz", "brakeMegahertz")
    manifest = api.changed(
        api.rack(),
        {
            "spec.thresholds": dict(zip(names, percents, strict=True)),
            "spec.caps": dict(zip(caps, clocks, strict=True)),
        },
    )
    low, high, brake, hysteresis = percents
    base, deep, top, hardest = clocks
    if hysteresis < low < high < brake and hardest <= deep <= min(base, top):
        assert convert_power.power_domain(manifest, ()).caps.brake_mhz == hardest
    else:
        with pytest.raises(errors.Invalid, match=r"^spec[.](thresholds|caps)[.]"):
            convert_power.power_domain(manifest, ())


def test_who_applies_budgets_over_time_gets_them_in_seconds_and_watts() -> None:
    """2026-01-01T00:00Z is 1,767,225,600 s of epoch time; an offset counts."""
    reduction = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T03:00:00+02:00", "budgetWatts": 30_000}
    changes = {"spec.reductions": [reduction], "spec.feeds": [{"name": "a", "query": "feed_watts"}]}
    manifest = api.changed(api.rack(), {**changes, "spec.meter": {"query": "pdu_watts", "maxAgeSeconds": 30}})
    assert convert_power.power_domain(manifest, (), timed=True).budget_w == 40_000
    spec = manifests.parse(v1alpha1.PowerDomain, manifest).spec
    assert convert_power.reductions(spec) == (budget.Reduction(1_767_225_600, 1_767_229_200, 30_000),)
    assert convert_power.meter(spec) == convert_power.Query("pdu_watts", 30)
    assert convert_power.feeds(spec) == {"a": convert_power.Query("feed_watts", convert_power.FEED_MAX_AGE_S)}


def test_a_domain_without_a_meter_asks_nobody() -> None:
    spec = manifests.parse(v1alpha1.PowerDomain, api.rack()).spec
    assert (convert_power.meter(spec), convert_power.feeds(spec), convert_power.reductions(spec)) == (None, {}, ())
