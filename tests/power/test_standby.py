"""A standby renews and may tighten, never loosens and fences nobody out; who takes over loosens nothing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.power import caps
from capstan.power.site import Site as Power
from capstan.powercap.domains import NO_CAPS, ClassCaps, Level, tightest
from support.power_loop import Site, domain

# As in test_cycle: 4 servers of 4 GPUs on 12 kW; 500 W a GPU is 85.1 % (LowDeep), 400 W is 71.0 % (Normal).


async def beside(site: Site, seconds: int = 3) -> Power:
    """Let a leader and a standby run together for a while; return the standby."""
    standby = site.another()
    await site.run(seconds, site.power, standby)
    return standby


async def test_a_dead_leader_at_full_load_caps_nothing() -> None:
    """For the 15 s of a Lease nobody leads; the standby's renewals keep every node out of its safe setting."""
    site = Site(domain())
    site.draw(400)
    standby = await beside(site)
    written = {node: len(all_) for node, all_ in site.api.caps.items()}
    for _ in range(15):
        await site.power_of(standby)
        assert site.fleet.leased() == set(site.fleet.watts)
    assert all(agent.caps == NO_CAPS for agent in site.fleet.agents.values())
    assert {node: len(all_) for node, all_ in site.api.caps.items()} == written, "a standby writes nothing"


async def test_both_replicas_dead_end_every_lease() -> None:
    site = Site(domain())
    await beside(site)
    site.fleet.now_s = site.now_s + caps.LEASE_S
    assert site.fleet.leased() == set()


async def test_a_crossing_while_nobody_leads_is_capped_in_time() -> None:
    """Promise P1: back below the budget within 10 s; 3 of them are actuation and settling."""
    site = Site(domain())
    site.draw(400)
    standby = await beside(site)
    site.draw(690)  # (16 x 690 + 1600) / 0.94 = 13,447 W of 12,000 W
    crossed_s = site.now_s
    while site.fleet.agents["gpu-2"].caps.low_mhz != 405:
        await site.power_of(standby)
        assert site.now_s - crossed_s <= 5
    assert site.fleet.agents["gpu-0"].caps.high_mhz == 405, "over the budget the brake holds both priorities"


async def test_beside_a_leader_that_lives_a_standby_changes_nothing() -> None:
    site = Site(domain())
    standby = await beside(site)
    for watts in (500, 100, 690, 100):
        site.draw(watts)
        await site.run(100, site.power, standby)
    alone = Site(domain())
    await alone.run(3)
    for watts in (500, 100, 690, 100):
        alone.draw(watts)
        await alone.run(100)
    assert site.meter.moves == alone.meter.moves
    assert site.api.caps == alone.api.caps


async def test_an_api_outage_in_which_nobody_leads_caps_nothing_and_still_caps() -> None:
    """No Lease can be renewed, so both stand by; a NodeCap cannot be written, so a cap travels by the lease call."""
    site = Site(domain())
    site.draw(400)
    standby = await beside(site)
    site.api.down = True
    site.power.follow(0)
    both = (site.power, standby)
    for _ in range(60):
        await site.power_of(*both)
        assert site.fleet.leased() == set(site.fleet.watts)
    assert all(agent.caps == NO_CAPS for agent in site.fleet.agents.values())
    site.draw(500)
    for _ in range(4):
        await site.power_of(*both)
    assert site.fleet.agents["gpu-2"].caps.low_mhz == 1560
    site.api.down = False
    site.power.lead(0, 4)
    verdict = await site.run(2, site.power, standby)
    assert verdict.step.level in (Level.LOW_DEEP, Level.HIGH_CAP)
    assert site.fleet.agents["gpu-2"].caps.low_mhz == 1560


async def test_who_takes_over_loosens_nothing_that_it_tightened() -> None:
    """Status still says Normal: the leader died before the rise."""
    site = Site(domain())
    site.draw(400)
    standby = await beside(site)
    site.draw(500)
    for _ in range(5):
        await site.power_of(standby)
    site.draw(100)
    standby.lead(0, 4)
    verdict = await site.run(2, standby)
    assert verdict.step.level in (Level.LOW_DEEP, Level.HIGH_CAP)
    assert site.api.caps["gpu-2"][-1]["epoch"] == 4
    assert site.fleet.agents["gpu-2"].caps.low_mhz == 1560


async def test_a_standby_that_was_overtaken_catches_up_and_is_never_ahead() -> None:
    """The leader moved on by lease calls alone, with the API server away: the NodeCap still has the old number."""
    site = Site(domain())
    standby = await beside(site)
    site.api.down = True
    for watts in (450, 500, 690):
        site.draw(watts)
        await site.run(2)
    newest = site.fleet.agents["gpu-2"].sequence
    for _ in range(6):
        await site.power_of(standby)
    call = site.fleet.calls["gpu-2"]
    assert (call.epoch, call.sequence) == (3, newest)
    assert (site.fleet.agents["gpu-2"].epoch, site.fleet.agents["gpu-2"].sequence) == (3, newest)


