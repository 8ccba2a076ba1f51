"""What `capstan power` sees of the cluster: one list-and-watch per kind, projected to what the loop needs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from capstan.adapters.kube import resources
from capstan.adapters.kube.client import KubeClient, Scope
from capstan.adapters.kube.reflector import Reflector
from capstan.power import ports

POLICY_LABEL = "capstan.dev/policy"
AGENT_LABELS = "app.kubernetes.io/name=capstan,app.kubernetes.io/component=agent"
AGENT_PORT = 9808
# A node has boards of ours where its plugin shows them whole, shared under another name (time-slicing) or as MIG
# instances only; and where GPU feature discovery found some that no plugin shows (DRA, or a plugin that is not up yet).
GPU_RESOURCES = ("nvidia.com/gpu", "nvidia.com/mig-")
PRESENT_LABEL = "nvidia.com/gpu.present"
ENDED = ("Succeeded", "Failed")


class Caches:
    """Implements `power.ports.Cluster`."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._domains = Reflector(client, resources.DOMAINS, dict)
        self._policies = Reflector(client, resources.POLICIES, dict)
        self._nodes = Reflector(client, resources.NODES, gpu_node)
        self._namespaces = Reflector(client, resources.NAMESPACES, _labels)
        self._pods = Reflector(client, resources.PODS, pod, scope=Scope(labels=POLICY_LABEL))
        agents_of = Scope(namespace=namespace, labels=AGENT_LABELS)
        self._agents = Reflector(client, resources.PODS, agent, scope=agents_of)
        self._node_caps = Reflector(client, resources.NODE_CAPS, _node_power)

    def all(self) -> tuple[Reflector, ...]:  # type: ignore[type-arg]  # of seven kinds
        """Return every cache."""
        return (
            self._domains, self._policies, self._nodes, self._namespaces, self._pods, self._agents, self._node_caps,
        )  # fmt: skip

    @property
    def ready(self) -> bool:
        """Return whether every cache was filled once."""
        return all(reflector.synced.is_set() for reflector in self.all())

    async def synced(self) -> None:
        """Return when every cache was filled once."""
        await asyncio.gather(*(reflector.synced.wait() for reflector in self.all()))

    async def run(self) -> None:
        """Keep the caches until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self.all():
                group.create_task(reflector.run())

    def scene(self) -> ports.Scene:
        """Return what is cached now."""
        listening = dict(found for found in self._agents.items.values() if found is not None)
        return ports.Scene(
            domains=tuple(raw for _, raw in sorted(self._domains.items.items())),
            policies=self._policies.items,
            nodes={
                name: ports.NodeSeen(name, labels, listening.get(name))
                for name, labels in self._nodes.items.items()
                if labels is not None
            },
            pods=tuple(seen for seen in self._pods.items.values() if seen is not None),
            namespaces=self._namespaces.items,
            node_powers={name: power for name, power in self._node_caps.items.items() if power is not None},
        )


def agent(raw: Mapping[str, object]) -> tuple[str, str] | None:
    """Return (node, address) of an agent pod that has both."""
    node, address = text(raw, "spec", "nodeName"), text(raw, "status", "podIP")
    leaving = text(raw, "metadata", "deletionTimestamp")
    shown = f"[{address}]" if ":" in address else address
    return (node, f"{shown}:{AGENT_PORT}") if node and address and not leaving else None


def text(raw: Mapping[str, object], *path: str) -> str:
    """Return a string of a manifest; empty where there is none."""
    value = _mapping(raw, *path[:-1]).get(path[-1])
    return value if isinstance(value, str) else ""


def _mapping(raw: Mapping[str, object], *path: str) -> Mapping[str, object]:
    found: object = raw
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def gpu_node(raw: Mapping[str, object]) -> dict[str, str] | None:
    """Return a node's labels; None for one without GPUs: who draws no watts of boards is in no domain."""
    labels = _labels(raw)
    shown = any(name.startswith(GPU_RESOURCES) for name in _mapping(raw, "status", "capacity"))
    return labels if shown or labels.get(PRESENT_LABEL) == "true" else None


def _labels(raw: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in _mapping(raw, "metadata", "labels").items()}


def pod(raw: Mapping[str, object]) -> ports.PodSeen | None:
    """Return a pod of a policy that may hold boards; None for one that waits for a node, or has ended.

    Pods that ended (evicted ones, say) stay as objects by the hundred, and a NodeCap names a few dozen at most.
    """
    namespace, node = text(raw, "metadata", "namespace"), text(raw, "spec", "nodeName")
    policy = text(raw, "metadata", "labels", POLICY_LABEL)
    if not node or text(raw, "status", "phase") in ENDED:
        return None
    return ports.PodSeen(namespace, text(raw, "metadata", "name"), node, f"{namespace}/{policy}")


def _node_power(raw: Mapping[str, object]) -> ports.NodePower | None:
    power = _mapping(raw, "spec", "power")
    epoch, sequence = power.get("epoch"), power.get("sequence")
    if not isinstance(epoch, int) or not isinstance(sequence, int):
        return None
    return ports.NodePower(epoch, sequence, dict(power), text(raw, "metadata", "resourceVersion"))
