"""A small cluster and a small Prometheus for the serving cycle: fakes that keep state and record what was written.

Objects are raw JSON and pass through the same projections as live ones. The Deployment controller is a method
(`reconcile`), so that a test says when pods appear and when they are Ready.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from capstan import decide
from capstan.api import status
from capstan.journal import record
from capstan.model import past, reading
from capstan.serving import cluster, manifest, names, ports, report
from capstan.serving.cycle import Cycle, Ports
from capstan.serving.manifest import Manifest
from capstan.serving.store import Bell, Kind, Store
from support import api

START_S = 1_790_000_000.0
GPU = "NVIDIA-H100-80GB-HBM3"
SETTINGS = decide.Settings(cluster_period_s=60, lookback_s=60, pool_period_s=30)

Raw = dict[str, object]


class FakeClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.t_s = START_S

    def now_s(self) -> float:
        return self.t_s

    def monotonic_s(self) -> float:
        return self.t_s - START_S


@dataclass(slots=True)
class Write:
    """One write that reached the cluster."""

    verb: str
    key: str
    document: Manifest = field(default_factory=dict)


class FakeCluster:
    """Implements the ports `Cluster`, `Writer` and `Reporter` on a dict of objects with resourceVersions."""

    def __init__(self, clock: FakeClock) -> None:
        self.objects: dict[str, Raw] = {}
        self.writes: list[Write] = []
        self.events: list[ports.Event] = []
        self.statuses: dict[str, Manifest] = {}
        self.followed: frozenset[str] = frozenset()
        self.refuse: dict[str, ports.Refused] = {}  # "verb Kind/namespace/name" -> error
        self._clock = clock
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)

    # --- a test's own hands ------------------------------------------------------------------------

    def put(self, raw: Manifest) -> Raw:
        """Create or replace an object as its owner would."""
        made = copy.deepcopy(dict(raw))
        meta = dict(manifest.mapping(made, "metadata"))
        meta.setdefault("uid", f"uid-{next(self._uids)}")
        meta["resourceVersion"] = str(next(self._versions))
        made["metadata"] = meta
        self.objects[_key(made)] = made
        return made

    def deployment(self, key: str) -> cluster.Workload:
        return cluster.workload(self.objects[f"Deployment/{key}"])

    def replicas(self, key: str) -> int:
        return self.deployment(key).replicas

    def of(self, *verbs: str) -> list[str]:
        """Return `verb key` of the writes, all or those of some verbs."""
        return [f"{w.verb} {w.key}" for w in self.writes if not verbs or w.verb in verbs]

    def reconcile(self, *, ready: bool = True, node: str = "gpu-0") -> None:
        """Be the Deployment controller, the scheduler and the kubelet: pods as many as replicas, Ready if told."""
        for key in [k for k in self.objects if k.startswith("Deployment/")]:
            self._pods_of(self.objects[key], ready=ready, node=node)

    def node(self, name: str = "gpu-0", **labels: str) -> None:
        found = {names.GPU_PRODUCT_LABEL: GPU, **labels}
        self.put({"kind": "Node", "metadata": {"name": name, "labels": found}})

    def autoscaler(self, target: str, namespace: str = "llm") -> None:
        ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
        meta = {"name": f"hpa-{target}", "namespace": namespace}
        self.put({"kind": "HorizontalPodAutoscaler", "metadata": meta, "spec": {"scaleTargetRef": ref}})

    def target(self, name: str, replicas: int, namespace: str = "llm") -> None:
        """Create a Deployment of somebody else's."""
        selector = {"matchLabels": {"app": name}}
        spec = {"replicas": replicas, "selector": selector, "template": {"metadata": {"labels": {"app": name}}}}
        self.put({"kind": "Deployment", "metadata": {"name": name, "namespace": namespace}, "spec": spec})

    # --- ports -------------------------------------------------------------------------------------

    def snapshot(self) -> cluster.Snapshot:
        by_kind: dict[str, list[Raw]] = {}
        for raw in self.objects.values():
            by_kind.setdefault(str(raw["kind"]), []).append(raw)
        front = [*by_kind.get("Service", []), *by_kind.get("PodDisruptionBudget", [])]
        nodes = [cluster.node(r) for r in by_kind.get("Node", [])]
        plans = [cluster.node_plan(r) for r in by_kind.get("NodeCap", [])]
        return cluster.Snapshot(
            pods=tuple(cluster.pod(r) for r in by_kind.get("Pod", [])),
            workloads=tuple(cluster.workload(r) for r in by_kind.get("Deployment", [])),
            autoscalers=tuple(cluster.autoscaler(r) for r in by_kind.get("HorizontalPodAutoscaler", [])),
            nodes={n.name: n for n in nodes},
            namespaces={manifest.key(r): cluster.namespace_labels(r) for r in by_kind.get("Namespace", [])},
            node_plans={p.node: p for p in plans},
            objects={_key(r): cluster.fields_hash(r) for r in front},
        )

    def follow(self, namespaces: frozenset[str]) -> None:
        self.followed = namespaces

    async def apply(self, document: Manifest, *, dry_run: bool = False) -> Manifest:
        key = _key(document)
        self._maybe_refuse("dry-run" if dry_run else "apply", key)
        assert "replicas" not in manifest.mapping(document, "spec"), "replicas go through /scale only"
        if dry_run:
            return document
        self.writes.append(Write("apply", key, document))
        return self.put(self._merged(key, document))

    async def scale(self, workload: str, replicas: int, *, resource_version: str) -> None:
        key = f"Deployment/{workload}"
        self._maybe_refuse("scale", key)
        raw = self.objects.get(key)
        if raw is None or manifest.text(raw, "metadata", "resourceVersion") != resource_version:
            raise ports.Refused(ports.Refusal.CONFLICT, "the object has been modified")
        self.writes.append(Write("scale", workload, {"replicas": replicas}))
        self.put({**raw, "spec": {**manifest.mapping(raw, "spec"), "replicas": replicas}})

    async def status(self, policy: Manifest, status: Manifest) -> None:
        key = manifest.key(policy)
        self._maybe_refuse("status", key)
        self.writes.append(Write("status", key, status))
        self.statuses[key] = status

    async def event(self, event: ports.Event) -> None:
        self.events.append(event)

    # --- inside ------------------------------------------------------------------------------------

    def _maybe_refuse(self, verb: str, key: str) -> None:
        error = self.refuse.get(f"{verb} {key}")
        if error is not None:
            raise error

    def _merged(self, key: str, document: Manifest) -> Raw:
        """Server-side apply, as far as our documents need it: ours over theirs, replicas kept or defaulted to 1."""
        before = self.objects.get(key, {})
        meta = {**manifest.mapping(before, "metadata"), **manifest.mapping(document, "metadata")}
        fields = {"f:content": manifest.content_hash(document)}
        meta["managedFields"] = [{"manager": names.MANAGER, "operation": "Apply", "fieldsV1": fields}]
        spec = {**manifest.mapping(before, "spec"), **manifest.mapping(document, "spec")}
        if document.get("kind") == "Deployment":
            spec.setdefault("replicas", 1)
        return {**before, **document, "metadata": meta, "spec": spec}

    def _pods_of(self, deployment: Raw, *, ready: bool, node: str) -> None:
        name, namespace = (
            manifest.text(deployment, "metadata", "name"),
            manifest.text(deployment, "metadata", "namespace"),
        )
        wanted = manifest.number(deployment, "spec", "replicas") or 0
        labels = manifest.strings(deployment, "spec", "template", "metadata", "labels")
        keys = sorted(k for k in self.objects if k.startswith(f"Pod/{namespace}/{name}-"))
        for key in keys[wanted:]:
            del self.objects[key]
        for i in range(wanted):
            key = f"Pod/{namespace}/{name}-{i}"
            if key not in self.objects:
                meta = {"name": f"{name}-{i}", "namespace": namespace, "labels": labels}
                self.put({"kind": "Pod", "metadata": meta, "spec": {"nodeName": node}})
            if ready and cluster.pod(self.objects[key]).ready_since_s is None:
                since = status.rfc3339(self._clock.t_s)
                condition = {"type": "Ready", "status": "True", "lastTransitionTime": since}
                self.put({**self.objects[key], "status": {"conditions": [condition]}})
        have = sum(k.startswith(f"Pod/{namespace}/{name}-") for k in self.objects)
        self.put({**deployment, "status": {"readyReplicas": have if ready else 0}})


