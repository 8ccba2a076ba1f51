"""A cache of one resource by list and watch, projected to what its user needs.

Who calls it: `app/`. Level-triggered: whatever goes wrong with a watch (410, 500, a broken line, silence) ends in a new
list, later each time until a watch has lived for a while. Why not `kopf.index`: it is quadratic in objects (kopf
1.45.2, 2026-11-20: the first handler ran 63 s after the start with 4,000 nodes).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from capstan.adapters import errors
from capstan.adapters.kube.client import EVERYTHING, KubeClient, Scope
from capstan.adapters.kube.resources import Resource
from capstan.adapters.kube.wire import Manifest

T = TypeVar("T")

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 15.0
BREATH_S = 0.05  # between two watches: a server that ends each at once gets twenty a second, not a storm
CALM_S = 30.0  # a watch that lived for this long ends the back-off; a list alone does not (its watch may be forbidden)
SHORT_WATCH_S = 1.0  # a server that ends every watch at once is asked once a second, not in a circle

_log = logging.getLogger(__name__)


class Reflector(Generic[T]):
    """Keeps `project(object)` of every object; `items` is the cache, by `namespace/name`.

    Args:
        client: The API server.
        resource: What to cache.
        project: Called once per event; keep what is needed, drop the rest. It does not raise.
        scope: Which part of the cluster.
        changed: Called after a projection changed, appeared or went (the bell of a cycle).
        optional: A resource that the server need not know (a CRD of somebody else): absent is empty.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        project: Callable[[Manifest], T],
        *,
        scope: Scope = EVERYTHING,
        changed: Callable[[], None] = lambda: None,
        optional: bool = False,
    ) -> None:
        self.resource = resource
        self.items: dict[str, T] = {}
        self.synced = asyncio.Event()
        self._client = client
        self._project = project
        self._scope = scope
        self._changed = changed
        self._optional = optional
        self._contact_s: float | None = None
        self._backoff_s = BACKOFF_FIRST_S
        self._problem = ""

    @property
    def age_s(self) -> float:
        """Seconds since the server last said anything; inf before the first list.

        The regular end of a watch counts, once a minute: a quiet cache that works is up to a minute old.
        """
        return float("inf") if self._contact_s is None else time.monotonic() - self._contact_s

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._watch(version)
                    await asyncio.sleep(BREATH_S)
            except errors.NotFound as problem:
                if self._optional:
                    self._replace({})
                    self._backoff_s = BACKOFF_MAX_S  # it may be installed one day
                else:
                    self._say(problem)
            except errors.AdapterError as problem:
                self._say(problem)
            await asyncio.sleep(self._backoff_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
            self._backoff_s = min(2 * self._backoff_s, BACKOFF_MAX_S)

    def _say(self, problem: errors.AdapterError) -> None:
        """Log a problem; the same one again is only for those who debug."""
        level = logging.DEBUG if str(problem) == self._problem else logging.WARNING
        self._problem = str(problem)
        _log.log(level, "cache of %s: %s; listing again in %.1f s", self.resource.plural, problem, self._backoff_s)
        if isinstance(problem, errors.Unavailable) and problem.retry_after_s is not None:
            self._backoff_s = min(max(self._backoff_s, problem.retry_after_s), BACKOFF_MAX_S)

    async def _list(self) -> str:
        """Fill the cache, page by page; return the version to watch from."""
        found: dict[str, T] = {}
        version = ""
        async with aclosing(self._client.pages(self.resource, self._scope)) as pages:
            async for page in pages:
                found.update((_key(raw), self._project(raw)) for raw in page.items)
                version = page.resource_version
        self._replace(found)
        return version

    def _replace(self, found: dict[str, T]) -> None:
        first, same = not self.synced.is_set(), found == self.items
        self.items = found
        self._contact_s = time.monotonic()
        self.synced.set()
        if first or not same:
            self._changed()

    async def _watch(self, version: str) -> str:
        """Follow events until the server ends the watch; return where to go on."""
        began_s = time.monotonic()
        async with aclosing(self._client.watch(self.resource, version, self._scope)) as events:
            async for kind, raw in events:
                self._contact_s = time.monotonic()
                self._calm(began_s)
                version = _version(raw) or version
                if kind != "BOOKMARK":
                    self._take(kind, raw)
        self._contact_s = time.monotonic()
        self._calm(began_s)
        await asyncio.sleep(max(SHORT_WATCH_S - (time.monotonic() - began_s), 0.0))
        return version

    def _calm(self, began_s: float) -> None:
        if time.monotonic() - began_s > CALM_S:
            self._backoff_s = BACKOFF_FIRST_S
            self._problem = ""

    def _take(self, kind: str, raw: Manifest) -> None:
        key = _key(raw)
        before = self.items.get(key)
        if kind == "DELETED":
            self.items.pop(key, None)
        else:
            self.items[key] = self._project(raw)
        if self.items.get(key) != before:
            self._changed()


def _meta(raw: Manifest) -> dict[str, object]:
    meta = raw.get("metadata")
    if not isinstance(meta, dict):
        raise errors.Malformed("an object without metadata")
    return meta


def _key(raw: Manifest) -> str:
    meta = _meta(raw)
    namespace = meta.get("namespace")
    return f"{namespace}/{meta.get('name')}" if namespace else str(meta.get("name"))


def _version(raw: Manifest) -> str:
    return str(_meta(raw).get("resourceVersion", ""))