async def test_who_leads_again_in_the_same_term_goes_on_from_what_the_nodes_say() -> None:
    """A renewal that came late: the Lease has the same epoch, and the NodeCaps are behind the nodes."""
    site = Site(domain())
    await site.run(2)
    site.api.down = True
    for watts in (450, 500, 690):
        site.draw(watts)
        await site.run(2)
    site.power.follow(0)
    site.api.down = False
    site.power.lead(0, 3)
    await site.run(2)
    assert site.fleet.leased() == set(site.fleet.watts)
    agent, stored = site.fleet.agents["gpu-2"], site.api.scene_.node_powers["gpu-2"]
    assert (agent.epoch, agent.sequence) == (stored.epoch, stored.sequence)


async def test_a_standby_that_hears_nobody_tightens_nobody() -> None:
    """Its network is cut, the leader's is not."""
    site = Site(domain())
    site.draw(400)
    standby = await beside(site)
    everybody = set(site.fleet.watts)
    for _ in range(20):
        site.fleet.silent = everybody
        await site.power_of(standby)
        site.fleet.silent = set()
        await site.run(1)
    assert all(agent.caps == NO_CAPS for agent in site.fleet.agents.values())


async def test_a_spike_that_only_the_standby_saw_tightens_nothing() -> None:
    """The two look half a second apart; and its shadow holds the level until the dwell is over."""
    site = Site(domain())
    standby = await beside(site)
    site.draw(500)
    await site.power_of(standby)
    site.draw(100)
    for _ in range(20):
        await site.power_of(standby, site.power)
        assert all(agent.caps == NO_CAPS for agent in site.fleet.agents.values())


async def test_who_takes_over_stands_where_the_last_leader_stood_whatever_its_own_shadow_saw() -> None:
    """A peak above the budget that only the standby saw: its Brake would hold for ten minutes above 72 %."""
    site = Site(domain())
    site.draw(500)
    standby = await beside(site)
    site.draw(690)
    await site.power_of(standby)
    site.draw(500)
    await site.run(10, site.power, standby)
    assert site.fleet.agents["gpu-2"].caps.low_mhz == 1560
    standby.lead(0, 4)
    await site.run(5, standby)
    assert site.fleet.agents["gpu-2"].caps.low_mhz == 1560, "LowDeep, as before"


async def test_a_rise_that_lasts_is_left_to_a_leader_that_lives_for_two_seconds() -> None:
    site = Site(domain())
    standby = await beside(site)
    site.draw(500)
    for _ in range(2):
        await site.power_of(standby)
    assert all(agent.caps == NO_CAPS for agent in site.fleet.agents.values())


async def test_a_node_that_only_the_standby_does_not_hear_counts_at_its_safe_setting() -> None:
    """350 W: three servers 5,745 W; the fourth 2,766 W at its safe limit of 500 W (70.9 %), 3,660 W at worst (78 %)."""
    site = Site(domain())
    site.draw(350)
    standby = await beside(site)
    for _ in range(20):
        site.fleet.silent = {"gpu-3"}
        await site.power_of(standby)
        site.fleet.silent = set()
        await site.run(1)
    assert all(agent.caps == NO_CAPS for agent in site.fleet.agents.values())


async def test_a_leader_loosens_what_a_standby_tightened_without_need() -> None:
    """Nobody else would: a renewal never loosens, and the wish of the leader did not change."""
    site = Site(domain())
    await site.run(3)
    agent = site.fleet.agents["gpu-2"]
    agent.caps = tightest(agent.caps, ClassCaps(low_mhz=1110))
    await site.run(6)
    assert site.fleet.agents["gpu-2"].caps == NO_CAPS
    written = len(site.api.caps["gpu-2"])
    await site.run(30)
    assert len(site.api.caps["gpu-2"]) == written


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([100, 400, 460, 500, 690])), max_size=25))
def test_whatever_happens_a_standby_is_never_ahead_and_never_loosens(
    seconds: list[tuple[bool, bool, int]],
) -> None:
    """(leader turns, API server answers, watts) each second; only the leader moves a node's number."""

    async def play() -> None:
        site = Site(domain())
        standby = await beside(site)
        for leads, answers, watts in seconds:
            site.api.down = not answers
            site.draw(watts)
            if leads:
                await site.run(1)
            before = {node: (a.epoch, a.sequence, a.caps) for node, a in site.fleet.agents.items()}
            await site.power_of(standby)
            for node, agent in site.fleet.agents.items():
                epoch, sequence, held = before[node]
                assert (agent.epoch, agent.sequence) == (epoch, sequence)
                assert tightest(held, agent.caps) == agent.caps

    asyncio.run(play())


@pytest.mark.parametrize("mode", ["Advise", "Act"], ids=["advised", "not admitted"])
async def test_a_domain_that_is_not_armed_is_not_tightened(mode: str) -> None:
    site = Site(domain(mode=mode, budget_w=5000 if mode == "Act" else 12_000))
    standby = await beside(site)
    site.draw(690)
    for _ in range(10):
        await site.power_of(standby)
    assert all(agent.caps == NO_CAPS for agent in site.fleet.agents.values())
