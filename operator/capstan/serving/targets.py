"""What we hold of workloads that exist: their original replicas in status, and the finalizer that gives them back.

Who calls it: `actuate`, `status`. Pure.
"""

from __future__ import annotations

from capstan.serving import manifest, names
from capstan.serving.manifest import Manifest


def finalizers(raw: Manifest) -> tuple[str, ...]:
    """Return the finalizers of an object."""
    found = manifest.mapping(raw, "metadata").get("finalizers")
    return tuple(str(f) for f in found) if isinstance(found, list | tuple) else ()


def finalizer_document(raw: Manifest, *, held: bool) -> Manifest:
    """Build the apply document that adds our finalizer, or that takes it away. The uid keeps it from creating."""
    metadata = {k: manifest.text(raw, "metadata", k) for k in ("name", "namespace", "uid")}
    held_by = [names.RELEASE_FINALIZER] if held else []
    return {"apiVersion": names.API_VERSION, "kind": "ServingPolicy", "metadata": {**metadata, "finalizers": held_by}}


def original_replicas(raw: Manifest, target: str) -> int | None:
    """Return the replicas that a target had when we first saw it, as status recorded them."""
    found = (t for t in manifest.items(raw, "status", "targets") if t.get("name") == target)
    return next((manifest.number(t, "originalReplicas") for t in found), None)
