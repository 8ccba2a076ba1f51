"""Strategy Guaranteed on the leader: arming, moving watts, silence, cuts, strangers, changes of strategy, release.

4 servers of 4 boards, 200 to 700 W, 500 W beside them at worst. A limit L needs a grant of (4 L x 1.05 + 500) / (0.94 x
0.97): 1,469.7 W at 200 W, so a floor of 1,470; 3,772.8 W at 700 W, so a ceiling of 3,773. Nameplate: 3,659.6 W each.
"""

from __future__ import annotations

import dataclasses

import pytest

from capstan.power import ports
from capstan.powercap.domains import Level, Strategy
from capstan.powercap.ledger import Entry
from support.power_loop import Site, conditions, domain

FLOOR_W, CEILING_W, EVEN_W = 1470, 3773, 3000
IN_FORCE_S = 8


def granting(budget_w: int = 12_000, **spec: object) -> Site:
    site = Site(domain(budget_w=budget_w, strategy="Guaranteed", **spec))  # type: ignore[arg-type]  # as in support
    site.fleet.limited = True
    return site


def entries(site: Site, root: str = "rack-7") -> dict[str, Entry]:
    return {entry.node: entry for entry in site.ledgers.stored[root].ledger.entries}


def limits(site: Site) -> dict[str, float | None]:
    return {node: agent.caps.power_limit_w for node, agent in site.fleet.agents.items()}


def held_w(site: Site) -> float:
    return sum(entry.held_w for entry in entries(site).values())


def said(site: Site, kind: str) -> tuple[str, str]:
    return conditions(site.api.statuses[-1])[kind]


async def test_an_armed_rack_grants_alike_and_frees_the_rest_once_read_back() -> None:
    """12,000 / 4 = 3,000 W, a limit of 532 W. Until the limits are read back the nameplates count: 14,640 W."""
    site = granting()
    await site.run(3)
    assert (held_w(site), said(site, "GrantsInForce")[0]) == (4 * 3660, "False")
    verdict = await site.run(IN_FORCE_S)
    assert (verdict.armed, verdict.strategy, verdict.step.level) == (True, Strategy.GUARANTEED, Level.NORMAL)
    assert {entry.held_w for entry in entries(site).values()} == {EVEN_W}
    assert set(limits(site).values()) == {532}
    assert said(site, "GrantsInForce") == ("True", "Granted")


async def test_a_node_is_told_its_limit_as_cap_and_as_safe_setting_without_a_clock() -> None:
    """Whoever is alone, started or reset holds the same limit: grants do not expire."""
    site = granting()
    await site.run(IN_FORCE_S)
    power = site.api.caps["gpu-2"][-1]
    assert power["caps"] == {"powerLimitWatts": 532}
    assert power["safe"] == {"clockMegahertz": 10_000, "powerLimitWatts": 532}
    assert power["grants"] == [{"ledger": "rack-7", "sequence": entries(site)["gpu-2"].sequence, "watts": EVEN_W}]


@pytest.mark.parametrize(
    ("budget_w", "odd", "words"),
    [
        (5800, (), "4 of 4 nodes at 200 W a board draw up to 5880 W: 80 W above spec.budgetWatts"),
        (
            8000,
            ("gpu-3",),
            "3 of 4 nodes at 200 W a board and 1 that can hold no grant (gpu-3) at their worst draw up ",
        ),
    ],
    ids=["floors that do not fit", "a stranger at its nameplate"],
)
async def test_a_refusal_shows_its_arithmetic(budget_w: int, odd: tuple[str, ...], words: str) -> None:
    """4 x 1,470 = 5,880 W; with a stranger 3 x 1,470 + 3,660 = 8,070 W."""
    site = granting(budget_w)
    site.fleet.odd = set(odd)
    verdict = await site.run(3)
    assert not verdict.armed
    assert words in site.message("Armed")
    assert (site.api.caps, site.ledgers.stored) == ({}, {})


async def test_a_stranger_that_fits_counts_at_its_worst_and_is_told_nothing() -> None:
    site = granting()
    site.fleet.odd = {"gpu-3"}
    await site.run(IN_FORCE_S)
    assert entries(site)["gpu-3"].held_w == 3660
    assert sum(entry.held_w for entry in entries(site).values()) <= 12_000
    assert "gpu-3" not in site.api.caps
    assert "gpu-3 can hold no grant" in site.message("GrantsInForce")
    told = [(event.note, event.warning) for event in site.api.events]
    assert ("gpu-3 can hold no grant: counted at the worst case", True) in told
    assert ("gpu-0, gpu-1, gpu-2 joined the ledger", False) in told


