"""The power loop over agents that record: arming, capping, silence, fencing, and how little it writes."""

from __future__ import annotations

from typing import cast

import pytest

from capstan.power import ports
from capstan.power.tree import Tree
from capstan.powercap.domains import Level, Timers
from support.power_loop import Site, conditions, domain

# 4 servers of 4 GPUs: AC = (16 x w + 4 x 400) / 0.94. At w = 500: 10,213 W; at 620: 12,255 W; at 100: 3,404 W.


async def test_a_domain_that_asks_and_fits_is_armed_and_its_nodes_get_a_safe_setting() -> None:
    site = Site(domain())
    verdict = await site.run(2)
    assert verdict.armed
    assert verdict.step.level is Level.NORMAL
    assert set(site.api.caps) == {f"gpu-{i}" for i in range(4)}
    power = site.api.caps["gpu-0"][0]
    assert (power["epoch"], "caps" in power) == (3, False)
    assert power["highPods"] == [{"namespace": "llm", "name": "chat-0"}]
    assert conditions(site.api.statuses[-1])["Armed"] == ("True", "Applied")


async def test_a_budget_below_the_safe_sum_does_not_arm_and_says_by_how_much() -> None:
    site = Site(domain(budget_w=5000))
    verdict = await site.run(2)
    assert not verdict.armed
    assert site.api.caps == {}
    made = site.api.statuses[-1]
    assert conditions(made)["Armed"] == ("False", "AdmissionFailed")
    message = next(c["message"] for c in made["conditions"] if c["type"] == "Armed")
    assert "W above spec.budgetWatts" in message


async def test_advise_watches_and_touches_nothing() -> None:
    site = Site(domain(mode="Advise"))
    site.draw(620)
    verdict = await site.run(5)
    assert (verdict.armed, verdict.step.level) == (False, Level.DISARMED)
    assert site.api.caps == {}
    assert all(call.caps.low_mhz is None for call in site.fleet.calls.values())
    assert site.meter.advice == []
    assert conditions(site.api.statuses[-1])["Armed"] == ("False", "AdviseOnly")


async def test_above_the_high_threshold_low_priority_is_capped_by_the_next_call() -> None:
    """500 W a GPU: 10,213 W of 12,000 W is 85.1 %."""
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    verdict = await site.run(1)
    assert verdict.step.level is Level.LOW_DEEP
    assert site.api.caps["gpu-0"][-1]["caps"] == {"lowMegahertz": 1560}
    await site.run(1)
    assert site.fleet.calls["gpu-0"].caps.low_mhz == 1560
    assert site.fleet.calls["gpu-0"].caps.high_mhz is None
    assert verdict.capped_gpus == 8, "batch's two servers; chat is High"


async def test_a_released_cap_travels_by_nodecap() -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    await site.run(3)
    site.draw(100)
    await site.run(120)
    assert "caps" not in site.api.caps["gpu-0"][-1]
    sequences = [cast(int, power["sequence"]) for power in site.api.caps["gpu-0"]]
    assert sequences == sorted(set(sequences))


async def test_an_api_outage_delays_no_cap() -> None:
    site = Site(domain())
    await site.run(2)
    site.api.down = True
    site.draw(500)
    await site.run(2)
    assert site.fleet.calls["gpu-2"].caps.low_mhz == 1560
    site.api.down = False
    await site.run(1)
    assert site.api.caps["gpu-2"][-1]["caps"] == {"lowMegahertz": 1560}


async def test_silent_agents_count_at_their_worst_and_fail_safe() -> None:
    site = Site(domain())
    await site.run(2)
    site.fleet.silent = {"gpu-0", "gpu-1"}
    verdict = await site.run(8)
    assert verdict.step.level is Level.FAIL_SAFE
    assert conditions(site.api.statuses[-1])["MembersComplete"] == ("False", "TelemetryLost")


async def test_one_silent_agent_never_lowers_what_counts() -> None:
    site = Site(domain())
    before = await site.run(2)
    site.fleet.silent = {"gpu-3"}
    after = await site.run(8)
    assert after.step.projected_w > before.step.projected_w


async def test_a_calm_domain_writes_nothing() -> None:
    """Promise P7: once the world stops changing, nothing is written."""
    site = Site(domain())
    await site.run(5)
    written = (len(site.api.statuses), sum(map(len, site.api.caps.values())), len(site.api.events))
    await site.run(300)
    assert (len(site.api.statuses), sum(map(len, site.api.caps.values())), len(site.api.events)) == written


