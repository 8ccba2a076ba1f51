"""The simulator's view of the API server survives what an API server does: ends of watches, expiry, errors, absence."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from rig.simulator import api
from rig.simulator.api import Api, Mirror
from support import simulator

PODS = "/api/v1/pods"


def pod(uid: str, version: int = 1) -> dict[str, object]:
    return {"metadata": {"uid": uid, "name": uid, "namespace": "llm", "resourceVersion": str(version)}}


def event(kind: str, item: dict[str, object]) -> dict[str, object]:
    return {"type": kind, "object": item}


class Server:
    """An API server that answers from a script: each list and each watch takes the next entry."""

    def __init__(self) -> None:
        self.lists: deque[list[dict[str, object]] | int] = deque()
        self.watches: deque[list[dict[str, object]] | int] = deque()
        self.watched_from: list[str] = []
        self.deleted: list[tuple[str, dict[str, object]]] = []
        self.delete_status = 200
        self.seen_token: str | None = None

    async def pods(self, request: web.Request) -> web.StreamResponse:
        self.seen_token = request.headers.get("Authorization")
        if "watch" in request.query:
            return await self._watch(request)
        page = self.lists.popleft()
        if isinstance(page, int):
            return web.Response(status=page)
        return web.json_response({"metadata": {"resourceVersion": "100"}, "items": page})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watched_from.append(request.query["resourceVersion"])
        if not self.watches:
            await asyncio.sleep(60)  # a watch on which nothing happens
        script = self.watches.popleft()
        if isinstance(script, int):
            return web.Response(status=script)
        response = web.StreamResponse()
        await response.prepare(request)
        for line in script:
            await response.write(json.dumps(line).encode() + b"\n")
        return response

    async def delete(self, request: web.Request) -> web.Response:
        self.deleted.append((request.path, await request.json()))
        return web.Response(status=self.delete_status)


@contextlib.asynccontextmanager
async def serving(server: Server, folder: Path) -> AsyncIterator[Api]:
    """The scripted server, and a client that found it through a kubeconfig."""
    app = web.Application()
    app.router.add_get(PODS, server.pods)
    app.router.add_delete("/api/v1/namespaces/{namespace}/pods/{name}", server.delete)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    ip = simulator.address()
    await web.TCPSite(runner, ip, 8000).start()
    config = {
        "current-context": "rig",
        "contexts": [{"name": "rig", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://{ip}:8000"}}],
        "users": [{"name": "u", "user": {"token": "secret-1"}}],
    }
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    try:
        async with Api(kubeconfig) as client:
            yield client
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def mirrored(server: Server, folder: Path) -> AsyncIterator[tuple[Mirror, list[set[str]]]]:
    """A running mirror, and the sets of uids that it went through."""
    history: list[set[str]] = []
    async with serving(server, folder) as client:
        mirror = Mirror(client, PODS, lambda: history.append(set(mirror.objects)))
        running = asyncio.create_task(mirror.run())
        try:
            yield mirror, history
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_mirror_lists_then_follows(tmp_path: Path) -> None:
    server = Server()
    server.lists.append([pod("a")])
    server.watches.append(
        [event("ADDED", pod("b", 101)), event("DELETED", pod("a", 102)), event("MODIFIED", pod("b", 103))]
    )
    async with mirrored(server, tmp_path) as (mirror, history):
        await simulator.until(lambda: len(server.watched_from) == 2)
        assert history == [{"a"}, {"a", "b"}, {"b"}, {"b"}]
        assert mirror.objects["b"] == pod("b", 103)
        assert server.watched_from == ["100", "103"], "a watch that ended goes on where it was"
        assert server.seen_token == "Bearer secret-1"


async def test_a_bookmark_moves_the_version_and_nothing_else(tmp_path: Path) -> None:
    server = Server()
    server.lists.append([pod("a")])
    server.watches.append([event("BOOKMARK", {"metadata": {"resourceVersion": "200"}})])
    async with mirrored(server, tmp_path) as (_, history):
        await simulator.until(lambda: len(server.watched_from) == 2)
        assert server.watched_from == ["100", "200"]
        assert history == [{"a"}]


@pytest.mark.parametrize(
    "expiry",
    [
        pytest.param(410, id="refused with 410"),
        pytest.param([event("ERROR", {"code": 410, "message": "too old"})], id="an ERROR event with 410"),
    ],
)
async def test_an_expired_watch_lists_again(tmp_path: Path, expiry: list[dict[str, object]] | int) -> None:
    """What happened in between is in the new list: a pod that vanished unseen is gone from the mirror too."""
    server = Server()
    server.lists.extend([[pod("a"), pod("b")], [pod("b")]])
    server.watches.append(expiry)
    async with mirrored(server, tmp_path) as (_, history):
        await simulator.until(lambda: len(history) == 2)
        assert history == [{"a", "b"}, {"b"}]


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(500, id="500"),
        pytest.param([event("ERROR", {"code": 500, "message": "etcd is away"})], id="an ERROR event"),
    ],
)
async def test_trouble_is_tried_again(
    tmp_path: Path, trouble: list[dict[str, object]] | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "RETRY_S", 0.01)
    server = Server()
    server.lists.extend([503, [pod("a")], [pod("a"), pod("b")]])
    server.watches.append(trouble)
    async with mirrored(server, tmp_path) as (_, history):
        await simulator.until(lambda: len(history) == 2)
        assert history == [{"a"}, {"a", "b"}]


async def test_a_pod_is_removed_with_grace_zero_and_only_if_it_is_still_that_pod(tmp_path: Path) -> None:
    server = Server()
    async with serving(server, tmp_path) as client:
        await client.remove(simulator.pod_view(uid="uid-7"))
    assert server.deleted == [
        ("/api/v1/namespaces/llm/pods/chat-tp4-a", {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-7"}})
    ]


@pytest.mark.parametrize(("status", "raises"), [(404, False), (409, False), (403, True), (500, True)])
async def test_a_pod_that_is_gone_already_is_fine(tmp_path: Path, status: int, raises: bool) -> None:
    server = Server()
    server.delete_status = status
    async with serving(server, tmp_path) as client:
        with pytest.raises(Exception, match=str(status)) if raises else contextlib.nullcontext():
            await client.remove(simulator.pod_view())


def test_a_kubeconfig_whose_context_names_nobody_says_so(tmp_path: Path) -> None:
    config = {"current-context": "rig", "contexts": [], "clusters": [], "users": []}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="contexts has no 'rig'"):
        Api(tmp_path / "kubeconfig")