async def test_watts_go_to_who_is_held_by_its_limit_and_are_free_before_they_are_given() -> None:
    site = granting()
    await site.run(IN_FORCE_S)
    site.fleet.watts["gpu-2"] = 700
    for _ in range(30):
        await site.run(1)
        assert held_w(site) <= 12_000
    assert limits(site)["gpu-2"] == 700
    assert entries(site)["gpu-2"].grant_w == CEILING_W
    assert said(site, "Capping") == ("True", "PowerLimited"), "its limit held it in the last half minute"


async def test_at_a_fixed_point_nothing_is_written() -> None:
    site = granting()
    site.draw(700)
    await site.run(40)
    swaps, written = site.ledgers.swaps, {node: len(found) for node, found in site.api.caps.items()}
    await site.run(60)
    assert (site.ledgers.swaps, {node: len(found) for node, found in site.api.caps.items()}) == (swaps, written)


async def test_a_silent_donor_keeps_its_watts_for_ever() -> None:
    site = granting()
    await site.run(IN_FORCE_S)
    site.fleet.silent = {"gpu-3"}
    await site.run(8)
    site.draw(700)
    await site.run(60)
    assert entries(site)["gpu-3"].grant_w == entries(site)["gpu-3"].held_w == EVEN_W
    assert site.api.statuses[-1]["silentHeldWatts"] == EVEN_W
    assert "gpu-3 do not answer" in site.message("GrantsInForce")


async def test_a_cut_is_told_at_once_and_what_is_silent_stays_counted() -> None:
    """12,000 -> 9,000 W: 2,250 W each; with gpu-3 silent its 3,000 W stay, and the rest come down for it, too."""
    site = granting()
    await site.run(IN_FORCE_S)
    site.api.edit(domain(budget_w=9000, strategy="Guaranteed"))
    await site.run(2)
    assert {entry.grant_w for entry in entries(site).values()} == {2250}
    await site.run(IN_FORCE_S)
    assert held_w(site) == 9000
    site.fleet.silent = {"gpu-3"}
    await site.run(8)
    site.api.edit(domain(budget_w=7500, strategy="Guaranteed"))
    await site.run(20)
    told = entries(site)
    assert told["gpu-3"].held_w == 2250
    assert sum(entry.held_w for entry in told.values()) <= 7500
    assert {told[node].held_w for node in ("gpu-0", "gpu-1", "gpu-2")} == {1750}


async def test_a_budget_below_every_floor_stays_armed_and_says_by_how_much() -> None:
    site = granting()
    await site.run(IN_FORCE_S)
    site.api.edit(domain(budget_w=5000, strategy="Guaranteed"))
    verdict = await site.run(IN_FORCE_S)
    assert verdict.armed
    assert set(limits(site).values()) == {200}
    assert said(site, "Armed") == ("True", "AdmissionFailed")
    assert "the least grants of its nodes are 5880 W, 880 W above 5000 W" in site.message("Armed")
    assert said(site, "GrantsInForce")[0] == "False"


async def test_boards_that_enforce_more_than_they_hold_are_counted_at_it_and_the_others_make_room() -> None:
    """A deaf node at 700 W: 3,660 W of 12,000 W; the other three share 8,340 W."""
    site = granting()
    await site.run(IN_FORCE_S)
    site.fleet.deaf = {"gpu-1"}
    await site.run(12)
    told = entries(site)
    assert told["gpu-1"].held_w == 3660
    assert held_w(site) <= 12_000
    site.fleet.deaf = set()
    await site.run(12)
    assert entries(site)["gpu-1"].held_w == entries(site)["gpu-1"].grant_w


async def test_a_node_that_joins_counts_at_its_nameplate_until_its_first_limit_is_read_back() -> None:
    site = granting()
    await site.run(IN_FORCE_S)
    site.join("gpu-4")
    await site.run(3)
    assert entries(site)["gpu-4"].held_w == 3660
    await site.run(12)
    assert held_w(site) <= 12_000
    assert limits(site)["gpu-4"] is not None
    assert "gpu-4 joined the ledger" in [event.note for event in site.api.events]


async def test_a_node_taken_out_frees_its_watts_even_when_it_is_silent() -> None:
    site = granting()
    site.draw(700)
    await site.run(20)
    site.fleet.silent = {"gpu-3"}
    nodes = {name: seen for name, seen in site.api.scene_.nodes.items() if name != "gpu-3"}
    site.api.scene_ = ports.Scene(
        site.api.scene_.domains, site.api.scene_.policies, nodes, site.api.scene_.pods, site.api.scene_.namespaces,
        site.api.scene_.node_powers,
    )  # fmt: skip
    await site.run(20)
    assert set(entries(site)) == {"gpu-0", "gpu-1", "gpu-2"}
    assert {limits(site)[node] for node in entries(site)} == {700}
    assert "gpu-3 left the ledger" in [event.note for event in site.api.events]


