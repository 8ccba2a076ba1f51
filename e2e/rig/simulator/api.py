"""The simulator's own view of the API server: a list and a watch per resource, and the delete of a kubelet.

On purpose not `capstan.adapters.kube`: what the rig shows must not depend on the code that is on trial in it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import aiohttp
import yaml

from rig.simulator.pods import Json, PodView

log = logging.getLogger(__name__)

RETRY_S = 0.5  # the API server of the rig is on this machine; it may be restarted on purpose
WATCH_S = 300  # what client-go asks for at least
MAX_EVENT_BYTES = 4 * 2**20  # etcd holds objects of 1.5 MiB at most, JSON swells them
GONE = 410
REQUEST_TIMEOUT_S = 10.0


class Expired(Exception):  # noqa: N818 - Kubernetes' name for it
    """The watch's resourceVersion is too old: list again."""


class Api:
    """An HTTP session with the API server that a kubeconfig names. Use as `async with`."""

    def __init__(self, kubeconfig: Path) -> None:
        cluster, user = _current(yaml.safe_load(kubeconfig.read_text()))
        self._base_url = str(cluster["server"]).rstrip("/")
        self._headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        self._ssl = _tls(cluster, user, kubeconfig.parent)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._ssl) if self._ssl else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(
            self._base_url, headers=self._headers, connector=connector, read_bufsize=MAX_EVENT_BYTES
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session."""
        if self._session is None:
            raise RuntimeError("the API client is not open: use `async with`")
        return self._session

    async def remove(self, pod: PodView) -> None:
        """Delete a pod with grace 0, as the kubelet does at its end; another pod of that name is left alone.

        Raises:
            aiohttp.ClientError: The API server refused, or is away.
        """
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        async with self.session.delete(path, json=options, timeout=timeout) as response:
            if response.status not in (404, 409):  # gone, or its name is another pod's by now
                response.raise_for_status()


class Mirror:
    """A resource's objects by uid, kept current; `on_change` is called after every change and may not block."""

    def __init__(self, api: Api, path: str, on_change: Callable[[], None]) -> None:
        self.objects: dict[str, Json] = {}
        self._api = api
        self._path = path
        self._on_change = on_change

    async def run(self) -> None:
        """List and watch until cancelled; whatever goes wrong on the way is tried again."""
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._watch(version)
            except Expired:
                log.info("%s: watch expired, listing again", self._path)
            except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
                log.warning("%s: %s; trying again", self._path, error)
                await asyncio.sleep(RETRY_S)

    async def _list(self) -> str:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        async with self._api.session.get(self._path, timeout=timeout) as response:
            response.raise_for_status()
            page = await response.json()
        self.objects = {item["metadata"]["uid"]: item for item in page["items"]}
        self._on_change()
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        """Follow one watch to its end and return the version to go on from."""
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "1", "timeoutSeconds": str(WATCH_S)}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=WATCH_S)
        async with self._api.session.get(self._path, params=query, timeout=timeout) as response:
            if response.status == GONE:
                raise Expired
            response.raise_for_status()
            async for line in response.content:
                version = self._apply(json.loads(line))
        return version

    def _apply(self, event: Mapping[str, object]) -> str:
        """Take one watch event and return the version it carries."""
        item = cast(Json, event["object"])
        if event["type"] == "ERROR":
            raise Expired if item.get("code") == GONE else aiohttp.ClientError(f"watch: {item.get('message')}")
        metadata = cast(Json, item["metadata"])
        uid = str(metadata.get("uid", ""))
        if event["type"] == "DELETED":
            self.objects.pop(uid, None)
        elif event["type"] != "BOOKMARK":
            self.objects[uid] = item
        if event["type"] != "BOOKMARK":
            self._on_change()
        return str(metadata["resourceVersion"])


def _current(config: Json) -> tuple[Json, Json]:
    """Return cluster and user of the current context."""
    context = _named(config, "contexts", str(config["current-context"]))["context"]
    names = cast(Json, context)
    cluster = cast(Json, _named(config, "clusters", str(names["cluster"]))["cluster"])
    return cluster, cast(Json, _named(config, "users", str(names["user"]))["user"])


def _named(config: Json, kind: str, name: str) -> Json:
    for entry in cast(list[Json], config[kind]):
        if entry["name"] == name:
            return entry
    raise ValueError(f"kubeconfig: {kind} has no {name!r}")


def _tls(cluster: Json, user: Json, folder: Path) -> ssl.SSLContext | None:
    """Return the TLS context; None for a plain http server."""
    if not str(cluster["server"]).startswith("https:"):
        return None
    data = cluster.get("certificate-authority-data")
    context = ssl.create_default_context(
        cafile=str(folder / str(cluster["certificate-authority"])) if "certificate-authority" in cluster else None,
        cadata=base64.b64decode(str(data)).decode() if data else None,
    )
    if "client-certificate" in user:
        context.load_cert_chain(folder / str(user["client-certificate"]), folder / str(user["client-key"]))
    return context
