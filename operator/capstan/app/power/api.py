"""The API server behind `power.ports.Writer`: NodeCaps, status, our finalizer, Events."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from capstan.adapters import errors
from capstan.adapters.kube import resources
from capstan.adapters.kube.client import KubeClient
from capstan.app.power import caches
from capstan.power import ports
from capstan.power.tree import FINALIZER

MANAGER = "capstan-power"


class Api:
    """Implements `power.ports.Writer`."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def node_cap(self, document: ports.Document) -> None:
        """Apply `spec.power`."""
        await self._apply(document)

    async def status(self, domain: ports.Document, made: ports.Document) -> None:
        """Replace a domain's status; the uid keeps a namesake from getting it."""
        document: ports.Document = {
            "apiVersion": resources.DOMAINS.api_version, "kind": "PowerDomain", "metadata": _about(domain),
            "status": made,
        }  # fmt: skip
        await self._apply(document, subresource="status")

    async def finalizer(self, domain: ports.Document, *, present: bool) -> None:
        """Put our finalizer on a domain, or take it away; the version keeps other people's finalizers as they are."""
        meta = domain.get("metadata")
        found = meta.get("finalizers") if isinstance(meta, dict) else None
        others = [name for name in found if name != FINALIZER] if isinstance(found, list) else []
        patch: ports.Document = {
            "metadata": {
                "resourceVersion": caches.text(domain, "metadata", "resourceVersion"),
                "finalizers": [*others, *([FINALIZER] if present else [])],
            }
        }
        try:
            await self._client.merge(resources.DOMAINS, _about(domain)["name"], patch)
        except errors.NotFound:
            return  # gone, and with it what a finalizer would keep
        except errors.AdapterError as problem:
            raise ports.Refused(f"finalizer: {problem}") from problem

    async def event(self, transition: ports.Transition) -> None:
        """Post an Event; those of cluster-scoped objects live in `default`."""
        about = _about(transition.domain)
        document: ports.Document = {
            "apiVersion": resources.EVENTS.api_version,
            "kind": "Event",
            "metadata": {"generateName": f"{about['name']}-", "namespace": "default"},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "capstan.dev/power",
            "reportingInstance": socket.gethostname(),
            "action": "Cap",
            "reason": transition.reason,
            "regarding": {"apiVersion": resources.DOMAINS.api_version, "kind": "PowerDomain", **about},
            "note": transition.note,
            "type": "Warning" if transition.warning else "Normal",
        }
        try:
            await self._client.create(document)
        except errors.AdapterError as problem:
            raise ports.Refused(f"event: {problem}") from problem

    async def _apply(self, document: ports.Document, subresource: str | None = None) -> None:
        try:
            await self._client.apply(document, manager=MANAGER, subresource=subresource)
        except errors.AdapterError as problem:
            raise ports.Refused(f"{document['kind']}: {problem}") from problem


def _about(domain: ports.Document) -> dict[str, str]:
    return {key: caches.text(domain, "metadata", key) for key in ("name", "uid")}
