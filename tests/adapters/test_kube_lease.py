"""Leader election: never two at once, quick hand-over, and an epoch that only rises."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from capstan.adapters.kube import lease
from capstan.adapters.kube.lease import LeaderLease
from support import adapters

TIMING = lease.Timing(duration_s=15, renew_s=0.01, margin_s=5)


@pytest.fixture
def server() -> adapters.LeaseServer:
    return adapters.LeaseServer()


@pytest.fixture
def clock() -> adapters.Clock:
    return adapters.Clock()


def candidate(
    server: adapters.LeaseServer, who: str, clock: adapters.Clock, timing: lease.Timing = TIMING
) -> LeaderLease:
    client = adapters.kube(httpx.MockTransport(server))
    return LeaderLease(client, "ns", "lead", who, timing=timing, now_s=clock)


async def test_one_leads_and_the_other_waits_for_the_whole_duration(
    server: adapters.LeaseServer, clock: adapters.Clock
) -> None:
    first, second = (candidate(server, who, clock) for who in ("first", "second"))
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.05)
    clock.now_s += 14.9
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert not first.is_leader, "the leader gives up before anybody may take over"
    clock.now_s += 0.2
    await asyncio.wait_for(waiting, 1)
    assert second.is_leader
    assert (first.epoch, second.epoch) == (0, 1)
    assert (server.spec["holderIdentity"], server.spec["leaseTransitions"]) == ("second", 1)


async def test_a_leader_that_renews_is_never_overtaken(server: adapters.LeaseServer, clock: adapters.Clock) -> None:
    first, second = (candidate(server, who, clock) for who in ("first", "second"))
    await first.acquire()
    keeping, waiting = asyncio.create_task(first.keep()), asyncio.create_task(second.acquire())
    for _ in range(10):
        clock.now_s += 5
        await asyncio.sleep(0.03)
    assert first.is_leader
    assert not waiting.done()
    for task in (keeping, waiting):
        task.cancel()


async def test_of_two_that_start_together_one_leads(server: adapters.LeaseServer, clock: adapters.Clock) -> None:
    both = [candidate(server, who, clock) for who in ("first", "second")]
    tasks = [asyncio.create_task(one.acquire()) for one in both]
    await asyncio.sleep(0.05)
    assert sorted(one.is_leader for one in both) == [False, True]
    for task in tasks:
        task.cancel()


async def test_a_release_hands_over_at_once(server: adapters.LeaseServer, clock: adapters.Clock) -> None:
    first, second = (candidate(server, who, clock) for who in ("first", "second"))
    await first.acquire()
    await first.release()
    assert not first.is_leader
    assert server.spec["holderIdentity"] == ""
    await asyncio.wait_for(second.acquire(), 1)
    assert second.epoch == 1


async def test_a_release_of_what_another_took_changes_nothing(
    server: adapters.LeaseServer, clock: adapters.Clock
) -> None:
    first = candidate(server, "first", clock)
    await first.acquire()
    server.spec["holderIdentity"] = "thief"
    await first.release()
    assert server.spec["holderIdentity"] == "thief"


async def test_a_short_outage_is_survived_and_a_long_one_is_not(
    server: adapters.LeaseServer, clock: adapters.Clock
) -> None:
    leader = candidate(server, "first", clock)
    await leader.acquire()
    server.down = True
    keeping = asyncio.create_task(leader.keep())
    clock.now_s += 9
    await asyncio.sleep(0.05)
    assert leader.is_leader
    clock.now_s += 2
    await asyncio.wait_for(keeping, 1)
    assert not leader.is_leader


async def test_a_server_that_hangs_does_not_keep_a_leader_in_office(
    server: adapters.LeaseServer, clock: adapters.Clock
) -> None:
    """A call's own deadline is 10 s; a leader that waited for it would still act when a standby may take over."""
    timing = lease.Timing(duration_s=15, renew_s=0.01, margin_s=5, attempt_s=0.05)
    leader = candidate(server, "first", clock, timing)
    await leader.acquire()
    server.hangs = True
    keeping = asyncio.create_task(leader.keep())
    await asyncio.sleep(0.1)
    clock.now_s += 10
    await asyncio.wait_for(keeping, 0.5)
    assert not leader.is_leader


async def test_a_release_does_not_wait_for_a_server_that_hangs(
    server: adapters.LeaseServer, clock: adapters.Clock
) -> None:
    timing = lease.Timing(attempt_s=0.05)
    leader = candidate(server, "first", clock, timing)
    await leader.acquire()
    server.hangs = True
    await asyncio.wait_for(leader.release(), 0.5)


async def test_a_leader_that_was_paused_past_its_lease_does_not_lead(
    server: adapters.LeaseServer, clock: adapters.Clock
) -> None:
    """SIGSTOP, then another takes over, then SIGCONT."""
    first, second = (candidate(server, who, clock) for who in ("first", "second"))
    await first.acquire()
    await second._attempt()  # it sees the Lease and starts its count
    clock.now_s += 16
    assert not first.is_leader
    await second.acquire()
    await asyncio.wait_for(first.keep(), 1)
    assert (first.is_leader, second.is_leader) == (False, True)


async def test_the_same_name_in_a_new_process_is_a_new_epoch(
    server: adapters.LeaseServer, clock: adapters.Clock
) -> None:
    """A container that restarts keeps its pod's name; agents must tell its orders from those of before."""
    first = candidate(server, "pod-1", clock)
    await first.acquire()
    again = candidate(server, "pod-1", clock)
    await again.acquire()
    assert (first.epoch, again.epoch) == (0, 1)


async def test_a_lease_that_is_no_lease_is_an_outage_not_a_crash(
    server: adapters.LeaseServer, clock: adapters.Clock
) -> None:
    server.stored, server.version = {"metadata": {"resourceVersion": "1"}, "spec": "nonsense"}, 1
    waiting = asyncio.create_task(candidate(server, "first", clock).acquire())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    waiting.cancel()


def test_times_that_let_two_lead_are_refused() -> None:
    with pytest.raises(ValueError, match="two may lead"):
        lease.Timing(duration_s=5, margin_s=5)
