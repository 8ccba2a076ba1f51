"""Leader election against a real API server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest_asyncio

from capstan.adapters.kube import config, lease, resources
from capstan.adapters.kube.client import KubeClient
from capstan.adapters.kube.lease import LeaderLease
from support.rig import ApiServer

QUICK = lease.Timing(duration_s=3, renew_s=0.2, margin_s=1.5, attempt_s=0.7)


@pytest_asyncio.fixture
async def client(api_server: ApiServer) -> AsyncIterator[KubeClient]:
    made = KubeClient(config.load(api_server.kubeconfig), component="test")
    yield made
    await made.close()


def candidate(client: KubeClient, namespace: str, who: str, timing: lease.Timing = lease.Timing()) -> LeaderLease:  # noqa: B008 - frozen
    return LeaderLease(client, namespace, "lead", who, timing=timing)


async def spec(client: KubeClient, namespace: str) -> dict[str, object]:
    found = (await client.get(resources.LEASES, "lead", namespace))["spec"]
    assert isinstance(found, dict)
    return found


async def test_a_release_hands_over_within_three_seconds(client: KubeClient, namespace: str) -> None:
    """At the times that ship: what a rolling update waits for."""
    first, second = candidate(client, namespace, "first"), candidate(client, namespace, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    began_s = time.monotonic()
    await first.release()
    await waiting
    assert time.monotonic() - began_s < 3
    held = await spec(client, namespace)
    assert (held["holderIdentity"], held["leaseTransitions"], second.epoch) == ("second", 1, 1)
    await second.release()


async def test_a_leader_that_dies_is_replaced_and_one_that_lives_is_not(client: KubeClient, namespace: str) -> None:
    first, second = (candidate(client, namespace, who, QUICK) for who in ("first", "second"))
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(4)
    assert first.is_leader
    assert not waiting.done()
    keeping.cancel()  # dies without a word
    died_s = time.monotonic()
    await asyncio.wait_for(waiting, 10)
    assert not first.is_leader, "it gave up before the other took over"
    assert 2.5 < time.monotonic() - died_s < 5
    assert second.epoch == 1


async def test_who_loses_the_lease_stops_keeping_it(client: KubeClient, namespace: str) -> None:
    leader = candidate(client, namespace, "first", QUICK)
    await leader.acquire()
    keeping = asyncio.create_task(leader.keep())
    stolen = await client.get(resources.LEASES, "lead", namespace)
    held = stolen["spec"]
    assert isinstance(held, dict)
    held.update({"holderIdentity": "thief", "leaseTransitions": 7})
    await client.replace(stolen)
    await asyncio.wait_for(keeping, 2)
    assert not leader.is_leader
    assert (await spec(client, namespace))["holderIdentity"] == "thief"


async def test_many_candidates_have_one_leader(client: KubeClient, namespace: str) -> None:
    crowd = [candidate(client, namespace, f"c{number}", QUICK) for number in range(5)]
    tasks = [asyncio.create_task(one.acquire()) for one in crowd]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.5)
    assert sum(one.is_leader for one in crowd) == 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
