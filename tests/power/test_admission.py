"""Arming, the refusal's arithmetic, budgets cut below the safe sum, and what a deletion gives back."""

from __future__ import annotations

import pytest

from capstan.power import admission
from capstan.power.cycle import Loop
from capstan.powercap.domains import Level, SafeSetting
from support.power_loop import Site, conditions, domain

# 4 servers of 4 x 700 W and 500 W beside them. Nameplate: 4 x (2800 x 1.05 + 500) / 0.94 = 14,638 W. At the lowest
# limit, 200 W: 4 x (840 + 500) / 0.94 = 5,702 W; with one server lost 3 x 1,425.5 + 3,659.6 = 7,936 W.


async def test_a_refusal_shows_its_arithmetic() -> None:
    site = Site(domain(budget_w=6000))
    await site.run(2)
    said = site.message("Armed")
    for part in ("4 nodes at 200 W a board draw up to 5702 W", "7936 W with one of them lost", "1936 W above"):
        assert part in said


async def test_boards_that_keep_their_limit_need_no_node_to_spare() -> None:
    """With persistence the safe sum alone must fit, and the limit holds at every level."""
    site = Site(domain(budget_w=6000))
    site.fleet.persistent = True
    verdict = await site.run(3)
    assert verdict.armed
    assert verdict.step.level is Level.NORMAL
    limits = {agent.caps.power_limit_w for agent in site.fleet.agents.values()}
    # (4 x L x 1.05 + 500) x 4 / 0.94 <= 6000: L <= 216.7
    assert limits == {216}
    assert "outlive" in site.message("Armed")


async def test_a_budget_cut_below_the_safe_sum_brakes_stays_armed_and_says_by_how_much() -> None:
    site = Site(domain())
    await site.run(2)
    site.api.edit(domain(budget_w=5000))
    verdict = await site.run(2)
    assert (verdict.armed, verdict.step.level) == (True, Level.BRAKE)
    assert conditions(site.api.statuses[-1])["Armed"] == ("True", "AdmissionFailed")
    assert "702 W above 5000 W" in site.message("Armed")


async def test_nodes_that_join_past_the_safe_sum_brake_at_once() -> None:
    site = Site(domain(budget_w=8000))
    assert (await site.run(2)).armed
    for number in (4, 5):
        site.join(f"gpu-{number}")
    verdict = await site.run(2)
    assert (verdict.armed, verdict.step.level) == (True, Level.BRAKE), "6 x 1,425.5 W = 8,553 W of 8,000 W"


async def test_an_armed_domain_has_our_finalizer_and_another_has_none() -> None:
    site = Site(domain(), domain("rack-8", mode="Advise", nodeSelector={"matchLabels": {"rack": "8"}}))
    await site.run(2)
    assert [("finalizers" in str(d["metadata"])) for d in site.api.scene_.domains] == [True, False]
    site.api.edit(domain(mode="Advise"))
    await site.run(3)
    assert "capstan.dev/power" not in str(site.api.scene_.domains[0]["metadata"])


async def test_a_deleted_domain_that_the_budget_bears_is_released_first_and_gone_then() -> None:
    site = Site(domain(budget_w=15_000))
    await site.run(2)
    site.draw(620)
    await site.run(2)
    site.api.delete("rack-7")
    await site.power_of(site.power)
    assert len(site.api.scene_.domains) == 1, "the caps are given back before the object goes"
    for _ in range(3):
        await site.power_of(site.power)
    assert list(site.api.scene_.domains) == []
    assert "caps" not in site.api.caps["gpu-2"][-1]
    assert all(agent.caps.low_mhz is None for agent in site.fleet.agents.values())


async def test_a_deleted_domain_whose_nameplates_break_the_budget_keeps_its_caps_and_says_so() -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    await site.run(2)
    site.api.delete("rack-7")
    verdict = await site.run(5)
    assert verdict.armed
    assert verdict.step.level in (Level.LOW_DEEP, Level.HIGH_CAP)
    assert conditions(site.api.statuses[-1])["Released"] == ("False", "ReleaseBlocked")
    assert "up to 14638 W, 2638 W above the budget of 12000 W" in site.message("Released")
    site.api.edit(domain(mode="Advise"))
    for _ in range(4):
        await site.power_of(site.power)
    assert list(site.api.scene_.domains) == []
    assert "caps" not in site.api.caps["gpu-2"][-1]


async def test_a_controller_that_restarts_beside_a_deleted_domain_goes_on_holding_it() -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    await site.run(2)
    site.api.delete("rack-7")
    site.start(epoch=4)
    assert (await site.run(2)).armed
    assert site.fleet.agents["gpu-2"].caps.low_mhz == 1560


async def test_a_domain_without_nodes_is_deleted_without_ado() -> None:
    site = Site(domain())
    await site.run(2)
    site.api.edit(domain(nodeSelector={"matchLabels": {"rack": "none"}}))
    await site.run(3)
    site.api.delete("rack-7")
    for _ in range(3):
        await site.power_of(site.power)
    assert list(site.api.scene_.domains) == []


async def test_advice_is_told_when_it_changes() -> None:
    site = Site(domain(mode="Advise"))
    await site.run(2)
    site.draw(500)
    await site.run(1)
    assert site.meter.advice == [("rack-7", Level.NORMAL, Level.LOW_DEEP)]


@pytest.mark.parametrize("outage_s", [1, 30], ids=["a second", "half a minute"])
async def test_a_nodecap_that_was_deleted_comes_back(outage_s: int) -> None:
    site = Site(domain())
    await site.run(2)
    stored = {name: power for name, power in site.api.scene_.node_powers.items() if name != "gpu-1"}
    object.__setattr__(site.api.scene_, "node_powers", stored)
    await site.run(outage_s + 12)
    assert "gpu-1" in site.api.scene_.node_powers


async def test_a_leader_that_was_paused_overwrites_nobody() -> None:
    """R8: it resumes with an old cache; its write carries the version that it saw, and fails."""
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    site.api.down = True
    await site.run(1)  # a cap of ours that is not written yet
    paused, seen = site.power, site.power._whole()
    site.api.down = False
    site.start(epoch=4)
    await site.run(2)
    newest = site.api.scene_.node_powers["gpu-2"]
    loop = paused._parts[0]
    assert isinstance(loop, Loop)
    await loop.tick(seen)
    await loop.settle()
    assert site.api.scene_.node_powers["gpu-2"] == newest
    assert site.fleet.agents["gpu-2"].epoch == 4


OLD, NEW = SafeSetting(1560, 400), SafeSetting(1560, 700)


@pytest.mark.parametrize(
    ("before", "found", "whole", "expected"),
    [
        (None, None, True, None),
        (OLD, None, True, OLD),
        (None, NEW, False, NEW),
        (OLD, NEW, True, NEW),
        (OLD, NEW, False, OLD),
        (NEW, OLD, False, OLD),
    ],
    ids=["nothing known", "not known now", "the first", "all heard", "looser, not all heard", "tighter, not all heard"],
)
def test_a_safe_setting_is_not_loosened_on_half_of_the_nodes(
    before: SafeSetting | None, found: SafeSetting | None, *, whole: bool, expected: SafeSetting | None
) -> None:
    """After a restart the large servers may not have been heard yet."""
    sums = None if found is None else admission.Admission(found, 0, 0, 0, 1)
    assert admission.safe_of(before, sums, whole=whole) == expected