class FakeTelemetry:
    """Implements `Telemetry`: every Ready engine pod reports its share of a load, unless told otherwise."""

    def __init__(self, cluster_: FakeCluster, clock: FakeClock) -> None:
        self.rps = 1.0
        self.age_s = 2.0
        self.waiting = 0.0
        self.ttft_s = 0.4
        self.lately_s: float | None = None  # TTFT of the last five minutes, where Prometheus tells it
        self.error = ""
        self.silent: set[str] = set()  # pod names that no scrape finds
        self.namespace = ""  # only its pods report, where one is named
        self._cluster = cluster_
        self._clock = clock

    async def read(self) -> reading.Readings:
        if self.error:
            problems = tuple(reading.SourceError(s, self.error) for s in reading.Source)
            return reading.Readings(self._clock.t_s, errors=problems)
        pods = [p for p in self._cluster.snapshot().pods if self._reports(p)]
        return reading.Readings(self._clock.t_s, tuple(self._pod(p, 1 / len(pods)) for p in pods))

    def _reports(self, pod: cluster.Pod) -> bool:
        ours = self.namespace in ("", pod.namespace)
        return ours and pod.ready_since_s is not None and pod.name not in self.silent

    def _pod(self, pod: cluster.Pod, share: float) -> reading.PodReading:
        requests = self.rps * 60 * share
        edges_s = () if self.lately_s is None else (self.lately_s, 0.05)
        lately = [reading.Histogram((edge_s, math.inf), (5 * requests, 5 * requests)) for edge_s in edges_s]
        return reading.PodReading(
            namespace=pod.namespace,
            pod=pod.name,
            age_s=self.age_s,
            arrival_rps=self.rps * share,
            sample_requests=requests,
            finished_prompt_tokens=1000 * requests,
            finished_output_tokens=200 * requests,
            running=4.0 + sum(pod.name.encode()) % 7,
            waiting=self.waiting * share,
            output_tokens_per_s=200 * self.rps * share,
            ttft=reading.Histogram((self.ttft_s, math.inf), (requests, requests)),
            tpot=reading.Histogram((0.05, math.inf), (requests, requests)),
            ttft_lately=lately[0] if lately else None,
            tpot_lately=lately[1] if lately else None,
            power_w=1800.0,
            gpus=4,
            power_age_s=1.0,
        )


