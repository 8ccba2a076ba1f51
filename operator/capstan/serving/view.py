"""One policy beside the cluster objects that are its own: pods, workloads, autoscalers.

Who calls it: `cycle` builds a view per policy per cycle; `observe`, `actuate` and `status` read it. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from capstan.model.policy import Policy
from capstan.serving import manifest, names, objects
from capstan.serving.cluster import Autoscaler, Pod, Snapshot, Workload
from capstan.serving.conditions import Condition
from capstan.serving.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool of a policy: the workload that holds it (None: not there yet, or a target not found) and its pods."""

    name: str
    tp: int
    workload_key: str
    workload: Workload | None
    pods: tuple[Pod, ...]
    autoscaler: Autoscaler | None = None

    @property
    def ready(self) -> int:
        """Return how many pods are Ready and stay."""
        return sum(p.serving for p in self.pods)


@dataclass(frozen=True, slots=True)
class View:
    """A policy in this cycle. `policy.priority` is what was granted, not what was asked for.

    `taken` says why it may not act on its targets; its knobs only advise then.
    """

    raw: Manifest
    policy: Policy
    pools: tuple[Pool, ...]
    targeted: bool
    taken: Condition | None = None

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return self.policy.key

    @property
    def generation(self) -> int:
        """Return the generation that this cycle acts on."""
        return manifest.number(self.raw, "metadata", "generation") or 0

    @property
    def uid(self) -> str:
        """Return the policy's uid."""
        return manifest.text(self.raw, "metadata", "uid")

    @property
    def pods(self) -> tuple[Pod, ...]:
        """Return the pods of all pools."""
        return tuple(p for pool in self.pools for p in pool.pods)

    def pool(self, name: str, tp: int) -> Pool | None:
        """Return one pool, or None where it does not exist yet."""
        return next((p for p in self.pools if p.name == name and p.tp == tp), None)


class Index:
    """A snapshot by namespace, made once a cycle, so that a view costs what its own namespace holds."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._pods: dict[str, list[Pod]] = defaultdict(list)
        self._workloads: dict[str, list[Workload]] = defaultdict(list)
        self._autoscalers: dict[str, list[Autoscaler]] = defaultdict(list)
        for pod in snapshot.pods:
            self._pods[pod.namespace].append(pod)
        for workload in snapshot.workloads:
            self._workloads[workload.namespace].append(workload)
        for autoscaler in snapshot.autoscalers:
            self._autoscalers[autoscaler.namespace].append(autoscaler)

    def view(self, raw: Manifest, policy: Policy) -> View:
        """Return the view of one policy."""
        targets = manifest.items(raw, "spec", "targets")
        pools = self.target_pools(raw) if targets else tuple(self._own_pools(raw))
        return View(raw, policy, pools, bool(targets))

    def target_pools(self, raw: Manifest) -> tuple[Pool, ...]:
        """Return a pool per target, named as the target."""
        namespace = manifest.text(raw, "metadata", "namespace")
        return tuple(self._target_pool(namespace, target) for target in manifest.items(raw, "spec", "targets"))

    def _own_pools(self, raw: Manifest) -> Iterable[Pool]:
        """Yield a pool per Deployment that this very policy owns (by uid: a namesake of before does not count)."""
        namespace, name = manifest.text(raw, "metadata", "namespace"), manifest.text(raw, "metadata", "name")
        uid = manifest.text(raw, "metadata", "uid")
        pods = [p for p in self._pods[namespace] if p.labels.get(names.POLICY_LABEL) == name]
        for workload in self._workloads[namespace]:
            tp = workload.labels.get(names.TP_LABEL, "")
            if workload.owner_uid != uid or not tp.isdecimal():
                continue
            pool = workload.labels.get(names.POOL_LABEL, names.POOL)
            of_pool = (p for p in pods if (p.labels.get(names.POOL_LABEL), p.labels.get(names.TP_LABEL)) == (pool, tp))
            yield Pool(pool, int(tp), workload.key, workload, tuple(of_pool), self._autoscaler(workload))

    def _target_pool(self, namespace: str, target: Manifest) -> Pool:
        ref = manifest.mapping(target, "scaleTargetRef")
        name, tp = manifest.text(ref, "name"), manifest.number(target, "tensorParallel") or 1
        workload = next((w for w in self._workloads[namespace] if w.name == name), None)
        if workload is None:
            return Pool(name, tp, f"{namespace}/{name}", None, ())
        pods = (p for p in self._pods[namespace] if manifest.matches(workload.selector, p.labels))
        return Pool(name, tp, workload.key, workload, tuple(pods), self._autoscaler(workload))

    def _autoscaler(self, workload: Workload) -> Autoscaler | None:
        """Return the autoscaler that owns the workload's replicas, if any."""
        return next(
            (
                a
                for a in self._autoscalers[workload.namespace]
                if a.target_kind == "Deployment" and a.target_name == workload.name
            ),
            None,
        )


def missing_pool(raw: Manifest, name: str, tp: int) -> Pool:
    """Return a planned pool of ours whose Deployment is not there yet."""
    namespace, policy = manifest.text(raw, "metadata", "namespace"), manifest.text(raw, "metadata", "name")
    return Pool(name, tp, f"{namespace}/{objects.workload_name(policy, tp)}", None, ())
