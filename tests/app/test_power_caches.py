"""Which nodes `capstan power` counts, for one that is left out draws watts that nobody sees; and which pods."""

from __future__ import annotations

import pytest

from capstan.app.power import caches
from capstan.power import ports

RACK = {"rack": "7"}


@pytest.mark.parametrize(
    ("capacity", "labels", "counted"),
    [
        ({"cpu": "192", "nvidia.com/gpu": "8"}, {}, True),
        ({"nvidia.com/gpu": "0"}, {}, True),
        ({"nvidia.com/gpu.shared": "32"}, {}, True),
        ({"nvidia.com/mig-1g.10gb": "56"}, {}, True),
        ({"cpu": "192"}, {"nvidia.com/gpu.present": "true"}, True),
        ({"cpu": "192"}, {"nvidia.com/gpu.present": "false"}, False),
        ({"cpu": "192", "amd.com/gpu": "8"}, {}, False),
        ({"cpu": "192"}, {}, False),
    ],
    ids=[
        "whole boards", "boards that are unhealthy now", "time-slicing under its own name", "MIG instances alone",
        "boards that no plugin shows", "feature discovery found none", "boards that are not NVML's", "no boards",
    ],
)  # fmt: skip
def test_a_node_counts_wherever_it_may_have_boards(
    capacity: dict[str, str], labels: dict[str, str], counted: bool
) -> None:
    node = {"metadata": {"name": "n", "labels": RACK | labels}, "status": {"capacity": capacity}}
    assert caches.gpu_node(node) == ((RACK | labels) if counted else None)


def test_a_node_that_says_nothing_yet_has_no_boards() -> None:
    assert caches.gpu_node({"metadata": {"name": "n"}}) is None


@pytest.mark.parametrize(
    ("node", "phase", "seen"),
    [("gpu-1", "Running", True), ("gpu-1", "Pending", True), ("gpu-1", "", True), ("gpu-1", "Unknown", True),
     ("", "Pending", False), ("gpu-1", "Succeeded", False), ("gpu-1", "Failed", False)],
    ids=["runs", "pulls its image", "just bound", "its node is silent", "waits for a node", "is done", "was evicted"],
)  # fmt: skip
def test_a_pod_counts_while_it_may_hold_boards(node: str, phase: str, seen: bool) -> None:
    raw = {
        "metadata": {"namespace": "llm", "name": "chat-0", "labels": {caches.POLICY_LABEL: "chat"}},
        "spec": {"nodeName": node},
        "status": {"phase": phase},
    }
    assert caches.pod(raw) == (ports.PodSeen("llm", "chat-0", node, "llm/chat") if seen else None)
