"""What serving keeps of the cluster: small records read from raw objects, and one snapshot of them all.

Who calls it: `app.operator` projects every object that it caches through these functions, so a cache of 10,000 pods
holds records and not manifests. Must not know: how objects are listed and watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from capstan.serving import manifest, names
from capstan.serving.manifest import Manifest

STATUSES = ("initContainerStatuses", "containerStatuses")
MAX_STARTUP_S = 3600.0
"""No engine loads for an hour: 400 GB of weights at 1 Gbit/s take 53 minutes."""


@dataclass(frozen=True, slots=True)
class Pod:
    """An engine pod.

    Attributes:
        ready_since_s: Epoch seconds; None while not Ready.
        blocked: The scheduler's message.
        startup_s: How long it took from its node to Ready; None: it is not Ready, or it is not known (`_startup_s`).
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    node: str
    ready_since_s: float | None
    terminating: bool
    blocked: str
    deletion_cost: str
    startup_s: float | None = None

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def draining(self) -> bool:
        """Return whether the pod is on its way out: deleted, or labelled so by whoever drains it."""
        return self.terminating or self.labels.get(names.STATE_LABEL) == names.DRAINING

    @property
    def serving(self) -> bool:
        """Return whether it is Ready and stays."""
        return self.ready_since_s is not None and not self.draining


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment: ours (`owner_uid` is the policy's) or a target that exists.

    `fields_hash` digests what our field manager owns; it changes when somebody takes a field from us.
    `failure` is the message of `ReplicaFailure` (a quota, an admission webhook).
    """

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    resource_version: str
    generation: int
    replicas: int
    ready: int
    selector: Manifest
    owner_uid: str
    fields_hash: str
    failure: str

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """A HorizontalPodAutoscaler and what it scales; KEDA's ScaledObject works through one of its own."""

    namespace: str
    name: str
    target_kind: str
    target_name: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node's labels: the GPU product, and whatever a PowerDomain selects."""

    name: str
    labels: Mapping[str, str]

    @property
    def gpu_product(self) -> str | None:
        """Return `nvidia.com/gpu.product`, None where the node does not say."""
        return self.labels.get(names.GPU_PRODUCT_LABEL) or None


@dataclass(frozen=True, slots=True)
class PodClock:
    """One entry of a NodeCap's plan: the clock cap of a pod's GPUs."""

    namespace: str
    name: str
    clock_mhz: int


@dataclass(frozen=True, slots=True)
class NodePlan:
    """`spec.plan` of a NodeCap as it is in the API server."""

    node: str
    sequence: int
    pods: tuple[PodClock, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything of the cluster that one cycle looks at; `age_s` is that of the oldest of its caches.

    `objects` holds `fields_hash` of our Services and PodDisruptionBudgets by `Kind/namespace/name`.
    """

    pods: tuple[Pod, ...] = ()
    workloads: tuple[Workload, ...] = ()
    autoscalers: tuple[Autoscaler, ...] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    node_plans: Mapping[str, NodePlan] = field(default_factory=dict)
    objects: Mapping[str, str] = field(default_factory=dict)
    age_s: float = 0.0


def pod(raw: Manifest) -> Pod:
    """Read a Pod."""
    ready = _condition(raw, "Ready")
    scheduled = _condition(raw, "PodScheduled")
    ready_since_s = manifest.time_s(ready, "lastTransitionTime") if ready.get("status") == "True" else None
    return Pod(
        namespace=manifest.text(raw, "metadata", "namespace"),
        name=manifest.text(raw, "metadata", "name"),
        labels=manifest.strings(raw, "metadata", "labels"),
        node=manifest.text(raw, "spec", "nodeName"),
        ready_since_s=ready_since_s,
        terminating=bool(manifest.text(raw, "metadata", "deletionTimestamp")),
        blocked=manifest.text(scheduled, "message") if scheduled.get("status") == "False" else "",
        deletion_cost=manifest.strings(raw, "metadata", "annotations").get(names.DELETION_COST_ANNOTATION, ""),
        startup_s=_startup_s(raw, scheduled, ready_since_s),
    )


def workload(raw: Manifest) -> Workload:
    """Read a Deployment."""
    failure = _condition(raw, "ReplicaFailure")
    owners = (o for o in manifest.items(raw, "metadata", "ownerReferences") if o.get("kind") == "ServingPolicy")
    return Workload(
        namespace=manifest.text(raw, "metadata", "namespace"),
        name=manifest.text(raw, "metadata", "name"),
        uid=manifest.text(raw, "metadata", "uid"),
        labels=manifest.strings(raw, "metadata", "labels"),
        resource_version=manifest.text(raw, "metadata", "resourceVersion"),
        generation=manifest.number(raw, "metadata", "generation") or 0,
        replicas=_replicas(raw),
        ready=manifest.number(raw, "status", "readyReplicas") or 0,
        selector=manifest.mapping(raw, "spec", "selector"),
        owner_uid=next((manifest.text(o, "uid") for o in owners), ""),
        fields_hash=fields_hash(raw),
        failure=manifest.text(failure, "message") if failure.get("status") == "True" else "",
    )


def autoscaler(raw: Manifest) -> Autoscaler:
    """Read a HorizontalPodAutoscaler."""
    return Autoscaler(
        namespace=manifest.text(raw, "metadata", "namespace"),
        name=manifest.text(raw, "metadata", "name"),
        target_kind=manifest.text(raw, "spec", "scaleTargetRef", "kind"),
        target_name=manifest.text(raw, "spec", "scaleTargetRef", "name"),
    )


def node(raw: Manifest) -> Node:
    """Read a Node."""
    return Node(manifest.text(raw, "metadata", "name"), manifest.strings(raw, "metadata", "labels"))


def namespace_labels(raw: Manifest) -> dict[str, str]:
    """Read a Namespace: its labels are all that serving asks of it."""
    return manifest.strings(raw, "metadata", "labels")


def node_plan(raw: Manifest) -> NodePlan:
    """Read the plan part of a NodeCap."""
    return NodePlan(
        node=manifest.text(raw, "metadata", "name"),
        sequence=manifest.number(raw, "spec", "plan", "sequence") or 0,
        pods=tuple(
            PodClock(manifest.text(p, "namespace"), manifest.text(p, "name"), manifest.number(p, "clockMegahertz") or 0)
            for p in manifest.items(raw, "spec", "plan", "pods")
        ),
    )


def fields_hash(raw: Manifest) -> str:
    """Digest what our manager owns by apply; empty where it owns nothing (or the cache does not know)."""
    ours = (
        entry
        for entry in manifest.items(raw, "metadata", "managedFields")
        if entry.get("manager") == names.MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")
    )
    return next((manifest.content_hash(manifest.mapping(entry, "fieldsV1")) for entry in ours), "")


def _startup_s(raw: Manifest, scheduled: Manifest, ready_since_s: float | None) -> float | None:
    """Return how long a pod took from its node to Ready: the image, the weights, the engine's warm-up.

    Ready since then is not Ready for the first time: where a container was restarted it tells of the restart, and
    beyond `MAX_STARTUP_S` of a readiness that was lost and came back.
    """
    containers = [each for kind in STATUSES for each in manifest.items(raw, "status", kind)]
    since_s = manifest.time_s(scheduled, "lastTransitionTime") or manifest.time_s(raw, "metadata", "creationTimestamp")
    if ready_since_s is None or since_s is None or any(manifest.number(each, "restartCount") for each in containers):
        return None
    took_s = ready_since_s - since_s
    return took_s if 0 <= took_s <= MAX_STARTUP_S else None


def _condition(raw: Manifest, kind: str) -> Manifest:
    found = (c for c in manifest.items(raw, "status", "conditions") if c.get("type") == kind)
    return next(found, manifest.EMPTY)


def _replicas(raw: Manifest) -> int:
    wanted = manifest.number(raw, "spec", "replicas")
    return 1 if wanted is None else wanted  # the API server's default
