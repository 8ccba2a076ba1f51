"""Strategy Guaranteed on the leader: arming, moving watts, silence, cuts, strangers, release.

Watts of a node: `support/granting.py`.
"""

from __future__ import annotations

import pytest

from capstan.power import ports
from capstan.powercap.domains import Level, Strategy
from support.granting import CEILING_W, EVEN_W, FLOOR_W, IN_FORCE_S, entries, granting, held_w, limits, said
from support.power_loop import domain


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
