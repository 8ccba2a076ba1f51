"""Thresholds and grants on one site: one tree has one strategy, and while it changes one of them always holds."""

from __future__ import annotations

import dataclasses

import pytest

from capstan.power import ports
from capstan.powercap.domains import Level, Strategy
from support.granting import IN_FORCE_S, entries, granting, half_way, held_w, limits, said
from support.power_loop import Site, conditions, domain


async def test_one_tree_has_one_strategy() -> None:
    row = domain("row-1", budget_w=30_000, type="Row", nodeSelector=None, strategy="Statistical")
    site = Site(row, domain(parentName="row-1", strategy="Guaranteed"))
    await site.run(4)
    by_name = {str(raw["metadata"]["name"]): raw["status"] for raw in site.api.domains}
    assert conditions(by_name["rack-7"])["Accepted"] == ("False", "InvalidTree")
    assert conditions(by_name["rack-7"])["Armed"][0] == "False"
    assert conditions(by_name["row-1"])["Armed"][0] == "True"


async def test_to_grants_and_back_one_always_holds() -> None:
    """Caps stay until every grant was read back; grants stay until every node answers and N-1 fits."""
    site = Site(domain())
    site.fleet.limited = True
    site.draw(500)
    await site.run(5)
    assert said(site, "Capping") == ("True", "AboveHighThreshold")
    site.api.edit(domain(strategy="Guaranteed"))
    verdict = await site.run(3)
    assert (verdict.strategy, site.fleet.agents["gpu-2"].caps.low_mhz) == (Strategy.STATISTICAL, 1560)
    verdict = await site.run(IN_FORCE_S)
    assert verdict.strategy is Strategy.GUARANTEED
    await site.run(2)
    assert site.fleet.agents["gpu-2"].caps.low_mhz is None
    assert held_w(site) == pytest.approx(12_000, abs=4), "each of four rounded down"
    site.fleet.silent = {"gpu-0"}
    await site.run(8)
    site.api.edit(domain(strategy="Statistical"))
    assert (await site.run(5)).strategy is Strategy.GUARANTEED, "gpu-0 is not heard"
    site.fleet.silent = set()
    verdict = await site.run(3)
    assert (verdict.strategy, verdict.step.level) == (Strategy.STATISTICAL, Level.LOW_DEEP)
    assert site.ledgers.stored == {}
    assert {agent.caps.power_limit_w for agent in site.fleet.agents.values()} == {None}


async def test_a_leader_that_takes_over_half_way_to_grants_takes_no_limit_away() -> None:
    site = await half_way()
    site.start(epoch=4)
    written = {node: len(found) for node, found in site.api.caps.items()}
    verdict = await site.run(1)
    assert verdict.strategy is Strategy.STATISTICAL
    await site.run(IN_FORCE_S)
    for node, count in written.items():
        limits_w = [power["caps"]["powerLimitWatts"] for power in site.api.caps[node][count:]]
        assert limits_w, "written anew with its epoch"
        assert set(limits_w) == {532}


async def test_a_status_that_names_no_strategy_is_of_thresholds() -> None:
    """Armed by a version that knew no other: its caps stay until the grants that are declared now are in force."""
    site = Site(domain())
    site.fleet.limited = True
    site.draw(500)
    await site.run(5)
    del site.api.domains[0]["status"]["strategy"]
    site.api.edit(domain(strategy="Guaranteed"))
    site.start(epoch=4)
    verdict = await site.run(2)
    assert (verdict.strategy, site.fleet.agents["gpu-2"].caps.low_mhz) == (Strategy.STATISTICAL, 1560)
    verdict = await site.run(IN_FORCE_S + 4)
    assert (verdict.strategy, site.fleet.agents["gpu-2"].caps.low_mhz) == (Strategy.GUARANTEED, None)


async def test_a_nodecap_that_changes_for_another_reason_delays_no_read_back() -> None:
    """Pods of high priority come and go every second; what the donor was told is the same."""
    site = granting()
    await site.run(2)
    for second in range(6):
        pods = () if second % 2 else site.api.scene_.pods[:1] or (ports.PodSeen("llm", "chat-0", "gpu-0", "llm/chat"),)
        site.api.scene_ = dataclasses.replace(site.api.scene_, pods=pods)
        await site.run(1)
    assert entries(site)["gpu-0"].held_w == entries(site)["gpu-0"].grant_w


async def test_thresholds_go_on_capping_while_grants_come_and_the_api_server_is_away() -> None:
    """Half way to grants the ledger is in doubt: what was granted stays, and a brake still reaches every node."""
    site = await half_way()
    assert limits(site)["gpu-2"] == 532
    site.ledgers.lost = True
    site.fleet.silent = {"gpu-3"}
    await site.run(8)
    site.api.down = True
    site.fleet.limited = False
    site.draw(700)
    verdict = await site.run(5)
    assert (verdict.strategy, verdict.step.level) == (Strategy.STATISTICAL, Level.BRAKE)
    assert site.fleet.agents["gpu-2"].caps.low_mhz == 405
    assert limits(site)["gpu-2"] is not None