async def test_while_the_api_server_is_away_nothing_moves() -> None:
    site = granting()
    await site.run(IN_FORCE_S)
    before = limits(site)
    site.api.down = True
    site.fleet.watts["gpu-2"] = 700
    await site.run(30)
    assert limits(site) == before
    site.api.down = False
    await site.run(30)
    assert limits(site)["gpu-2"] == 700


async def test_a_swap_whose_answer_is_lost_is_read_again_before_anything_moves() -> None:
    site = granting()
    await site.run(IN_FORCE_S)
    site.fleet.watts["gpu-2"] = 700
    site.ledgers.lost = True
    for _ in range(40):
        await site.run(1)
        assert held_w(site) <= 12_000
    assert limits(site)["gpu-2"] == 700


async def test_the_next_leader_finds_the_ledger_and_changes_nothing() -> None:
    site = granting()
    site.draw(700)
    await site.run(20)
    told = {node: (entry.grant_w, entry.held_w) for node, entry in entries(site).items()}
    before = limits(site)
    site.start(epoch=4)
    await site.run(20)
    assert {node: (entry.grant_w, entry.held_w) for node, entry in entries(site).items()} == told
    assert limits(site) == before


async def test_a_ledger_that_is_gone_is_built_from_what_nodes_were_told() -> None:
    site = granting()
    site.fleet.watts["gpu-2"] = 700
    await site.run(40)
    before = limits(site)
    del site.ledgers.stored["rack-7"]
    site.start(epoch=4)
    await site.run(4)
    assert held_w(site) <= 12_000, "each counts at what its NodeCap says and its boards enforce, not at its nameplate"
    assert limits(site) == before


async def test_an_entry_of_a_node_that_was_released_meanwhile_is_not_believed() -> None:
    """Released while nobody led: the ledger is still there, the limits are not."""
    site = granting()
    await site.run(IN_FORCE_S)
    left = dict(site.ledgers.stored)
    site.api.edit(domain(strategy="Guaranteed", mode="Advise"))
    await site.run(4)
    assert site.ledgers.stored == {}
    site.ledgers.stored = left
    site.api.edit(domain(strategy="Guaranteed"))
    site.start(epoch=4)
    await site.run(3)
    assert held_w(site) == 4 * 3660


async def test_a_ledger_that_was_released_while_nobody_led_is_dropped() -> None:
    site = granting()
    await site.run(IN_FORCE_S)
    site.api.edit(domain(strategy="Guaranteed", mode="Advise"))
    site.start(epoch=4)
    await site.run(4)
    assert site.ledgers.stored == {}
    assert set(limits(site).values()) == {None}


async def test_a_standby_moves_nothing() -> None:
    site = granting()
    site.draw(700)
    await site.run(20)
    before, swaps = limits(site), site.ledgers.swaps
    standby = site.another()
    for _ in range(20):
        await site.power_of(standby)
    assert (limits(site), site.ledgers.swaps) == (before, swaps)
    assert site.fleet.leased() == set(site.fleet.watts), "and it keeps every lease"


async def test_advice_writes_nothing_to_nodes_and_says_whether_it_would_fit() -> None:
    site = granting(mode="Advise")
    verdict = await site.run(5)
    assert not verdict.armed
    assert (site.api.caps, site.ledgers.stored) == ({}, {})
    assert site.api.statuses[-1]["safeSumWatts"] == 4 * FLOOR_W
    assert said(site, "Capping") == ("False", "AdviseOnly")
    expected = "in mode Act 4 of 4 nodes would be granted 3000 to 3000 W first, limits of 532 to 532 W a board"
    assert site.message("Capping") == expected


async def test_release_gives_back_limits_and_ledger() -> None:
    """Mode Advise is the explicit release; a deletion waits until the budget bears the nameplates, as with caps."""
    site = granting()
    await site.run(IN_FORCE_S)
    site.api.delete("rack-7")
    await site.run(3)
    assert said(site, "Released") == ("False", "ReleaseBlocked")
    assert set(limits(site).values()) == {532}
    site.api.edit(domain(budget_w=15_000, strategy="Guaranteed"))
    for _ in range(6):
        await site.power_of(site.power)
    assert (site.api.scene_.domains, site.ledgers.stored) == ((), {})
    assert set(limits(site).values()) == {None}


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
    site = Site(domain())
    site.fleet.limited = True
    await site.run(5)
    site.api.edit(domain(strategy="Guaranteed"))
    await site.run(3)
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
    site = Site(domain())
    site.fleet.limited = True
    await site.run(5)
    site.api.edit(domain(strategy="Guaranteed"))
    await site.run(3)
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
