"""The few requests that the rig makes of its own API server: nodes, CRDs, service-account tokens, namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

H100 = "NVIDIA-H100-80GB-HBM3"
RACK_LABEL = "capstan.node-restriction.kubernetes.io/rack"  # a prefix that a kubelet cannot set on itself
FIELD_MANAGER = "rig"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a GPU node offers: an HGX board by default; `labels` come on top."""

    gpus: int = 8
    product: str = H100
    rack: str = "1"
    prefix: str = "gpu"
    labels: Mapping[str, str] = field(default_factory=dict)


def answers(client: httpx.Client, path: str) -> bool:
    """Return whether a GET of `path` succeeds; a server that is not up yet is a plain no."""
    try:
        return client.get(path).is_success
    except httpx.TransportError:
        return False


def create_nodes(client: httpx.Client, count: int, spec: NodeSpec) -> list[str]:
    """Create `<prefix>-0 …` for KWOK to bring up; each has an address of its own, for hostNetwork pods."""
    names = [f"{spec.prefix}-{i}" for i in range(count)]
    taken = len(_items(client, "/api/v1/nodes"))
    for number, name in enumerate(names, taken + 1):
        _checked(client.post("/api/v1/nodes", json=node(name, spec, address=f"127.88.{number >> 8}.{number & 255}")))
    return names


def node(name: str, spec: NodeSpec, *, address: str) -> dict[str, object]:
    """Return the Node object."""
    room = {"cpu": "192", "memory": "2Ti", "pods": "110", "nvidia.com/gpu": str(spec.gpus)}
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "nvidia.com/gpu.product": spec.product,
        "nvidia.com/gpu.count": str(spec.gpus),
        RACK_LABEL: spec.rack,
        **spec.labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        },
    }


def ready_nodes(client: httpx.Client) -> set[str]:
    """Return the names of nodes that are Ready and that the scheduler may use."""
    return {
        item["metadata"]["name"]
        for item in _items(client, "/api/v1/nodes")
        if _has_condition(item, "Ready") and not item["spec"].get("taints")
    }


def apply_crds(client: httpx.Client, folder: Path) -> list[str]:
    """Apply, server-side, every CustomResourceDefinition in the YAML files of `folder`; return their names."""
    names = []
    for file in sorted(folder.glob("*.yaml")):
        for crd in yaml.safe_load_all(file.read_text()):
            if crd and crd.get("kind") == "CustomResourceDefinition":
                names.append(crd["metadata"]["name"])
                _apply(client, f"{CRDS}/{names[-1]}", crd)
    return names


def established_crds(client: httpx.Client) -> set[str]:
    """Return the names of CRDs that the API server serves."""
    return {item["metadata"]["name"] for item in _items(client, CRDS) if _has_condition(item, "Established")}


def create_namespace(client: httpx.Client, name: str, labels: Mapping[str, str] | None = None) -> None:
    """Create a namespace and wait for nothing: its service account follows within a second."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}}
    _checked(client.post("/api/v1/namespaces", json=body))


def service_account_token(client: httpx.Client, namespace: str, name: str, *, lifetime_s: int) -> str:
    """Return a token of a service account, created (with its namespace) where it is missing."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    for path, kind in ((f"/api/v1/namespaces/{namespace}", "Namespace"), (f"{accounts}/{name}", "ServiceAccount")):
        metadata = {"name": path.rpartition("/")[2]}
        _apply(client, path, {"apiVersion": "v1", "kind": kind, "metadata": metadata})
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": lifetime_s},
    }
    return str(_checked(client.post(f"{accounts}/{name}/token", json=request)).json()["status"]["token"])


def _apply(client: httpx.Client, path: str, body: Mapping[str, object]) -> None:
    _checked(
        client.patch(
            path,
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=yaml.safe_dump(dict(body)),
        )
    )


def _items(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    return list(_checked(client.get(path)).json()["items"])


def _has_condition(item: Mapping[str, Any], kind: str) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        raise RuntimeError(f"{response.request.method} {response.request.url.path}: {response.text.strip()}")
    return response
