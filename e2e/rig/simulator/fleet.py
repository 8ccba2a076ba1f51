"""The simulator's kubelet: pods of the API server on one side, GPUs and running engines on the other.

`reconcile` is level-triggered: it takes the whole list of pods and brings the engines to it. KWOK says when a pod is
Ready; this file says when it is gone, because KWOK leaves engine pods with a deletionTimestamp alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from capstan.model.profile import Profile
from rig.simulator.dcgm import GpuRow
from rig.simulator.engines import Clock, Replica
from rig.simulator.node import Node
from rig.simulator.pods import NodeView, PodView
from rig.simulator.profiles import Profiles
from rig.simulator.server import EngineServer

log = logging.getLogger(__name__)


class PodRemover(Protocol):
    """The one write of a kubelet that we need."""

    async def remove(self, pod: PodView) -> None:
        """Delete the pod with grace 0; a pod that is gone already is fine."""


class Phase(StrEnum):
    """Where a tenant is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(slots=True)
class Tenant:
    """A bound engine pod with its GPUs. `server` exists from Ready on; `booked_j` is the energy already metered."""

    pod: PodView
    node: Node
    gpus: tuple[int, ...]
    profile: Profile
    server: EngineServer | None = None
    booked_j: float = 0.0

    @property
    def phase(self) -> Phase:
        """Draining as soon as it is being deleted, serving while its server is up."""
        if self.pod.deleting:
            return Phase.DRAINING
        return Phase.SERVING if self.server else Phase.STARTING

    @property
    def replica(self) -> Replica | None:
        """The running engine, or None before Ready."""
        return self.server.replica if self.server else None


class Fleet:
    """All nodes with GPUs and all engine pods on them."""

    def __init__(self, profiles: Profiles, remover: PodRemover, *, clock: Clock = time.monotonic) -> None:
        self.profiles = profiles
        self.nodes: dict[str, Node] = {}
        self.tenants: dict[str, Tenant] = {}
        self._remover = remover
        self._clock = clock
        self._endings: dict[str, asyncio.Task[None]] = {}

    def see_nodes(self, views: Iterable[NodeView]) -> list[Node]:
        """Take the list of GPU nodes; returns those that are new. A node that vanishes keeps its GPUs and its files."""
        new = [Node(view) for view in views if view.name not in self.nodes]
        self.nodes.update({node.view.name: node for node in new})
        return new

    async def reconcile(self, pods: Mapping[str, PodView]) -> None:
        """Bring tenants and servers to the list of engine pods (by uid)."""
        for uid in [uid for uid in self.tenants if uid not in pods]:
            await self._vacate(uid)
        for uid, pod in pods.items():
            tenant = self._tenant(uid, pod)
            if tenant is None:
                continue
            tenant.pod = pod
            if pod.deleting:
                self._end(tenant)
            elif pod.ready and pod.ip and not tenant.server and not pod.flaw:
                await self._serve(tenant, pod.ip)

    async def close(self) -> None:
        """Stop every server and every drain; pods stay as they are in the API."""
        for task in self._endings.values():
            task.cancel()
        await asyncio.gather(*self._endings.values(), return_exceptions=True)
        for uid in list(self.tenants):
            await self._vacate(uid)

    def tenants_of(self, node: str) -> list[Tenant]:
        """Return the tenants of one node."""
        return [tenant for tenant in self.tenants.values() if tenant.node.view.name == node]

    def rows(self) -> Iterator[GpuRow]:
        """Yield every GPU with its meter and the pod that holds it."""
        for node in self.nodes.values():
            for gpu, meter in zip(node.gpus, node.meters, strict=True):
                tenant = self.tenants.get(node.holder(gpu.index) or "")
                yield GpuRow(node.view.name, node.view.gpu_product, gpu, meter, tenant.pod if tenant else None)

    def _tenant(self, uid: str, pod: PodView) -> Tenant | None:
        """Return the pod's tenant, made where the pod is bound to a node of ours whose GPUs are free."""
        known = self.tenants.get(uid)
        node = self.nodes.get(pod.node or "")
        if known or node is None or pod.gpus < 1:
            return known
        gpus = node.assign(uid, pod.gpus)
        if gpus is None:
            log.warning("%s/%s: node %s has no %d free GPUs (yet)", pod.namespace, pod.name, pod.node, pod.gpus)
            return None
        if pod.flaw:
            log.warning("%s/%s never answers, as vLLM would not: %s", pod.namespace, pod.name, pod.flaw)
        self.tenants[uid] = Tenant(pod, node, gpus, self.profiles.of(pod, node.view.gpu_product))
        return self.tenants[uid]

    async def _serve(self, tenant: Tenant, ip: str) -> None:
        """Start the engine; where its address is taken, the next reconcile tries again."""
        server = EngineServer(Replica(tenant.profile, tenant.pod.args, clock=self._clock))
        try:
            await server.start(ip)
        except OSError as error:
            log.warning("%s/%s: cannot listen on %s: %s", tenant.pod.namespace, tenant.pod.name, ip, error)
            await server.close()
            return
        tenant.server = server
        log.info("%s/%s serves on %s with %s", tenant.pod.namespace, tenant.pod.name, ip, tenant.profile.name)

    def _end(self, tenant: Tenant) -> None:
        """Begin the end of a pod: drain, then remove it from the API. The GPUs go with the pod's DELETED event."""
        ending = self._endings.get(tenant.pod.uid)
        if ending is not None and not ending.done():
            return
        if ending is not None and ending.exception() is not None:
            log.warning("%s/%s: not removed yet: %s", tenant.pod.namespace, tenant.pod.name, ending.exception())
        self._endings[tenant.pod.uid] = asyncio.create_task(self._drain_and_remove(tenant))

    async def _drain_and_remove(self, tenant: Tenant) -> None:
        if tenant.server:
            await tenant.server.drain(tenant.pod.grace_s)
        await self._remover.remove(tenant.pod)

    async def _vacate(self, uid: str) -> None:
        tenant = self.tenants.pop(uid)
        ending = self._endings.pop(uid, None)
        if ending is not None and not ending.done():
            ending.cancel()  # removed by force while it drained
        if tenant.server:
            await tenant.server.close()
        tenant.node.release(uid)
        log.info("%s/%s is gone", tenant.pod.namespace, tenant.pod.name)
