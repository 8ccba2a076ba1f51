"""Strategy Guaranteed where the leader is another, or its ledger: what is found, rebuilt, dropped, left alone."""

from __future__ import annotations

from support.granting import IN_FORCE_S, entries, granting, held_w, limits
from support.power_loop import domain


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
