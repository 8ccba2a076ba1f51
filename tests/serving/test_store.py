"""The store of our own kinds: what wakes a cycle, and what a restarted watch forgets."""

from __future__ import annotations

import asyncio

import pytest

from capstan.serving import manifest
from capstan.serving.store import CONFIRM_S, Bell, Kind, Store
from support.serving import FakeClock


def policy(name: str = "chat", *, generation: int = 1, **status: object) -> manifest.Manifest:
    meta = {"namespace": "llm", "name": name, "uid": name, "generation": generation}
    return {"metadata": meta, "status": status}


def made() -> tuple[Store, Bell, FakeClock]:
    clock, bell = FakeClock(), Bell()
    return Store(bell, clock.monotonic_s), bell, clock


async def rang(bell: Bell) -> bool:
    return await bell.heard(0.001)


async def test_a_new_spec_wakes_and_our_own_status_does_not() -> None:
    store, bell, _ = made()
    store.put(Kind.POLICY, policy())
    assert await rang(bell)
    store.put(Kind.POLICY, policy(plan={"summary": "1xtp4"}))
    assert not await rang(bell)
    store.put(Kind.POLICY, policy(generation=2))
    assert await rang(bell)
    store.drop(Kind.POLICY, "llm/chat")
    assert await rang(bell)
    assert store.all(Kind.POLICY) == ()


async def test_a_domains_state_wakes_since_it_caps_our_pods() -> None:
    store, bell, _ = made()
    store.put(Kind.DOMAIN, policy(state="Normal"))
    await rang(bell)
    store.put(Kind.DOMAIN, policy(state="Normal", measuredWatts=3))
    assert not await rang(bell)
    store.put(Kind.DOMAIN, policy(state="LowBase"))
    assert await rang(bell)


async def test_what_was_deleted_while_nobody_watched_is_forgotten_after_a_while() -> None:
    store, _, clock = made()
    store.restarted()
    store.put(Kind.POLICY, policy("kept"))
    store.put(Kind.POLICY, policy("deleted"))
    store.restarted()
    store.put(Kind.POLICY, policy("kept"))
    assert len(store.all(Kind.POLICY)) == 2  # the new list may still be coming
    clock.t_s += CONFIRM_S
    assert [manifest.key(p) for p in store.all(Kind.POLICY)] == ["llm/kept"]


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancellation_that_meets_the_ring_is_not_lost(turns: int) -> None:
    """A SIGTERM in the moment of an event: the cycle would go on, and the process never end."""
    _, bell, _ = made()
    listening = asyncio.create_task(bell.heard(30))
    await asyncio.sleep(0)
    bell.ring()
    for _ in range(turns):
        await asyncio.sleep(0)
    was_over = listening.done()
    listening.cancel()
    await asyncio.wait([listening])
    assert listening.cancelled() is not was_over
