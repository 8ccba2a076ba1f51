"""A client for the API server on raw JSON: list, watch, apply, scale; every call with a deadline and a size cap.

Who calls it: `app/`, `reflector`, `lease`. Why not the official client: see docs/explanation/dependencies.md. Reads are
retried a little, writes never: the cycle that wanted a write comes again and decides anew.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

import httpx

import capstan
from capstan.adapters import errors
from capstan.adapters.kube import config, resources
from capstan.adapters.kube.resources import Resource

Manifest = dict[str, object]

DEADLINE_S = 10.0
WATCH_S = 290  # the server ends a watch after this; a little under the usual load balancers' five minutes
SILENCE_S = 70.0  # bookmarks come every minute; longer silence is a dead connection
PAGE = 500
MAX_BYTES = 64 * 1024 * 1024  # a page of 500 pods is under 10 MiB
READ_TRIES = 3
UNKNOWN_FIELD = "failed to create typed patch object"  # server-side apply answers an unknown field with a 500 (v1.35)
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Listing:
    """A list and the resourceVersion to watch from."""

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
    """One connection pool to one API server.

    Args:
        where: Cluster and identity.
        component: For the User-Agent, so that the audit log tells our processes apart.
        wrote: Called as `wrote(verb, plural)` after every successful write (a counter).
    """

    def __init__(
        self, where: config.Config, *, component: str, wrote: Callable[[str, str], None] | None = None
    ) -> None:
        self._where = where
        self._wrote = wrote
        agent = f"capstan/{capstan.__version__} ({component})"
        self._http = httpx.AsyncClient(
            base_url=where.url,
            verify=where.context() if where.url.startswith("https") else False,
            headers={"User-Agent": agent, "Accept": "application/json"},
            timeout=httpx.Timeout(DEADLINE_S),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    # --- reads -------------------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest:
        """Return one object. Raises NotFound, Denied, Unavailable."""
        return await self._read(resource.path(namespace, name), {})

    async def list(self, resource: Resource, scope: Scope = EVERYTHING) -> Listing:
        """Return all objects of a scope, fetched in pages."""
        items: list[Manifest] = []
        query = {"limit": str(PAGE), **scope.query}
        while True:
            page = await self._read(resource.path(scope.namespace), query)
            found = page.get("items")
            items += found if isinstance(found, list) else []
            meta = page.get("metadata")
            meta = meta if isinstance(meta, dict) else {}
            if not meta.get("continue"):
                return Listing(tuple(items), str(meta.get("resourceVersion", "")))
            query = {**query, "continue": str(meta["continue"])}

    async def watch(
        self, resource: Resource, resource_version: str, scope: Scope = EVERYTHING
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield `(type, object)` from a resourceVersion on, bookmarks included, until the server ends the watch.

        Raises:
            Unavailable: The connection broke or stayed silent.
            Malformed: A line that is no event, or an ERROR event (410 among them): list again.
        """
        query = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
            **scope.query,
        }
        timeout = httpx.Timeout(DEADLINE_S, read=SILENCE_S)
        path = resource.path(scope.namespace)
        try:
            async with self._http.stream("GET", path, params=query, headers=self._auth(), timeout=timeout) as answer:
                if answer.status_code != HTTPStatus.OK:
                    await answer.aread()
                    raise _error(answer)
                async for line in answer.aiter_lines():
                    yield _event(line)
        except httpx.HTTPError as problem:
            raise errors.Unavailable(f"watch of {resource.plural}: {_text(problem)}") from problem

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
        written = await self._write("PATCH", path, query, document, APPLY)
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
        """Merge-patch an object or its subresource."""
        written = await self._write("PATCH", resource.path(namespace, name, subresource), {}, patch, MERGE)
        self._count("patch", resource, subresource)
        return written

    async def create(self, document: Manifest) -> Manifest:
        """Create an object; Conflict where it exists."""
        resource = resources.of(document)
        namespace = str(_metadata(document).get("namespace", ""))
        written = await self._write("POST", resource.path(namespace), {}, document, "application/json")
        self._count("create", resource, None)
        return written

    async def replace(self, document: Manifest) -> Manifest:
        """Put an object at the resourceVersion that it carries; Conflict where it moved on."""
        resource, meta = resources.of(document), _metadata(document)
        path = resource.path(str(meta.get("namespace", "")), str(meta["name"]))
        written = await self._write("PUT", path, {}, document, "application/json")
        self._count("update", resource, None)
        return written

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
        await self._write("PUT", resource.path(namespace, name, "scale"), {}, document, "application/json")
        self._count("update", resource, "scale")

    # --- wire --------------------------------------------------------------------------------------

    def _auth(self) -> dict[str, str]:
        token = self._where.bearer()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _count(self, verb: str, resource: Resource, subresource: str | None) -> None:
        if self._wrote is not None:
            self._wrote(verb, f"{resource.plural}/{subresource}" if subresource else resource.plural)

    async def _read(self, path: str, query: Mapping[str, str]) -> Manifest:
        for attempt in range(READ_TRIES):
            try:
                return await self._call("GET", path, query)
            except errors.Unavailable as unavailable:
                if attempt == READ_TRIES - 1:
                    raise
                pause_s = unavailable.retry_after_s or 0.2 * 2**attempt
                await asyncio.sleep(min(pause_s, DEADLINE_S) * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        raise AssertionError("unreachable: the loop returns or raises")

    async def _write(
        self, method: str, path: str, query: Mapping[str, str], document: Manifest, content_type: str
    ) -> Manifest:
        return await self._call(method, path, query, json.dumps(document).encode(), content_type)

    async def _call(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None = None, content_type: str = ""
    ) -> Manifest:
        headers = {**self._auth(), **({"Content-Type": content_type} if body is not None else {})}
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                self._http.stream(method, quote(path), params=dict(query), content=body, headers=headers) as answer,
            ):
                content = await _capped(answer)
        except TimeoutError as slow:
            raise errors.Unavailable(f"{method} {path}: no answer within {DEADLINE_S:.0f} s") from slow
        except httpx.HTTPError as problem:
            raise errors.Unavailable(f"{method} {path}: {_text(problem)}") from problem
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise _error(answer, content)
        return _object(content, f"{method} {path}")


