"""The scenario's file as `kubectl apply` takes it, and the plain Deployments that stand in with CAPSTAN=off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from capstan.serving import manifest, objects
from capstan.serving.manifest import Manifest

OURS_ONLY = frozenset({"Fleet", "Run"})  # documents of the scenario that no API server knows
CAPSTAN_KINDS = frozenset({"ServingPolicy"})


def documents(path: Path) -> list[Manifest]:
    """Return the objects of a YAML stream, without the scenario's own documents."""
    found = yaml.safe_load_all(path.read_text())
    return [document for document in found if document and document.get("kind") not in OURS_ONLY]


def profiles(folder: Path, *, startup_s: float | None = None) -> list[Manifest]:
    """Return every ServingProfile of a folder; with the start-up of the rig's pods, where that is given."""
    found = [document for path in sorted(folder.glob("*.yaml")) for document in documents(path)]
    if startup_s is None:
        return found
    measured = {"startupSeconds": round(startup_s)}
    return [{**document, "spec": {**manifest.mapping(document, "spec"), **measured}} for document in found]


def without_capstan(found: Sequence[Manifest], replicas: Mapping[str, int], tps: Mapping[str, int]) -> list[Manifest]:
    """Return the same objects with each ServingPolicy replaced by a plain Deployment of the same pods.

    Args:
        found: The scenario's objects.
        replicas: The fixed count per policy (`namespace/name`).
        tps: GPUs of one replica, per policy.
    """
    kept = [d for d in found if d.get("kind") not in CAPSTAN_KINDS]
    policies = [d for d in found if d.get("kind") in CAPSTAN_KINDS]
    return kept + [_workload(p, replicas[manifest.key(p)], tps[manifest.key(p)]) for p in policies]


def _workload(policy: Manifest, replicas: int, tp: int) -> Manifest:
    """Return the Deployment that the operator would make, owned by nobody and of a fixed size."""
    made = objects.deployment(objects.owner(policy), pool="all", tp=tp)
    labels = manifest.strings(made, "metadata", "labels")
    metadata = {
        "name": manifest.text(made, "metadata", "name"),
        "namespace": manifest.text(made, "metadata", "namespace"),
        "labels": {key: value for key, value in labels.items() if key != "app.kubernetes.io/managed-by"},
    }
    return {**made, "metadata": metadata, "spec": {**manifest.mapping(made, "spec"), "replicas": replicas}}
