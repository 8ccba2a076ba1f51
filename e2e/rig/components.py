"""How each component of the control plane is started: pure functions from a layout to a command line.

Flags are those of Kubernetes v1.35, etcd v3.6 and KWOK v0.8, tried together; what differs from a default says why.
"""

from __future__ import annotations

import json
import random
import socket
from dataclasses import dataclass
from pathlib import Path

POD_CIDR = "127.89.0.0/16"  # every address of 127/8 answers without root and without a route
SERVICE_CIDR = "10.96.0.0/16"
STAGES = Path(__file__).with_name("kwok")
GO_ENV = {"GOMAXPROCS": "2"}  # five servers share a laptop with the demo; more threads only spread garbage collection
# Below the kernel's ephemeral range (32768 on), so that no outgoing connection takes a port between look and bind.
PORTS = range(11000, 20000)
# No node Leases: a killed KWOK would keep its nodes from its successor until they expire, and renewals are writes.
# The heartbeat is the node's status, every 10-20 minutes (kwok/node.yaml); the controllers wait for twice that.
NODE_LEASE_S = 0
NODE_GRACE_S = 2400
# The loopback cannot be advertised as the `kubernetes` Service's endpoint; nothing in the rig uses that Service.
ADVERTISED = "192.0.2.1"  # TEST-NET-1, RFC 5737
# Endpoints refuse loopback addresses (core/validation: "may not be in the loopback range"), and pods of the rig have
# nothing else: these controllers would only fail and retry. The rest of the off list needs disks or a cloud.
CONTROLLERS_OFF = (
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "ephemeral-volume-controller",
    "persistentvolume-attach-detach-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-expander-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "volumeattributesclass-protection-controller",
    "service-lb-controller",
    "node-route-controller",
    "cloud-node-lifecycle-controller",
)
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of one control plane lies: one folder, three ports."""

    folder: Path
    etcd_port: int
    etcd_peer_port: int
    api_port: int

    @classmethod
    def fresh(cls, folder: Path) -> Layout:
        """Return a layout with free ports."""
        return cls(folder, *free_ports(3))

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def keys(self) -> Path:
        """Folder of keys, tokens and kubeconfigs."""
        return self.folder / "pki"

    @property
    def authority(self) -> Path:
        """The API server's certificate authority."""
        return self.keys / "ca.crt"

    @property
    def audit_log(self) -> Path:
        """One JSON line per write request."""
        return self.folder / "audit.jsonl"

    def kubeconfig(self, user: str) -> Path:
        """Kubeconfig of one of the static users."""
        return self.keys / f"{user}.kubeconfig"


def free_ports(count: int) -> tuple[int, ...]:
    """Return TCP ports of the loopback that nothing listens on at the moment."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports in TIME_WAIT are free for a server
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return tuple(found)
    raise OSError(f"no {count} free ports in {PORTS.start}-{PORTS.stop - 1} on the loopback")


def etcd(program: Path, at: Layout) -> list[str]:
    """Return etcd's command line; no fsync: the data dies with the rig."""
    client, peer = f"http://127.0.0.1:{at.etcd_port}", f"http://127.0.0.1:{at.etcd_peer_port}"
    return [
        str(program),
        f"--data-dir={at.folder / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
    ]


def apiserver(program: Path, at: Layout) -> list[str]:
    """Return the API server's command line, its audit policy written beside the keys."""
    policy = at.keys / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    return [
        str(program),
        f"--etcd-servers=http://127.0.0.1:{at.etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={at.api_port}",
        f"--advertise-address={ADVERTISED}",
        "--endpoint-reconciler-type=none",
        f"--cert-dir={at.keys}",
        f"--token-auth-file={at.keys / 'tokens.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={at.keys / 'sa.key'}",
        f"--service-account-signing-key-file={at.keys / 'sa.key'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--allow-privileged",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={at.audit_log}",
        "--profiling=false",
    ]


def controller_manager(program: Path, at: Layout) -> list[str]:
    """Return the controller manager's command line."""
    off = ",".join(f"-{name}" for name in CONTROLLERS_OFF)
    return [
        str(program),
        f"--kubeconfig={at.kubeconfig('controller-manager')}",
        f"--controllers=*,{off}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={at.keys / 'sa.key'}",
        f"--root-ca-file={at.authority}",
        "--leader-elect=false",
        "--secure-port=0",
        "--profiling=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--horizontal-pod-autoscaler-sync-period=2s",  # 15 s by default: an HPA fight should show within a test
        f"--node-monitor-grace-period={NODE_GRACE_S}s",
    ]


def scheduler(program: Path, at: Layout) -> list[str]:
    """Return the scheduler's command line and write its configuration."""
    config = at.keys / "scheduler.json"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "kubescheduler.config.k8s.io/v1",
                "kind": "KubeSchedulerConfiguration",
                "clientConnection": {"kubeconfig": str(at.kubeconfig("scheduler")), "qps": 200, "burst": 400},
                "leaderElection": {"leaderElect": False},
                "enableProfiling": False,
            }
        )
    )
    return [str(program), f"--config={config}", "--secure-port=0"]


def kwok(program: Path, at: Layout) -> list[str]:
    """Return KWOK's command line; its stages are ours (`kwok/*.yaml`)."""
    stages = sorted(STAGES.glob("*.yaml"))
    return [
        str(program),
        f"--kubeconfig={at.kubeconfig('kwok')}",
        "--manage-all-nodes",
        f"--cidr={POD_CIDR}",
        "--node-ip=127.88.0.1",
        f"--node-lease-duration-seconds={NODE_LEASE_S}",
        "--v=WARN",
        *(f"--config={stage}" for stage in stages),
    ]