async def _capped(answer: httpx.Response) -> bytes:
    """Read a body up to the cap."""
    parts: list[bytes] = []
    size = 0
    async for part in answer.aiter_bytes():
        size += len(part)
        if size > MAX_BYTES:
            raise errors.Malformed(f"{answer.request.url.path}: the answer is larger than {MAX_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _object(content: bytes, what: str) -> Manifest:
    try:
        parsed = json.loads(content)
    except ValueError as problem:
        raise errors.Malformed(f"{what}: the answer is not JSON: {problem}") from problem
    if not isinstance(parsed, dict):
        raise errors.Malformed(f"{what}: the answer is not an object")
    return parsed


def _event(line: str) -> tuple[str, Manifest]:
    event = _object(line.encode(), "watch")
    kind, found = event.get("type"), event.get("object")
    if not isinstance(kind, str) or not isinstance(found, dict):
        raise errors.Malformed("watch: an event without type or object")
    if kind == "ERROR":
        raise errors.Malformed(f"watch: the server ended it: {found.get('message', found)}")
    return kind, found


def _metadata(document: Manifest) -> dict[str, object]:
    meta = document.get("metadata")
    if not isinstance(meta, dict):
        raise TypeError("a manifest of ours has no metadata")
    return meta


def _text(problem: httpx.HTTPError) -> str:
    return str(problem) or type(problem).__name__


def _error(answer: httpx.Response, content: bytes | None = None) -> errors.AdapterError:
    """Translate a status, with the server's own message."""
    status = answer.status_code
    message = _message(answer.content if content is None else content) or f"HTTP {status}"
    if message.startswith(UNKNOWN_FIELD):
        return errors.Rejected(message)
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        after = answer.headers.get("retry-after", "")
        return errors.Unavailable(message, retry_after_s=float(after) if after.isdecimal() else None)
    by_status: dict[int, type[errors.AdapterError]] = {
        HTTPStatus.UNAUTHORIZED: errors.Denied,
        HTTPStatus.FORBIDDEN: errors.Denied,
        HTTPStatus.NOT_FOUND: errors.NotFound,
        HTTPStatus.CONFLICT: errors.Conflict,
        HTTPStatus.GONE: errors.Malformed,
    }
    return by_status.get(status, errors.Rejected)(message)


def _message(content: bytes) -> str:
    try:
        parsed = json.loads(content)
    except ValueError:
        return ""
    return str(parsed.get("message", "")) if isinstance(parsed, dict) else ""
