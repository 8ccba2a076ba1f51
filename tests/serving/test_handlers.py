"""kopf against an API server of a few routes: it only listens, crosses threads safely, and is called again."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import kopf
import pytest
from aiohttp import web

from capstan.serving import handlers, manifest
from capstan.serving.store import Bell, Kind, Store
from support.serving import FakeClock

WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Api:
    """The routes that kopf asks for; `trouble` is sent as the first line of as many watches, one after another."""

    url: str = ""
    policies: list[dict[str, object]] = field(default_factory=list)
    trouble: list[dict[str, object]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    lists: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path))
        if request.path.endswith("/v1alpha1"):
            verbs = ["get", "list", "watch"]
            kinds = [(Kind.POLICY, "ServingPolicy"), (Kind.PROFILE, "ServingProfile"), (Kind.DOMAIN, "PowerDomain")]
            found = [
                {"name": k, "singularName": kind.lower(), "kind": kind, "namespaced": k is Kind.POLICY, "verbs": verbs}
                for k, kind in kinds
            ]
            return web.json_response({"resources": found})
        if request.path == "/api":
            return web.json_response({"versions": ["v1"]})
        if request.path == "/api/v1":
            core = {
                "name": "namespaces",
                "singularName": "",
                "kind": "Namespace",
                "namespaced": False,
                "verbs": ["list"],
            }
            return web.json_response({"resources": [core]})
        if request.path == "/apis":
            version = {"groupVersion": "capstan.dev/v1alpha1", "version": "v1alpha1"}
            group = {"name": "capstan.dev", "versions": [version], "preferredVersion": version}
            return web.json_response({"groups": [group]})
        if "servingpolicies" not in request.path and "watch" not in request.query:
            return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})
        if "watch" not in request.query:
            self.lists += 1
            return web.json_response({"items": self.policies, "metadata": {"resourceVersion": "1"}})
        return await self._watch(request)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        if self.trouble:
            await stream.write(json.dumps(self.trouble.pop()).encode() + b"\n")
        await asyncio.sleep(30)
        return stream


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what kopf leaves: tasks whose exceptions nobody retrieved.

    Logging them parses source lines, and in Python 3.11 that breaks any compilation which the garbage collector
    happens to interrupt (cpython#106905), here pytest's own.
    """
    yield
    gc.collect()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    server = Api()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


def policy(name: str) -> dict[str, object]:
    meta = {"name": name, "namespace": "llm", "uid": name, "generation": 1, "managedFields": [{"manager": "kubectl"}]}
    return {"apiVersion": "capstan.dev/v1alpha1", "kind": "ServingPolicy", "metadata": meta, "spec": {}}


class Watching:
    """A listener on a fake API, with what it did."""

    def __init__(self, api: Api) -> None:
        self.ended: list[BaseException | None] = []
        self.store = Store(Bell(), FakeClock().monotonic_s)
        login = lambda: kopf.ConnectionInfo(server=api.url, insecure=True)  # noqa: E731 - one line says it
        self.task = asyncio.create_task(handlers.Listener(self.store, login, self.ended.append).run())

    def names(self) -> list[str]:
        return [manifest.text(p, "metadata", "name") for p in self.store.all(Kind.POLICY)]

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        for _ in range(500):
            if holds():
                return
            await asyncio.sleep(0.02)
        pytest.fail(f"not within 10 s: {what}")

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_it_listens_and_writes_nothing_and_leaves_signals_alone(api: Api) -> None:
    before = signal.getsignal(signal.SIGTERM)
    api.policies = [policy("chat")]
    watching = Watching(api)
    await watching.until(lambda: watching.names() == ["chat"], "the policy is seen")
    assert signal.getsignal(signal.SIGTERM) is before
    assert "managedFields" not in manifest.mapping(watching.store.all(Kind.POLICY)[0], "metadata")
    await watching.stop()
    assert not [method for method, _ in api.asked if method in WRITES]
    assert not [path for _, path in api.asked if "customresourcedefinitions" in path or "namespaces" in path]


async def test_an_error_in_a_watch_ends_kopf_which_is_called_again_and_our_own_tasks_live_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one loop with us, kopf would cancel every younger task when it ends; the ticker here is such a one."""
    monkeypatch.setattr(handlers, "BACKOFF_FIRST_S", 0.05)
    api.policies = [policy("chat")]
    # The test takes 5 s: so long kopf waits for its stop flag's own waiter before it says that a watch failed.
    api.trouble = [{"type": "ERROR", "object": {"kind": "Status", "code": 403, "message": "forbidden"}}]
    watching = Watching(api)
    await watching.until(lambda: watching.names() == ["chat"], "the policy is seen")
    younger = asyncio.create_task(asyncio.sleep(60))
    await watching.until(lambda: bool(watching.ended) and api.lists > 1, "kopf ended and was called again")
    assert "403" in repr(watching.ended[0]) or "forbidden" in repr(watching.ended[0])
    assert not younger.done()
    younger.cancel()
    await watching.stop()


def test_only_event_handlers_are_registered_so_kopf_never_adds_a_finalizer_or_an_annotation() -> None:
    made = handlers.registry(lambda kind, event_type, raw: None, lambda: kopf.ConnectionInfo(server="http://x"))
    assert len(made._watching.get_all_handlers()) == len(Kind)
    assert not made._changing.get_all_handlers()
    assert not made._spawning.get_all_handlers()
    settings = handlers.settings()
    assert (settings.posting.enabled, settings.peering.standalone, settings.scanning.disabled) == (False, True, True)
