"""The API server behind serving's ports: caches for `Cluster`, writes for `Writer` and `Reporter`.

Who calls it: `app.operator`. Errors of the adapter become the one error that serving knows, here and nowhere else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from capstan.adapters import errors
from capstan.adapters.kube import resources
from capstan.adapters.kube.client import KubeClient, Scope
from capstan.adapters.kube.reflector import Reflector
from capstan.serving import cluster, manifest, names, ports
from capstan.serving.manifest import Manifest

OURS = Scope(labels=names.POLICY_LABEL)
NOTE_CHARS = 1024  # events.k8s.io/v1 refuses longer notes


class _Followed:
    """Everything in a namespace where a policy has targets: their pods and workloads lack our label."""

    def __init__(self, client: KubeClient, namespace: str, changed: Callable[[], None]) -> None:
        scope = Scope(namespace=namespace)
        self.pods = Reflector(client, resources.PODS, cluster.pod, scope=scope, changed=changed)
        self.workloads = Reflector(client, resources.DEPLOYMENTS, cluster.workload, scope=scope, changed=changed)
        self._tasks = [asyncio.create_task(r.run()) for r in (self.pods, self.workloads)]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


class Caches:
    """Implements `serving.ports.Cluster` with one list-and-watch per kind.

    Args:
        client: The API server.
        changed: Rung when pods, workloads or autoscalers changed; nodes and labels can wait for the period.
    """

    def __init__(self, client: KubeClient, changed: Callable[[], None]) -> None:
        self._client = client
        self._changed = changed
        self._followed: dict[str, _Followed] = {}
        self._pods = Reflector(client, resources.PODS, cluster.pod, scope=OURS, changed=changed)
        self._workloads = Reflector(client, resources.DEPLOYMENTS, cluster.workload, scope=OURS, changed=changed)
        self._services = Reflector(client, resources.SERVICES, cluster.fields_hash, scope=OURS)
        self._budgets = Reflector(client, resources.BUDGETS, cluster.fields_hash, scope=OURS)
        self._autoscalers = Reflector(client, resources.AUTOSCALERS, cluster.autoscaler)
        self._nodes = Reflector(client, resources.NODES, cluster.node)
        self._namespaces = Reflector(client, resources.NAMESPACES, cluster.namespace_labels)
        self._node_plans = Reflector(client, resources.NODE_CAPS, cluster.node_plan)

    @property
    def ready(self) -> bool:
        """Return whether every cache was filled once."""
        return all(r.synced.is_set() for r in self._all())

    async def synced(self) -> None:
        """Return when every cache was filled once."""
        await asyncio.gather(*(r.synced.wait() for r in self._all()))

    async def run(self) -> None:
        """Keep the caches until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for reflector in self._all():
                    group.create_task(reflector.run())
        finally:
            self.follow(frozenset())

    def follow(self, namespaces: frozenset[str]) -> None:
        """Cache all pods and workloads of these namespaces, too, and of no others any more."""
        for gone in self._followed.keys() - namespaces:
            self._followed.pop(gone).stop()
        for new in namespaces - self._followed.keys():
            self._followed[new] = _Followed(self._client, new, self._changed)

    def snapshot(self) -> cluster.Snapshot:
        """Return what is cached now."""
        pods, workloads = dict(self._pods.items), dict(self._workloads.items)
        for followed in self._followed.values():
            pods.update(followed.pods.items)
            workloads.update(followed.workloads.items)
        services = {f"Service/{key}": value for key, value in self._services.items.items()}
        budgets = {f"PodDisruptionBudget/{key}": value for key, value in self._budgets.items.items()}
        return cluster.Snapshot(
            pods=tuple(pods.values()),
            workloads=tuple(workloads.values()),
            autoscalers=tuple(self._autoscalers.items.values()),
            nodes=self._nodes.items,
            namespaces=self._namespaces.items,
            node_plans=self._node_plans.items,
            objects=services | budgets,
            age_s=max(r.age_s for r in self._all()),
        )

    def _all(
        self,
    ) -> tuple[
        Reflector[cluster.Pod],
        Reflector[cluster.Workload],
        Reflector[str],
        Reflector[str],
        Reflector[cluster.Autoscaler],
        Reflector[cluster.Node],
        Reflector[dict[str, str]],
        Reflector[cluster.NodePlan],
    ]:
        return (
            self._pods,
            self._workloads,
            self._services,
            self._budgets,
            self._autoscalers,
            self._nodes,
            self._namespaces,
            self._node_plans,
        )


class Api:
    """Implements `serving.ports.Writer` and `Reporter` with our field manager."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._instance = socket.gethostname()

    async def apply(self, document: Manifest, *, dry_run: bool = False) -> Manifest:
        """Server-side apply."""
        with _refused():
            return await self._client.apply(dict(document), manager=names.MANAGER, dry_run=dry_run)

    async def scale(self, workload: str, replicas: int, *, resource_version: str) -> None:
        """Set the replicas of a Deployment through `/scale`."""
        namespace, _, name = workload.partition("/")
        with _refused():
            await self._client.scale(
                resources.DEPLOYMENTS, namespace, name, replicas, resource_version=resource_version
            )

    async def status(self, policy: Manifest, status: Manifest) -> None:
        """Replace the status of a policy; the uid keeps a namesake from getting it."""
        document: dict[str, object] = {
            "apiVersion": names.API_VERSION,
            "kind": "ServingPolicy",
            "metadata": {k: manifest.text(policy, "metadata", k) for k in ("name", "namespace", "uid")},
            "status": dict(status),
        }
        with _refused():
            await self._client.apply(document, manager=names.MANAGER, subresource="status")

    async def event(self, event: ports.Event) -> None:
        """Post an Event."""
        with _refused():
            await self._client.create(self._event(event))

    def _event(self, event: ports.Event) -> dict[str, object]:
        about = {k: manifest.text(event.policy, "metadata", k) for k in ("name", "namespace", "uid")}
        return {
            "apiVersion": resources.EVENTS.api_version,
            "kind": "Event",
            "metadata": {"generateName": f"{about['name']}-", "namespace": about["namespace"]},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "capstan.dev/operator",
            "reportingInstance": self._instance,
            "action": "Decide",
            "reason": event.reason,
            "regarding": {"apiVersion": names.API_VERSION, "kind": "ServingPolicy", **about},
            "note": event.note[:NOTE_CHARS],
            "type": "Warning" if event.warning else "Normal",
        }


_WORDS: Mapping[type[errors.AdapterError], ports.Refusal] = {
    errors.Unavailable: ports.Refusal.UNAVAILABLE,
    errors.Malformed: ports.Refusal.UNAVAILABLE,  # a proxy's error page: the server itself was not there
    errors.Conflict: ports.Refusal.CONFLICT,
    errors.NotFound: ports.Refusal.CONFLICT,
    errors.Rejected: ports.Refusal.REJECTED,
    errors.Denied: ports.Refusal.DENIED,
}


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except errors.AdapterError as error:
        raise ports.Refused(_WORDS.get(type(error), ports.Refusal.UNAVAILABLE), str(error)) from error
