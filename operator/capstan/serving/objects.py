"""The documents that serving applies for a policy with an `engine`: Deployment, Service, PodDisruptionBudget.

Who calls it: `actuate`. Pure builders; every document is for server-side apply with our field manager. None ever
holds `spec.replicas`: dropping it from a later apply would take a Deployment to 1, so it goes through `/scale` only
(tried on a real API server).
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass

from capstan.serving import manifest, names
from capstan.serving.manifest import Manifest

Document = dict[str, object]

# The longest answer that we let a drained pod finish: 2,048 tokens at 100 ms, and a margin for its prefill.
GRACE_SECONDS = 300
# Endpoints need a moment to forget a pod before its server stops accepting (kube-proxy and Envoy poll within 5 s).
PRE_STOP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Owner:
    """The policy behind the documents: who owns them and how its engine is made."""

    namespace: str
    name: str
    uid: str
    engine: Manifest


def owner(policy: Manifest) -> Owner:
    """Read the owner from a ServingPolicy manifest."""
    return Owner(
        namespace=manifest.text(policy, "metadata", "namespace"),
        name=manifest.text(policy, "metadata", "name"),
        uid=manifest.text(policy, "metadata", "uid"),
        engine=manifest.mapping(policy, "spec", "engine"),
    )


def workload_name(policy_name: str, tp: int) -> str:
    """Return the name of the Deployment that holds a policy's replicas of `tp` GPUs."""
    return f"{policy_name}-tp{tp}"


def passes_tensor_parallel(engine: Manifest) -> bool:
    """Return whether the engine container reads our env, so that one template can hold more than one tp."""
    container = _engine_container(engine)
    parts = {k: container.get(k) for k in ("command", "args", "env")}
    return names.TP_ENV in json.dumps(parts)


def engine_found(engine: Manifest) -> bool:
    """Return whether the template has the container that `engine.container` names (default: the first)."""
    return bool(_engine_container(engine))


def deployment(by: Owner, *, pool: str, tp: int) -> Document:
    """Build the Deployment of one pool."""
    selector = {names.POLICY_LABEL: by.name, names.POOL_LABEL: pool, names.TP_LABEL: str(tp)}
    document: Document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(by, workload_name(by.name, tp), selector),
        "spec": {
            "selector": {"matchLabels": selector},
            # Make before break: a rollout never takes a ready replica away before its successor is Ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": _template(by.engine, selector, tp),
        },
    }
    return _hashed(document)


def service(by: Owner) -> Document:
    """Build the Service in front of all pools of a policy."""
    return _hashed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(by, by.name, {names.POLICY_LABEL: by.name}),
            "spec": {
                "selector": {names.POLICY_LABEL: by.name},
                "ports": [
                    {"name": "http", "port": names.ENGINE_PORT, "targetPort": names.ENGINE_PORT, "protocol": "TCP"}
                ],
            },
        }
    )


def disruption_budget(by: Owner) -> Document:
    """Build the PodDisruptionBudget: one pod at a time, so that a node drain neither stalls nor empties a pool."""
    return _hashed(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _metadata(by, by.name, {names.POLICY_LABEL: by.name}),
            "spec": {
                "maxUnavailable": 1,
                "selector": {"matchLabels": {names.POLICY_LABEL: by.name}},
                # A pod that never became Ready must not block a node drain for ever.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        }
    )


def _metadata(by: Owner, name: str, labels: dict[str, str]) -> Document:
    return {
        "name": name,
        "namespace": by.namespace,
        "labels": {**labels, "app.kubernetes.io/managed-by": "capstan"},
        "annotations": {},
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": "ServingPolicy",
                "name": by.name,
                "uid": by.uid,
                "controller": True,
            }
        ],
    }


def _hashed(document: Document) -> Document:
    """Return the document with the hash of its own content in an annotation."""
    metadata = dict(manifest.mapping(document, "metadata"))
    metadata["annotations"] = {names.HASH_ANNOTATION: manifest.content_hash(document)}
    return {**document, "metadata": metadata}


def _engine_index(engine: Manifest) -> int | None:
    containers = manifest.items(engine, "template", "spec", "containers")
    wanted = manifest.text(engine, "container")
    if not wanted:
        return 0 if containers else None
    return next((i for i, c in enumerate(containers) if c.get("name") == wanted), None)


def _engine_container(engine: Manifest) -> Manifest:
    index = _engine_index(engine)
    return manifest.EMPTY if index is None else manifest.items(engine, "template", "spec", "containers")[index]


def _template(engine: Manifest, selector: dict[str, str], tp: int) -> Document:
    """Return the pod template with what the engine contract sets (DESIGN 3), the rest as the tenant wrote it."""
    template = copy.deepcopy(dict(manifest.mapping(engine, "template")))
    metadata = dict(manifest.mapping(template, "metadata"))
    metadata["labels"] = {**manifest.strings(metadata, "labels"), **selector, names.STATE_LABEL: names.ACTIVE}
    spec = dict(manifest.mapping(template, "spec"))
    containers = [dict(c) for c in manifest.items(spec, "containers")]
    index = _engine_index(engine)
    spec["containers"] = containers
    spec.setdefault("terminationGracePeriodSeconds", GRACE_SECONDS)
    # The API server refuses a sleep that is not shorter than the grace, and a tenant's grace may be short.
    sleep_s = min(PRE_STOP_SECONDS, (manifest.number(spec, "terminationGracePeriodSeconds") or 0) - 1)
    if index is not None:
        containers[index] = _engine(containers[index], tp, sleep_s)
    return {"metadata": metadata, "spec": spec}


def _engine(container: Document, tp: int, sleep_s: int) -> Document:
    others = [dict(e) for e in manifest.items(container, "env") if e.get("name") != names.TP_ENV]
    # First in the list: a variable can refer only to those before it.
    env = [{"name": names.TP_ENV, "value": str(tp)}, *others]
    resources = dict(manifest.mapping(container, "resources"))
    resources["limits"] = {**manifest.mapping(resources, "limits"), names.GPU_RESOURCE: str(tp)}
    requests = {k: v for k, v in manifest.mapping(resources, "requests").items() if k != names.GPU_RESOURCE}
    if requests:
        resources["requests"] = requests  # without ours: the GPU request defaults to its limit
    else:
        resources.pop("requests", None)
    lifecycle = dict(manifest.mapping(container, "lifecycle"))
    if sleep_s > 0:
        lifecycle.setdefault("preStop", {"sleep": {"seconds": sleep_s}})
    held = {"env": env, "resources": resources, **({"lifecycle": lifecycle} if lifecycle else {})}
    return {**container, **held}
