"""What we ask of the API server, on raw JSON: list, watch, apply, scale.

Who calls it: `app/`, `reflector`, `lease`. Why not the official client: see docs/explanation/dependencies.md. Writes
are never retried: the cycle that wanted one comes again and decides anew.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from capstan.adapters import answers, errors
from capstan.adapters.kube import config, resources, wire
from capstan.adapters.kube.resources import Resource
from capstan.adapters.kube.wire import Manifest

WATCH_S = 60  # the server ends a watch after this, and we go on where it was: the sign of life of a quiet resource,
# for which the server sends no bookmarks (seen on v1.35). wire.SILENCE_S is a little more.
PAGE = 500
PAGE_TRIES = 3  # one lost page of a long list is asked for again; the list from its start would cost more
PAGE_PAUSE_S = 0.5
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Listing:
    """A list, or a page of one, and the resourceVersion to watch from."""

    items: tuple[Manifest, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of the cluster: one namespace or all, and the server's own selectors."""

    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    @property
    def query(self) -> dict[str, str]:
        """Return the selectors as query parameters."""
        pairs = (("labelSelector", self.labels), ("fieldSelector", self.fields))
        return {name: value for name, value in pairs if value}


EVERYTHING = Scope()


class KubeClient:
    """One API server.

    Args:
        where: Cluster and identity.
        component: For the User-Agent, so that the audit log tells our processes apart.
        wrote: Called as `wrote(verb, resource)` after every successful write (a counter).
        transport: A test's own.
    """

    def __init__(
        self,
        where: config.Config,
        *,
        component: str,
        wrote: Callable[[str, str], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._wire = wire.Wire(where, component=component, transport=transport)
        self._wrote = wrote

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    # --- reads -------------------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest:
        """Return one object. Raises NotFound, Denied, Unavailable, Malformed."""
        return await self._wire.call("GET", resource.path(namespace, name), {})

    async def list(self, resource: Resource, scope: Scope = EVERYTHING) -> Listing:
        """Return all objects of a scope. Raises as `get`."""
        items: list[Manifest] = []
        version = ""
        async with aclosing(self.pages(resource, scope)) as pages:
            async for page in pages:
                items += page.items
                version = page.resource_version
        return Listing(tuple(items), version)

    async def pages(self, resource: Resource, scope: Scope = EVERYTHING) -> AsyncGenerator[Listing]:
        """Yield all objects of a scope, `PAGE` at a time: 10,000 nodes need not be in memory at once.

        Raises:
            NotFound: The server does not serve this resource.
            Malformed: The page token became too old meanwhile, or the answer is no list.
            Denied, Unavailable.
        """
        path, query = resource.path(scope.namespace), {"limit": str(PAGE), **scope.query}
        page = await self._wire.call("GET", path, query)
        while True:
            found, meta = page.get("items"), page.get("metadata")
            if not isinstance(meta, dict) or not isinstance(found, list | None):
                raise errors.Malformed(f"list of {resource.plural}: the answer is no list")
            yield Listing(tuple(found or ()), str(meta.get("resourceVersion", "")))
            if not meta.get("continue"):
                return
            page = await self._page(path, {**query, "continue": str(meta["continue"])})

    async def _page(self, path: str, query: dict[str, str]) -> Manifest:
        for attempt in range(1, PAGE_TRIES):
            try:
                return await self._wire.call("GET", path, query)
            except errors.Unavailable as unavailable:
                pause_s = min(unavailable.retry_after_s or PAGE_PAUSE_S * attempt, wire.DEADLINE_S)
                await asyncio.sleep(pause_s * random.uniform(1.0, 1.2))  # noqa: S311 - jitter, not a secret
        return await self._wire.call("GET", path, query)

    async def watch(
        self, resource: Resource, resource_version: str, scope: Scope = EVERYTHING
    ) -> AsyncGenerator[tuple[str, Manifest]]:
        """Yield `(type, object)` from a resourceVersion on, bookmarks included, until the server ends the watch.

        Raises:
            Unavailable: The connection broke or stayed silent.
            Malformed: A line that is no event, or an ERROR event (410 among them): list again.
            NotFound, Denied.
        """
        query = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
            **scope.query,
        }
        async with aclosing(self._wire.lines(resource.path(scope.namespace), query)) as lines:
            async for line in lines:
                yield _event(line, resource)

    # --- writes ------------------------------------------------------------------------------------

    async def apply(
        self,
        document: Manifest,
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
        subresource: str | None = None,
    ) -> Manifest:
        """Server-side apply; returns the object.

        A `metadata.resourceVersion` in the document is a precondition, a `metadata.uid` keeps it from creating.

        Raises:
            Rejected, Conflict, Denied, NotFound, Unavailable.
        """
        resource = resources.of(document)
        meta = _metadata(document)
        path = resource.path(str(meta.get("namespace", "")), str(meta["name"]), subresource)
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        written = await self._wire.call("PATCH", path, query, document, APPLY)
        if not dry_run:
            self._count("apply", resource, subresource)
        return written

    async def merge(
        self,
        resource: Resource,
        name: str,
        patch: Manifest,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> Manifest:
        """Merge-patch an object or its subresource; a `metadata.resourceVersion` in the patch is a precondition."""
        written = await self._wire.call("PATCH", resource.path(namespace, name, subresource), {}, patch, MERGE)
        self._count("patch", resource, subresource)
        return written

    async def create(self, document: Manifest) -> Manifest:
        """Create an object; Conflict where it exists."""
        resource = resources.of(document)
        namespace = str(_metadata(document).get("namespace", ""))
        written = await self._wire.call("POST", resource.path(namespace), {}, document)
        self._count("create", resource, None)
        return written

    async def replace(self, document: Manifest) -> Manifest:
        """Put an object at the resourceVersion that it carries; Conflict where it moved on."""
        resource, meta = resources.of(document), _metadata(document)
        path = resource.path(str(meta.get("namespace", "")), str(meta["name"]))
        written = await self._wire.call("PUT", path, {}, document)
        self._count("update", resource, None)
        return written

    async def delete(self, resource: Resource, name: str, *, resource_version: str) -> None:
        """Delete an object that is still at `resource_version`; Conflict where not, NotFound where it is gone."""
        options: Manifest = {"preconditions": {"resourceVersion": resource_version}}
        await self._wire.call("DELETE", resource.path(None, name), {}, options)
        self._count("delete", resource, None)

    async def scale(
        self, resource: Resource, namespace: str, name: str, replicas: int, *, resource_version: str
    ) -> None:
        """Set replicas through `/scale`, if the object is still at `resource_version`; Conflict where not."""
        document: Manifest = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": resource_version},
            "spec": {"replicas": replicas},
        }
        await self._wire.call("PUT", resource.path(namespace, name, "scale"), {}, document)
        self._count("update", resource, "scale")

    def _count(self, verb: str, resource: Resource, subresource: str | None) -> None:
        if self._wrote is not None:
            self._wrote(verb, f"{resource.plural}/{subresource}" if subresource else resource.plural)


def _event(line: bytes, resource: Resource) -> tuple[str, Manifest]:
    what = f"watch of {resource.plural}"
    event = answers.parsed(line, what)
    kind, found = event.get("type"), event.get("object")
    if not isinstance(kind, str) or not isinstance(found, dict):
        raise errors.Malformed(f"{what}: an event without type or object")
    if kind == "ERROR":
        raise errors.Malformed(f"{what}: the server ended it: {found.get('message', found)}")
    return kind, found


def _metadata(document: Manifest) -> dict[str, object]:
    meta = document.get("metadata")
    if not isinstance(meta, dict):
        raise TypeError("a manifest of ours has no metadata")
    return meta
