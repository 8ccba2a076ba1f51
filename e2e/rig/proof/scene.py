"""What stands in the proof: a row of two racks, eight servers of two boards, one High and one Low pod on each.

Who calls it: `site`. The arithmetic (AC watts of a server are its boards' and 400 W, over 94 %; physics.py):

| load | a server uncapped | LowBase | LowDeep | HighCap | Brake, low priority alone | Brake |
|---|---|---|---|---|---|---|
| 1.0 | 1915 | 1802 | 1619 | 1551 | 1262 | 745 |
| 0.1 | 785 | | | | | |

Row of 14,200 W: full load is 107.9 % uncapped, 87.4 % at HighCap, 71.1 % in the first seconds of Brake (below 72 %, so
Brake is left however it was entered); N-1 is one server at (2 x 700 x 1.05 + 500) / 94 % = 2,096 W and seven in the
safe setting. Racks of 7,400 W: 103.5 %, 83.8 % and 68.2 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rig.nvml.state import H100
from rig.objects import RACK_LABEL
from rig.proof.plant import NON_GPU_W, SUPPLY_RATIO, WORST_RATIO

Document = dict[str, object]

NODES_PER_RACK = 4
GPUS = 2  # of a server: what is proved does not depend on it, and two cores stay alive
ROW, RACKS = "row-1", ("rack-a", "rack-b")
BUDGETS_W = {ROW: 14_200, "rack-a": 7_400, "rack-b": 7_400}
WORST_NON_GPU_W = round(NON_GPU_W * WORST_RATIO)
HIGH, LOW = "chat", "batch"  # board 0 and board 1 of every server
STOCK_W = H100.max_limit_w
AGENT_PORT = 9808  # where `capstan power` looks for agents
QUIET, FULL = 0.1, 1.0  # loads: 44 % of the row, far below every threshold; and 108 %


@dataclass(frozen=True, slots=True)
class Server:
    """One node: its name, rack and address."""

    name: str
    rack: str
    address: str

    @property
    def uuids(self) -> tuple[str, ...]:
        """Its boards."""
        return tuple(f"GPU-{self.name}-{index}" for index in range(GPUS))

    @property
    def pods(self) -> dict[str, str]:
        """The pod on each board, by uuid."""
        return dict(zip(self.uuids, (f"{HIGH}-{self.name}", f"{LOW}-{self.name}"), strict=True))


def servers(prefix: str, subnet: str) -> tuple[Server, ...]:
    """Return all servers, on loopback addresses of `subnet` (`127.x.y`)."""
    racks = [rack for rack in RACKS for _ in range(NODES_PER_RACK)]
    return tuple(Server(f"{prefix}-{i}", rack, f"{subnet}.{i + 1}") for i, rack in enumerate(racks))


def members(standing: tuple[Server, ...]) -> dict[str, tuple[str, ...]]:
    """Return the nodes of each domain."""
    found = {rack: tuple(server.name for server in standing if server.rack == rack) for rack in RACKS}
    return {ROW: tuple(server.name for server in standing), **found}


def domains(tenants: str, *, meter: str = "", strategy: str = "Statistical") -> Iterator[Document]:
    """Yield the PowerDomains; namespaces labelled with the name of `tenants` may ask for High."""
    for name, budget_w in BUDGETS_W.items():
        place: Document = {"type": "Row"}
        if name in RACKS:
            place = {
                "type": "Rack", "parentName": ROW,
                "nodeSelector": {"matchLabels": {RACK_LABEL: f"{tenants}-{name}"}},
            }  # fmt: skip
        elif meter:
            place["meter"] = {"query": meter, "maxAgeSeconds": 60}
        spec = {
            **place,
            "budgetWatts": budget_w,
            "nonGPUWattsPerNode": {"typical": int(NON_GPU_W), "worstCase": WORST_NON_GPU_W},
            "powerSupplyEfficiencyPercent": round(SUPPLY_RATIO * 100),
            "highPriorityNamespaces": {"matchLabels": {"kubernetes.io/metadata.name": tenants}},
            "strategy": strategy,
            "mode": "Act",
        }
        yield {"apiVersion": "capstan.dev/v1alpha1", "kind": "PowerDomain", "metadata": {"name": name}, "spec": spec}


def policies(tenants: str) -> Iterator[Document]:
    """Yield a policy that asks for High and one that does not."""
    for name, priority in ((HIGH, "High"), (LOW, "Low")):
        target = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, "tensorParallel": 1}
        yield {
            "apiVersion": "capstan.dev/v1alpha1", "kind": "ServingPolicy",
            "metadata": {"name": name, "namespace": tenants},
            "spec": {
                "model": "meta-llama/Llama-3.1-70B-Instruct", "priority": priority,
                "slo": {"ttftMilliseconds": 2000, "tpotMilliseconds": 100, "percentile": 99},
                "bounds": {"minReplicas": 1, "maxReplicas": 8, "tensorParallel": [1]},
                "targets": [target],
            },
        }  # fmt: skip


def node(server: Server, tenants: str) -> Document:
    """Return a node on which nothing else is scheduled."""
    room = {"cpu": "32", "memory": "256Gi", "pods": "10", "nvidia.com/gpu": str(GPUS)}
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": server.name, "labels": {RACK_LABEL: f"{tenants}-{server.rack}"}},
        "spec": {"taints": [{"key": "only", "value": "proof", "effect": "NoSchedule"}]},
        "status": {
            "capacity": room, "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": server.address}],
        },
    }  # fmt: skip


def pods(server: Server, namespace: str, tenants: str) -> Iterator[Document]:
    """Yield the agent's pod and the two engines of a server."""
    agent = {"app.kubernetes.io/name": "capstan", "app.kubernetes.io/component": "agent"}
    yield _pod(f"agent-{server.name}", namespace, agent, server.name)
    for (_, name), policy in zip(server.pods.items(), (HIGH, LOW), strict=True):
        yield _pod(name, tenants, {"capstan.dev/policy": policy}, server.name)


def _pod(name: str, namespace: str, labels: dict[str, str], on: str) -> Document:
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": on, "hostNetwork": True, "containers": [{"name": "main", "image": "capstan"}]},
    }  # fmt: skip
