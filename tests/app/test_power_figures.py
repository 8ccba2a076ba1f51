"""What a scrape of `capstan power` shows of a domain: facts/polca.md 5.6, series by series."""

from __future__ import annotations

import pytest

from capstan.adapters.metrics import Metrics
from capstan.app.power.figures import PER_TICK, Figures
from support.power_loop import Site, domain

GRANTS = ("granted", "held", "silent", "stranded")


async def scraped(site: Site, seconds: int, *, watts: float = 100) -> dict[str, float]:
    """Return the series of the last tick, by name and labels."""
    metrics = Metrics("power")
    site.meter = Figures(metrics)  # type: ignore[assignment]  # the real one in the recorder's place
    site.start(epoch=3)
    await site.run(2)
    site.draw(watts)
    await site.run(seconds)
    lines = metrics.exposition().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def test_a_capped_domain_is_told_in_full() -> None:
    """500 W a GPU: 10,212.8 W of 12 kW; nameplate 14,638.3 W. Two seconds later: LowDeep, its caps confirmed."""
    found = await scraped(Site(domain(meter={"query": "pdu"})), 3, watts=500)
    rack = 'domain="rack-7"'
    expected = {
        f'capstan_domain_power_watts{{{rack},source="agents"}}': 10_212.8,
        f"capstan_domain_budget_watts{{{rack}}}": 12_000,
        f"capstan_domain_headroom_watts{{{rack}}}": 1_787.2,
        f"capstan_domain_utilization_ratio{{{rack}}}": 0.8511,
        f"capstan_domain_oversubscription_ratio{{{rack}}}": 1.2199,
        f'capstan_domain_state{{{rack},state="LowDeep"}}': 1,
        f'capstan_domain_state{{{rack},state="Normal"}}': 0,
        f"capstan_domain_armed{{{rack}}}": 1,
        f'capstan_domain_threshold_ratio{{{rack},name="high"}}': 0.85,
        f"capstan_domain_telemetry_coverage_ratio{{{rack}}}": 1,
        f"capstan_domain_telemetry_age_seconds{{{rack}}}": 0.2,
        f"capstan_domain_beyond_brake{{{rack}}}": 0,
        f'capstan_capped_gpus{{{rack},priority="low"}}': 8,
        f'capstan_capped_gpus{{{rack},priority="high"}}': 0,
        f'capstan_domain_capped_seconds_total{{{rack},priority="low",state="LowDeep"}}': 3,
        f"capstan_actuation_seconds_count{{{rack}}}": 1,
        f"capstan_actuation_seconds_sum{{{rack}}}": 1,
        f"capstan_domain_overbudget_seconds_total{{{rack}}}": 0,
    }
    assert {name: found.get(name) for name in expected} == pytest.approx(expected, rel=1e-3)
    moved = 'capstan_domain_transitions_total{domain="rack-7",from="Normal",reason="AboveHighThreshold",to="LowDeep"}'
    assert found[moved] == 1


async def test_joules_above_the_budget_are_counted() -> None:
    """690 W a GPU: 13,446.8 W, 1,446.8 W above the budget; of three ticks."""
    found = await scraped(Site(domain()), 3, watts=690)
    assert found['capstan_domain_overbudget_seconds_total{domain="rack-7"}'] == 3
    assert found['capstan_domain_overbudget_joules_total{domain="rack-7"}'] == pytest.approx(3 * 1446.8, abs=1)
    assert found['capstan_domain_brake_events_total{domain="rack-7"}'] == 1


async def test_a_domain_that_is_gone_is_gone_from_the_gauges() -> None:
    site = Site(domain(mode="Advise"))
    found = await scraped(site, 3, watts=500)
    assert found['capstan_domain_advised_state{domain="rack-7",state="LowDeep"}'] == 1
    assert found['capstan_domain_advised_transitions_total{domain="rack-7",from="Normal",to="LowDeep"}'] == 1
    metrics = site.meter._metrics  # type: ignore[attr-defined]  # the real one
    site.api.delete("rack-7")
    await site.power_of(site.power)
    left = [line for line in metrics.exposition().decode().splitlines() if "rack-7" in line]
    assert not any(line.startswith(name) for line in left for name in PER_TICK)


async def test_a_domain_under_grants_tells_what_is_granted_held_and_stranded() -> None:
    """All busy: every board is at its limit, and what limits leave of 12,000 W for worse times is stranded."""
    site = Site(domain(strategy="Guaranteed"))
    site.fleet.limited = True
    found = await scraped(site, 30, watts=700)
    rack = 'domain="rack-7"'
    grant = {kind: found[f'capstan_domain_grant_watts{{{rack},kind="{kind}"}}'] for kind in GRANTS}
    drawn_w = found[f'capstan_domain_power_watts{{{rack},source="agents"}}']
    assert grant["held"] == pytest.approx(12_000, abs=4), "each of four rounded down"
    assert (grant["granted"], grant["silent"]) == (grant["held"], 0)
    assert grant["stranded"] == pytest.approx(grant["held"] - drawn_w)
    assert found[f'capstan_capped_gpus{{{rack},priority="grant"}}'] == 16
    assert not any(name.startswith("capstan_domain_threshold_ratio") for name in found), "no threshold is in force"
