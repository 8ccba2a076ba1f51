"""Servers from a script: an API server that lists, watches and keeps one Lease, and a Prometheus that answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from capstan.adapters.kube import config
from capstan.adapters.kube.client import KubeClient
from capstan.adapters.prometheus import client as prometheus

Answer = Callable[[httpx.Request], httpx.Response]


def kube(answer: Answer | httpx.AsyncBaseTransport, **options: Any) -> KubeClient:
    """Return a client of an API server that answers so."""
    transport = answer if isinstance(answer, httpx.AsyncBaseTransport) else httpx.MockTransport(answer)
    where = config.Config("http://api", token="t")
    return KubeClient(where, component="test", transport=transport, **options)


def status(code: int, message: str, **headers: str) -> httpx.Response:
    """Return a refusal as the API server words it; header names with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(code, json={"kind": "Status", "message": message}, headers=named)


def pod(name: str, version: int = 1, **labels: str) -> dict[str, object]:
    """Return a pod of namespace llm."""
    return {
        "metadata": {"namespace": "llm", "name": name, "resourceVersion": str(version), "labels": labels},
    }


def event(kind: str, name: str, version: int = 5, **labels: str) -> str:
    """Return a watch line."""
    return json.dumps({"type": kind, "object": pod(name, version, **labels)}, ensure_ascii=False)


def error(code: int, message: str) -> str:
    """Return the watch line with which a server gives up."""
    return json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": message}})


class _Lines(httpx.AsyncByteStream):
    """A body of lines; `stays` keeps it open after the last one."""

    def __init__(self, text: str, *, stays: bool) -> None:
        self._text = text
        self._stays = stays

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await asyncio.sleep(0)
        yield self._text.encode()
        if self._stays:
            await asyncio.Event().wait()


class Script(httpx.AsyncBaseTransport):
    """An API server whose watches come from a script; after it they stay open and silent.

    `lists` are the pods of each list in turn, the last one repeated. `asked` keeps the resourceVersion of every watch.
    """

    def __init__(self, *watches: str | httpx.Response, lists: tuple[tuple[str, ...], ...] = (("listed",),)) -> None:
        self._watches = list(watches)
        self._lists = list(lists)
        self.listed = 0
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a list or a watch."""
        await asyncio.sleep(0)
        if "watch" not in request.url.params:
            names = self._lists[min(self.listed, len(self._lists) - 1)]
            self.listed += 1
            items = [pod(name) for name in names]
            return httpx.Response(200, json={"metadata": {"resourceVersion": str(100 * self.listed)}, "items": items})
        self.asked.append(request.url.params["resourceVersion"])
        next_one = self._watches.pop(0) if self._watches else None
        if isinstance(next_one, httpx.Response):
            return next_one
        return httpx.Response(200, stream=_Lines(next_one or "", stays=next_one is None))


class LeaseServer:
    """One Lease with resourceVersions; `down` answers 503, `hangs` takes the call and says nothing."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.version = 0
        self.down = False
        self.hangs = False

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a get, create or replace."""
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            return status(503, "down")
        if request.method == "GET":
            return httpx.Response(200, json=self.stored) if self.stored else status(404, "none")
        document = json.loads(request.content)
        expected = str(self.version) if self.stored else None
        if document["metadata"].get("resourceVersion") != expected:
            return status(409, "moved on")
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.stored = document
        return httpx.Response(200, json=document)

    @property
    def spec(self) -> Any:
        """Return the Lease's spec."""
        assert self.stored is not None
        return self.stored["spec"]


class Clock:
    """A monotonic clock of the test's own."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return now."""
        return self.now_s


def vector(*rows: tuple[dict[str, str], str]) -> dict[str, object]:
    """Return an instant answer of Prometheus."""
    result = [{"metric": labels, "value": [1000.0, value]} for labels, value in rows]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def prometheus_of(answer: Answer, **source: Any) -> prometheus.Prometheus:
    """Return a client of a Prometheus that answers so."""
    where = prometheus.Source("http://prometheus", **source)
    return prometheus.Prometheus(where, transport=httpx.MockTransport(answer))


def prometheus_saying(status_code: int = 200, /, **content: Any) -> prometheus.Prometheus:
    """Return a client of a Prometheus that always says the same."""
    return prometheus_of(lambda _: httpx.Response(status_code, **content))
