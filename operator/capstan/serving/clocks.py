"""The clock plan: which pods of which node are capped at what, as entries of that node's NodeCap.

Who calls it: `cycle`, once a cycle for all policies. Pure. Blind direction: a pod that nobody plans has no entry,
which is full clock; only the power side may cap a blind pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from capstan.serving import names
from capstan.serving.cluster import NodePlan, Pod, PodClock
from capstan.serving.manifest import Manifest


def entries(pods: Iterable[Pod], cap_mhz: float | None) -> tuple[tuple[str, PodClock], ...]:
    """Return (node, entry) for the pods of a pool that are capped.

    A pod that has not been Ready yet starts at full clock; one that drains keeps its cap, since letting go of it
    would raise the draw of a pod on its way out.
    """
    if cap_mhz is None:
        return ()
    held = (p for p in pods if p.node and (p.ready_since_s is not None or p.terminating))
    return tuple((p.node, PodClock(p.namespace, p.name, int(cap_mhz))) for p in held)


def kept(pods: Iterable[Pod], plans: Mapping[str, NodePlan]) -> tuple[tuple[str, PodClock], ...]:
    """Return the entries that are in force for `pods`: a paused policy, or one whose turn failed, stays as it is."""
    alive = {(p.namespace, p.name) for p in pods}
    return tuple((plan.node, e) for plan in plans.values() for e in plan.pods if (e.namespace, e.name) in alive)


def changed(wanted: Iterable[tuple[str, PodClock]], plans: Mapping[str, NodePlan]) -> tuple[NodePlan, ...]:
    """Return the node plans that differ from those in force, each with the next sequence number."""
    by_node: dict[str, list[PodClock]] = {}
    for node, entry in wanted:
        by_node.setdefault(node, []).append(entry)
    found = []
    for node in sorted({*by_node, *plans}):
        pods = tuple(sorted(by_node.get(node, ()), key=lambda e: (e.namespace, e.name)))
        before = plans.get(node, NodePlan(node, 0, ()))
        if pods != tuple(sorted(before.pods, key=lambda e: (e.namespace, e.name))):
            found.append(NodePlan(node, before.sequence + 1, pods))
    return tuple(found)


def document(plan: NodePlan) -> Manifest:
    """Build the apply document of a node's plan: our part of its NodeCap and nothing else."""
    pods = [{"namespace": e.namespace, "name": e.name, "clockMegahertz": e.clock_mhz} for e in plan.pods]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "NodeCap",
        "metadata": {"name": plan.node},
        "spec": {"plan": {"sequence": plan.sequence, "pods": pods}},
    }
