"""What stands on the real node: an H100 server's boards, one High and one Low engine, and the rack around them.

Who calls it: `site`. The arithmetic (AC watts are the boards' and 400 W, over 94 %; the plant's physics): eight boards
at 700 W draw (5,600 + 400) / 0.94 = 6,383 W, 94 % of 6,800 W; with the six of Low at the deep cap (422 W)
(2 x 700 + 6 x 422 + 400) / 0.94 = 4,609 W, 68 %: below `highPercent`, above where LowDeep is left. N-1 is the one
node at its worst, (8 x 700 x 1.05 + 500) / 0.94 = 6,787 W.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rig.nvml import state
from rig.objects import H100, RACK_LABEL
from rig.proof.plant import NON_GPU_W, SUPPLY_RATIO
from rig.realnode.cluster import NODE

IMAGE, TAG = "localhost/capstan", "e2e"
SYSTEM, TENANTS = "capstan-system", "llm"
RACK, BUDGET_W, WORST_NON_GPU_W = "rack-1", 6_800, 500
GPUS = 8
BOARD_W = state.H100.max_limit_w
GPUS_OF = {"chat": 2, "batch": 4}  # by policy; two boards stay free, which makes them Low
PRIORITIES = {"chat": "High", "batch": "Low"}
DRIVER = "/opt/driver"  # where the fake driver lies in agent and setter
Document = dict[str, object]

LABELS = {
    "nvidia.com/gpu.present": "true",  # a cluster's GPU feature discovery sets these two
    "nvidia.com/gpu.product": H100,
    RACK_LABEL: "1",
}


def uuids() -> tuple[str, ...]:
    """Return the device ids that the cluster's plugin hands out."""
    return tuple(f"GPU-00000000-0000-0000-0000-{index:012d}" for index in range(GPUS))


def values(driver_folder: str, prometheus_url: str) -> Document:
    """Return the chart's values: our image, and the driver where no NVIDIA runtime injects one."""
    return {
        "image": {"repository": IMAGE, "tag": TAG},
        "operator": {"prometheusUrl": prometheus_url},
        "agent": {
            "minClockMegahertz": 345,
            "extraEnv": [
                {"name": "LD_LIBRARY_PATH", "value": DRIVER},
                {"name": "CAPSTAN_FAKE_NVML_STATE", "value": f"{DRIVER}/nvml.state"},
            ],
            "extraVolumes": [{"name": "driver", "hostPath": {"path": driver_folder, "type": "Directory"}}],
            "extraVolumeMounts": [{"name": "driver", "mountPath": DRIVER}],
        },
    }


def namespaces() -> Iterator[Document]:
    """Yield ours, which holds the root setter and nothing else, and the tenants'."""
    yield _namespace(SYSTEM, {"pod-security.kubernetes.io/enforce": "privileged"})
    yield _namespace(TENANTS, {"capstan.dev/high-priority": "true", "pod-security.kubernetes.io/enforce": "restricted"})


def policies() -> Iterator[Document]:
    """Yield a policy per priority, each with an engine that holds GPUs and answers probes."""
    for name, gpus in GPUS_OF.items():
        yield {
            "apiVersion": "capstan.dev/v1alpha1", "kind": "ServingPolicy",
            "metadata": {"name": name, "namespace": TENANTS},
            "spec": {
                "model": "meta-llama/Llama-3.1-70B-Instruct", "priority": PRIORITIES[name],
                "slo": {"ttftMilliseconds": 2000, "tpotMilliseconds": 100, "percentile": 99},
                "bounds": {"minReplicas": 1, "maxReplicas": 1, "maxGPUs": gpus, "tensorParallel": [gpus]},
                "knobs": {"replicas": "Act", "tensorParallel": "Advise", "clock": "Act"},
                "engine": {"container": "engine", "template": {"spec": _engine()}},
            },
        }  # fmt: skip


def domain() -> Document:
    """Return the rack, not armed yet."""
    return {
        "apiVersion": "capstan.dev/v1alpha1", "kind": "PowerDomain", "metadata": {"name": RACK},
        "spec": {
            "type": "Rack",
            "nodeSelector": {"matchLabels": {RACK_LABEL: "1"}},
            "highPriorityNamespaces": {"matchLabels": {"capstan.dev/high-priority": "true"}},
            "budgetWatts": BUDGET_W,
            "nonGPUWattsPerNode": {"typical": int(NON_GPU_W), "worstCase": WORST_NON_GPU_W},
            "powerSupplyEfficiencyPercent": round(SUPPLY_RATIO * 100),
            "mode": "Advise",
        },
    }  # fmt: skip


def plan(pod: str, clock_mhz: int) -> Document:
    """Return the energy plan of one pod, as the operator applies it."""
    pods = [{"namespace": TENANTS, "name": pod, "clockMegahertz": clock_mhz}]
    return {
        "apiVersion": "capstan.dev/v1alpha1", "kind": "NodeCap", "metadata": {"name": NODE},
        "spec": {"plan": {"sequence": 1_000_000, "pods": pods}},
    }  # fmt: skip


def _namespace(name: str, labels: dict[str, str]) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def short_lived(name: str) -> Document:
    """Return a pod of one board that ends by itself."""
    spec = _engine()
    (container,) = spec.pop("containers")
    container |= {"command": ["sleep", "5"], "args": [], "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    del container["readinessProbe"]
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": TENANTS},
        "spec": {**spec, "restartPolicy": "Never", "containers": [container]},
    }  # fmt: skip


def _engine() -> dict[str, Any]:
    """Return a pod that listens on the engine's port and ends at once when it is told to."""
    serve = 'trap "exit 0" TERM; python -m http.server 8000 & wait'
    return {
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "engine", "image": f"{IMAGE}:{TAG}", "command": ["sh", "-c", serve],
            "args": ["engine", "--tensor-parallel-size=$(CAPSTAN_TENSOR_PARALLEL)"],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
        }],
    }  # fmt: skip
