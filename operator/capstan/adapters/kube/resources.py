"""The resources that Capstan touches, and their paths on the API server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind's endpoint. `group` empty is the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of a collection, an object or a subresource; no namespace: all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


OURS = "capstan.dev"

PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
SERVICES = Resource("", "v1", "services", "Service")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
SCALED_OBJECTS = Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
POLICIES = Resource(OURS, "v1alpha1", "servingpolicies", "ServingPolicy")
DOMAINS = Resource(OURS, "v1alpha1", "powerdomains", "PowerDomain", namespaced=False)
PROFILES = Resource(OURS, "v1alpha1", "servingprofiles", "ServingProfile", namespaced=False)
NODE_CAPS = Resource(OURS, "v1alpha1", "nodecaps", "NodeCap", namespaced=False)
LEDGERS = Resource(OURS, "v1alpha1", "powerledgers", "PowerLedger", namespaced=False)

ALL = (
    PODS, NODES, NAMESPACES, SERVICES, DEPLOYMENTS, BUDGETS, AUTOSCALERS, LEASES, EVENTS, SCALED_OBJECTS, POLICIES,
    DOMAINS, PROFILES, NODE_CAPS, LEDGERS,
)  # fmt: skip
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in ALL}


def of(document: dict[str, object]) -> Resource:
    """Return the resource of a manifest.

    Raises:
        KeyError: Not one of ours (a broken invariant: we build the manifests that we apply).
    """
    return _BY_KIND[(str(document["apiVersion"]), str(document["kind"]))]