async def test_a_restarted_controller_loosens_nothing_and_fences_the_old_one() -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    await site.run(2)
    before = site.api.caps["gpu-2"][-1]
    site.start(epoch=4)
    verdict = await site.run(1)
    assert verdict.step.level in (Level.LOW_DEEP, Level.HIGH_CAP)
    after = site.api.caps["gpu-2"][-1]
    assert after["epoch"] == 4
    assert after["caps"]["lowMegahertz"] <= before["caps"]["lowMegahertz"]


async def test_an_explicit_release_gives_the_nodes_back() -> None:
    """Promise P9: Act -> Advise lifts every cap through the NodeCap, the only thing that loosens."""
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    await site.run(2)
    site.api.edit(domain(mode="Advise"))
    await site.run(2)
    last = site.api.caps["gpu-2"][-1]
    assert "caps" not in last
    assert last["safe"] == {"clockMegahertz": 10_000, "powerLimitWatts": 100_000}
    written = len(site.api.caps["gpu-2"])
    await site.run(10)
    assert len(site.api.caps["gpu-2"]) == written


async def test_a_budget_cut_acts_in_the_same_tick() -> None:
    site = Site(domain())
    site.draw(400)
    await site.run(2)
    site.api.edit(domain(budget_w=8900))
    verdict = await site.run(1)
    assert verdict.step.level is not Level.NORMAL


async def test_a_spec_that_became_invalid_keeps_the_last_valid_one_armed() -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    site.api.edit(domain(budgetWatts=-5))
    verdict = await site.run(2)
    assert verdict.armed
    assert verdict.step.level is Level.LOW_DEEP
    assert conditions(site.api.statuses[-1])["Accepted"] == ("False", "InvalidSpec")


async def test_a_row_above_the_rack_caps_too() -> None:
    """The tightest cap over all ancestors holds: the rack alone would stay Normal."""
    row = domain("row-1", budget_w=12_000, type="Row")
    rack = domain("rack-7", budget_w=30_000, parentName="row-1")
    site = Site(rack, row)
    await site.run(2)
    site.draw(500)
    await site.run(2)
    assert site.fleet.calls["gpu-2"].caps.low_mhz == 1560


@pytest.mark.parametrize(("high", "pods"), [("true", 1), ("false", 0)], ids=["admitted", "not admitted"])
async def test_high_priority_is_the_domains_to_grant(high: str, pods: int) -> None:
    """Promise P2: what a tenant writes is a wish; the namespace's label and the domain decide."""
    site = Site(domain())
    object.__setattr__(site.api.scene_, "namespaces", {"llm": {"high": high}})
    await site.run(2)
    assert len(site.api.caps["gpu-0"][-1].get("highPods", ())) == pods


async def test_a_server_that_joins_an_armed_rack_counts_at_its_worst_and_blinds_nobody() -> None:
    """Its agent is not up yet: 4 x 2,128 W heard and (4 x 700 x 1.05 + 500) / 0.94 = 3,660 W for the newcomer."""
    site = Site(domain())
    await site.run(2)
    site.join("gpu-4")
    site.fleet.silent = {"gpu-4"}
    verdict = await site.run(2)
    assert verdict.step.level is Level.NORMAL
    assert verdict.step.projected_w - (verdict.step.measured_w or 0) == pytest.approx(3660, abs=1)
    site.fleet.silent = set()
    assert (await site.run(1)).step.missing == ()


async def test_a_controller_that_restarts_beside_a_dead_node_still_caps() -> None:
    site = Site(domain())
    await site.run(2)
    safe = site.api.caps["gpu-2"][-1]["safe"]
    site.fleet.silent = {"gpu-0"}
    site.start(epoch=4)
    site.draw(500)
    await site.run(2)
    assert site.fleet.calls["gpu-2"].caps.low_mhz is not None
    assert site.api.caps["gpu-2"][-1]["safe"] == safe, "the safe setting comes from the NodeCaps"


async def test_a_controller_that_restarts_on_an_unreadable_spec_releases_nothing() -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    await site.run(2)
    before = {node: list(written) for node, written in site.api.caps.items()}
    site.api.edit(domain(budgetWatts=-5))
    site.start(epoch=4)
    site.draw(100)
    for _ in range(3):
        await site.power.tick()
        await site.power.settle()
    assert site.api.caps == before