class FakeHistory:
    """Implements `History`: what a test says, by policy."""

    def __init__(self) -> None:
        self.pasts: dict[str, past.Past] = {}
        self.asked: tuple[past.Ask, ...] = ()
        self.problem = ""

    def follow(self, asks: Iterable[past.Ask]) -> None:
        self.asked = tuple(asks)

    def past(self, ask: past.Ask) -> past.Past | None:
        return self.pasts.get(ask.policy)


class FakeRecorder:
    """Keeps cycles."""

    def __init__(self) -> None:
        self.cycles: list[record.Cycle] = []

    def write(self, cycle: record.Cycle) -> None:
        self.cycles.append(cycle)


class FakeMeter:
    """Keeps reports."""

    def __init__(self) -> None:
        self.reports: list[report.Report] = []

    def cycle(self, report: report.Report) -> None:
        self.reports.append(report)


class Stage:
    """A cycle on fakes: a cluster with one GPU node, our store, and hands to move them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster(self.clock)
        self.telemetry = FakeTelemetry(self.cluster, self.clock)
        self.history = FakeHistory()
        self.recorder, self.meter = FakeRecorder(), FakeMeter()
        self.bell = Bell()
        self.store = Store(self.bell, self.clock.monotonic_s)
        self.cluster.node()
        self.store.put(Kind.PROFILE, _with_meta(api.profile()))
        self.cycle = self.operator()

    def operator(self) -> Cycle:
        """Return a new cycle on the same world: a restarted operator."""
        world = Ports(
            cluster=self.cluster,
            telemetry=self.telemetry,
            writer=self.cluster,
            reporter=self.cluster,
            meter=self.meter,
            recorder=self.recorder,
            clock=self.clock,
            history=self.history,
        )
        return Cycle(self.store, world, SETTINGS)

    def apply(self, policy: Manifest) -> Manifest:
        """Be the API server and kopf: a new generation of a policy, with its status, reaches the store."""
        key = manifest.key(policy)
        before = next((p for p in self.store.all(Kind.POLICY) if manifest.key(p) == key), {})
        generation = (manifest.number(before, "metadata", "generation") or 0) + 1
        raw = _with_meta(policy, generation=generation, status=self.cluster.statuses.get(key, {}))
        self.store.put(Kind.POLICY, raw)
        return raw

    def echo(self) -> None:
        """Let kopf see what we wrote: statuses, finalizers."""
        for raw in self.store.all(Kind.POLICY):
            key = manifest.key(raw)
            written = self.cluster.objects.get(f"ServingPolicy/{key}", {})
            meta = {**manifest.mapping(raw, "metadata")}
            if written:
                meta["finalizers"] = manifest.mapping(written, "metadata").get("finalizers", [])
            self.store.put(Kind.POLICY, {**raw, "metadata": meta, "status": self.cluster.statuses.get(key, {})})

    async def tick(self, times: int = 1, *, ready: bool = True) -> report.Report:
        """Run cycles at the instance period, with pods following replicas in between; return the last report."""
        for _ in range(times):
            done = await self.cycle.once()
            self.cluster.reconcile(ready=ready)
            self.echo()
            self.clock.t_s += SETTINGS.instance_period_s
        return done

    def condition(self, kind: str, key: str = "llm/chat") -> tuple[str, str, str]:
        """Return (status, reason, message) of a condition as written."""
        found = {c["type"]: c for c in manifest.items(self.cluster.statuses[key], "conditions")}
        c = found[kind]
        return str(c["status"]), str(c["reason"]), str(c["message"])


def chat(name: str = "chat", /, **spec: object) -> Manifest:
    """The shipped chat policy at Low priority, with fields of its spec replaced by path."""
    changes = {f"spec.{path.replace('__', '.')}": value for path, value in spec.items()}
    return api.changed(api.chat(), {"metadata.name": name, "spec.priority": "Low", **changes})


def assistant(**spec: object) -> Manifest:
    """A policy with one existing Deployment as its target, acting on both knobs."""
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "assistant"}
    targets = [{"scaleTargetRef": ref, "tensorParallel": 4}]
    return chat("assistant", engine=api.DROP, targets=targets, **spec)


def _with_meta(raw: Manifest, *, generation: int = 1, status: Mapping[str, object] | None = None) -> Raw:
    meta = dict(manifest.mapping(raw, "metadata"))
    meta |= {"uid": f"uid-of-{manifest.text(raw, 'metadata', 'name')}", "generation": generation}
    return {**raw, "metadata": meta, **({"status": status} if status else {})}


def _key(raw: Manifest) -> str:
    return f"{raw['kind']}/{manifest.key(raw)}"
