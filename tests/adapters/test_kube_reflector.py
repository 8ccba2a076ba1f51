"""The list-and-watch cache: whatever breaks, it lists again, and no change is lost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from capstan.adapters.kube import reflector, resources, wire
from capstan.adapters.kube.reflector import Reflector
from support import adapters

Cache = Reflector[str]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(reflector, "BACKOFF_MAX_S", 0.04)
    monkeypatch.setattr(reflector, "SHORT_WATCH_S", 0.01)


def tier(raw: dict[str, Any]) -> str:
    return str(raw["metadata"]["labels"].get("tier", ""))


@asynccontextmanager
async def running(
    script: adapters.Answer | adapters.Script, changed: Callable[[], None] = lambda: None, *, optional: bool = False
) -> AsyncIterator[Cache]:
    cache = Reflector(adapters.kube(script), resources.PODS, tier, changed=changed, optional=optional)
    task = asyncio.create_task(cache.run())
    try:
        yield cache
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(1.5):
        while not holds():  # noqa: ASYNC110 - the cache is looked at as its user looks at it
            await asyncio.sleep(0.002)


async def test_it_lists_then_follows_events() -> None:
    lines = [
        adapters.event("ADDED", "new", tier="a"),
        adapters.event("BOOKMARK", "-", 7),
        adapters.event("DELETED", "listed"),
    ]
    async with running(adapters.Script("\n".join(lines) + "\n")) as cache:
        assert cache.age_s == math.inf
        await until(lambda: cache.items == {"llm/new": "a"})
        assert cache.age_s < 1


async def test_a_watch_that_the_server_ends_goes_on_where_it_was_without_a_new_list() -> None:
    script = adapters.Script(adapters.event("BOOKMARK", "-", 150) + "\n")
    async with running(script):
        await until(lambda: len(script.asked) == 2)
    assert (script.listed, script.asked) == (1, ["100", "150"])


@pytest.mark.parametrize(
    "watch",
    [
        adapters.error(410, "too old resource version") + "\n",
        adapters.error(500, "etcd is gone") + "\n",
        adapters.error(403, "forbidden") + "\n",
        '{"type":"ADDED","obj\n',
        '{"type":"ADDED","obj',
        "<html>bad gateway</html>\n",
        '{"type":"ADDED"}\n',
        '{"type":"ADDED","object":{"kind":"Pod"}}\n',
        httpx.Response(429, json={"message": "too many requests"}),
        httpx.Response(403, json={"message": "pods is forbidden"}),
        httpx.Response(502, text="<html>"),
    ],
    ids=[
        "410", "500", "403", "a broken line", "a cut line", "HTML", "no object", "no metadata",
        "429 at once", "403 at once", "a gateway's page",
    ],
)  # fmt: skip
async def test_whatever_breaks_a_watch_ends_in_a_new_list_and_no_change_is_lost(watch: str | httpx.Response) -> None:
    """While nobody watched, `listed` went and `born` came."""
    script = adapters.Script(watch, lists=(("listed",), ("born",)))
    async with running(script) as cache:
        await until(lambda: set(cache.items) == {"llm/born"})
    assert script.listed == 2


async def test_a_character_that_ends_lines_elsewhere_does_not_break_the_watch() -> None:
    """U+0085 and U+2028 may stand in JSON strings; httpx's own line reader splits there."""
    script = adapters.Script(adapters.event("ADDED", "odd", tier="a\x85b\u2028c") + "\n")
    async with running(script) as cache:
        await until(lambda: "llm/odd" in cache.items)
        assert cache.items["llm/odd"] == "a\x85b\u2028c"
    assert script.listed == 1


async def test_a_line_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_LINE_BYTES", 1000)
    script = adapters.Script("x" * 1001)
    async with running(script):
        await until(lambda: script.listed == 2)


async def test_a_server_that_ends_every_watch_at_once_is_not_asked_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "SHORT_WATCH_S", 0.1)
    script = adapters.Script(*[""] * 50)
    async with running(script):
        await asyncio.sleep(0.35)
    assert 2 <= len(script.asked) <= 5


async def test_a_server_that_lists_but_forbids_watching_is_asked_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise 10,000 nodes would be listed twice a second for as long as a ClusterRole lacks `watch`."""
    monkeypatch.setattr(reflector, "BACKOFF_MAX_S", 10.0)
    script = adapters.Script(*[httpx.Response(403, json={"message": "forbidden"})] * 50)
    async with running(script):
        await asyncio.sleep(0.4)  # 10, 20, 40, 80, 160 ms: five lists and a sixth one at 310 ms
    assert 4 <= script.listed <= 7


async def test_a_watch_that_lived_for_a_while_ends_the_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "CALM_S", 0.0)
    monkeypatch.setattr(reflector, "BACKOFF_MAX_S", 10.0)
    broken = adapters.event("ADDED", "x") + "\nnot JSON\n"
    script = adapters.Script(*[broken] * 12)
    async with running(script):
        await until(lambda: script.listed > 10)  # 12 x 10 ms; doubling each time would take 20 s


async def test_the_bell_rings_when_a_projection_changed_and_not_otherwise() -> None:
    """A pod's heartbeat changes its resourceVersion and nothing that anybody keeps."""
    rings: list[int] = []
    lines = [adapters.event("MODIFIED", "listed", v) for v in (5, 6, 7)]
    lines += [adapters.event("MODIFIED", "listed", 8, tier="a"), adapters.event("ADDED", "last", 9)]
    async with running(adapters.Script("\n".join(lines) + "\n"), changed=lambda: rings.append(1)) as cache:
        await until(lambda: "llm/last" in cache.items)
    assert len(rings) == 3  # the first list, the label, the new pod


async def test_an_empty_cluster_is_synced_too() -> None:
    async with running(adapters.Script(lists=((),))) as cache:
        async with asyncio.timeout(1):
            await cache.synced.wait()
        assert cache.items == {}


async def test_somebody_elses_crd_that_is_not_there_is_empty_and_is_found_when_it_comes() -> None:
    there = False

    async def answer(request: httpx.Request) -> httpx.Response:
        if not there:
            return adapters.status(404, "the server could not find the requested resource")
        return await script.handle_async_request(request)

    script = adapters.Script()
    cache = Reflector(adapters.kube(httpx.MockTransport(answer)), resources.SCALED_OBJECTS, tier, optional=True)
    task = asyncio.create_task(cache.run())
    async with asyncio.timeout(1):
        await cache.synced.wait()
    assert cache.items == {}
    there = True
    await until(lambda: "llm/listed" in cache.items)
    task.cancel()
    await asyncio.wait([task])


async def test_our_own_crd_that_is_not_there_is_waited_for() -> None:
    async with running(lambda _: adapters.status(404, "not found")) as cache:
        await asyncio.sleep(0.05)
        assert not cache.synced.is_set()