async def test_a_controller_that_restarts_in_fail_safe_keeps_the_brake_that_nodes_hold() -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(690)
    assert (await site.run(1)).step.level is Level.BRAKE
    site.fleet.silent = {"gpu-0", "gpu-1"}
    site.draw(100)
    assert (await site.run(8)).step.level is Level.FAIL_SAFE
    site.start(epoch=4)
    await site.run(2)
    assert site.api.caps["gpu-2"][-1]["caps"]["lowMegahertz"] == 405


async def test_one_refused_nodecap_keeps_no_other_node_from_its_own() -> None:
    site = Site(domain())
    site.api.refused = {"gpu-0"}
    await site.run(2)
    assert set(site.api.caps) == {"gpu-1", "gpu-2", "gpu-3"}
    assert conditions(site.api.statuses[-1])["Armed"] == ("True", "Applied")
    site.api.refused = set()
    await site.run(1)
    assert set(site.api.caps) == {f"gpu-{i}" for i in range(4)}


async def test_advise_says_what_it_would_do() -> None:
    site = Site(domain(mode="Advise"))
    site.draw(500)
    await site.run(2)
    made = site.api.statuses[-1]
    assert conditions(made)["Capping"] == ("False", "AdviseOnly")
    message = next(c["message"] for c in made["conditions"] if c["type"] == "Capping")
    assert message == "in mode Act the state would be LowDeep"


async def test_a_draw_that_wavers_around_a_threshold_writes_nothing() -> None:
    """Promise P6: 440 W is 76.3 % of the budget, 430 W is 74.9 %; LowBase holds, its condition does not flicker."""
    site = Site(domain())
    await site.run(2)
    site.draw(440)
    assert (await site.run(2)).step.level is Level.LOW_BASE
    written = len(site.api.statuses)
    for second in range(40):
        site.draw(440 if second % 2 else 430)
        assert (await site.run(1)).step.level is Level.LOW_BASE
    assert len(site.api.statuses) == written


async def test_high_priority_holds_only_under_the_domain_that_admits_it() -> None:
    """Another rack's admission gives nothing here."""
    other = domain(
        "rack-8", highPriorityNamespaces={"matchLabels": {"high": "true"}}, nodeSelector={"matchLabels": {"rack": "8"}}
    )
    site = Site(domain(highPriorityNamespaces={"matchLabels": {"high": "never"}}), other)
    await site.run(2)
    assert "highPods" not in site.api.caps["gpu-0"][-1]


async def test_a_lease_that_was_deleted_does_not_lock_the_controller_out() -> None:
    """Its transitions count from 0 again; the NodeCaps still say epoch 3."""
    site = Site(domain())
    await site.run(2)
    before = site.api.caps["gpu-2"][-1]
    site.start(epoch=0)
    await site.run(1)
    call = site.fleet.calls["gpu-2"]
    assert (call.epoch, call.sequence) >= (before["epoch"], before["sequence"])


async def test_an_epoch_that_rises_later_is_another_leader_and_stays_above_ours() -> None:
    site = Site(domain())
    await site.run(2)
    theirs = site.api.scene_.node_powers["gpu-2"]
    site.api.adopt("gpu-2", epoch=9, sequence=1)
    site.draw(500)
    await site.run(2)
    assert site.fleet.calls["gpu-2"].epoch == theirs.epoch == 3


def test_a_gpu_that_cannot_be_read_counts_at_its_largest_limit() -> None:
    """Missing data must not look like low power: 300 + 700, not 300."""
    seen = ports.GpuReport(0, "llm", "chat-0", 300, 700, 200, None)
    lost = ports.GpuReport(1, "", "", None, 700, 200, None)
    assert ports.AgentReport("gpu-0", 1, 1, 1, 0.1, safe=False, gpus=(seen, lost)).gpus_w == 1000


def test_the_timers_of_a_site_are_those_of_every_domain() -> None:
    """What --timer-factor sets; an invalid spec that is held on, too."""
    waits = Timers().over(10)
    (declared,) = Tree(timers=waits).read(ports.Scene(domains=(domain(),)))
    assert declared.domain.timers == waits
    (declared,) = Tree().read(ports.Scene(domains=(domain(),)))
    assert declared.domain.timers == Timers()
