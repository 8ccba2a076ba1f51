"""PowerLedgers on an API server that stores, versions and refuses: read, swapped whole, dropped."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from capstan.app.power.ledgers import Ledgers
from capstan.power import ports
from capstan.powercap.ledger import Entry, Ledger
from support import adapters

BOOK = Ledger(
    7, (("rack-7", 12_000.0),), (Entry("gpu-0", ("rack-7",), 5200.0, 6, 6000.0, low_since_s=3.0),),
)  # fmt: skip


class Server:
    """One object at a time, as the API server keeps it."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.version = 0
        self.down = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            return adapters.status(503, "busy")
        if request.method == "GET":
            return httpx.Response(200, json=self.stored) if self.stored else adapters.status(404, "not found")
        sent = json.loads(request.content)
        at = str(self.version)
        if request.method == "DELETE":
            if sent["preconditions"]["resourceVersion"] != at:
                return adapters.status(409, "moved on")
            self.stored = None
            return httpx.Response(200, json={"kind": "Status"})
        if request.method == "POST" and self.stored:
            return adapters.status(409, "exists")
        if request.method == "PUT" and sent["metadata"]["resourceVersion"] != at:
            return adapters.status(409, "moved on")
        self.version += 1
        sent["metadata"] = {"name": sent["metadata"]["name"], "resourceVersion": str(self.version)}
        self.stored = sent
        return httpx.Response(200, json=sent)


async def test_what_is_swapped_in_is_what_the_next_leader_reads() -> None:
    """A read-back under way is of one leader's clock, and stays behind."""
    ledgers = Ledgers(adapters.kube(Server()))
    assert await ledgers.read("row-1") is None
    first = await ledgers.swap("row-1", BOOK, "")
    found = await ledgers.read("row-1")
    assert found == first
    assert found is not None
    assert found.ledger.entries == (Entry("gpu-0", ("rack-7",), 5200.0, 6, 6000.0),)


async def test_a_swap_at_an_older_version_is_refused_and_stores_nothing() -> None:
    ledgers = Ledgers(adapters.kube(Server()))
    first = await ledgers.swap("row-1", BOOK, "")
    second = await ledgers.swap("row-1", Ledger(8, BOOK.budgets_w, BOOK.entries), first.version)
    for version in ("", first.version):
        with pytest.raises(ports.Refused, match="PowerLedger row-1"):
            await ledgers.swap("row-1", Ledger(9, BOOK.budgets_w), version)
        with pytest.raises(ports.Refused):
            await ledgers.drop("row-1", version or "0")
    assert await ledgers.read("row-1") == second


async def test_a_ledger_is_dropped_at_its_version_and_a_server_that_is_away_is_told() -> None:
    server = Server()
    ledgers = Ledgers(adapters.kube(server))
    stored = await ledgers.swap("row-1", BOOK, "")
    await ledgers.drop("row-1", stored.version)
    assert await ledgers.read("row-1") is None
    server.down = True
    with pytest.raises(ports.Refused):
        await ledgers.read("row-1")


async def test_an_object_that_somebody_broke_is_no_ledger() -> None:
    server = Server()
    ledgers = Ledgers(adapters.kube(server))
    await ledgers.swap("row-1", BOOK, "")
    assert server.stored is not None
    server.stored["spec"]["entries"][0]["grantWatts"] = "many"
    with pytest.raises(ports.Refused, match="grantWatts"):
        await ledgers.read("row-1")


async def test_watts_that_are_not_whole_are_a_bug_of_ours() -> None:
    """Rounding either way would break a budget or a grant."""
    with pytest.raises(ValueError, match=r"0\.5 W in a ledger"):
        await Ledgers(adapters.kube(Server())).swap("row-1", Ledger(1, (("row-1", 0.5),)), "")
