"""The clock plan of the nodes: who is capped, when a node's plan is written, and what it then holds."""

from __future__ import annotations

from capstan.serving import clocks
from capstan.serving.cluster import NodePlan, Pod, PodClock


def pod(name: str, *, node: str = "gpu-0", ready: bool = True, leaving: bool = False) -> Pod:
    return Pod("llm", name, {}, node, 1.0 if ready else None, leaving, "", "")


def test_a_starting_pod_runs_free_and_a_draining_one_keeps_its_cap() -> None:
    pods = [pod("a"), pod("b", ready=False), pod("c", ready=False, leaving=True), pod("d", node="")]
    assert [e.name for _, e in clocks.entries(pods, 1410.0)] == ["a", "c"]
    assert clocks.entries(pods, None) == ()


def test_only_nodes_whose_plan_changed_are_written_with_the_next_number() -> None:
    same, other = PodClock("llm", "a", 1410), PodClock("llm", "b", 1410)
    plans = {
        "gpu-0": NodePlan("gpu-0", 7, (same,)),
        "gpu-1": NodePlan("gpu-1", 3, (other,)),
        "gpu-2": NodePlan("gpu-2", 9, ()),
    }
    wanted = [("gpu-0", same), ("gpu-1", PodClock("llm", "b", 1500)), ("gpu-3", PodClock("llm", "c", 1500))]
    assert clocks.changed(wanted, plans) == (
        NodePlan("gpu-1", 4, (PodClock("llm", "b", 1500),)),
        NodePlan("gpu-3", 1, (PodClock("llm", "c", 1500),)),
    )


def test_order_is_no_change_and_an_empty_plan_takes_entries_away() -> None:
    a, b = PodClock("llm", "a", 1410), PodClock("llm", "b", 1410)
    plans = {"gpu-0": NodePlan("gpu-0", 7, (b, a))}
    assert clocks.changed([("gpu-0", a), ("gpu-0", b)], plans) == ()
    assert clocks.changed([], plans) == (NodePlan("gpu-0", 8, ()),)


def test_what_is_held_is_held_only_for_pods_that_live() -> None:
    plans = {"gpu-0": NodePlan("gpu-0", 7, (PodClock("llm", "a", 1410), PodClock("llm", "gone", 1410)))}
    assert clocks.kept([pod("a")], plans) == (("gpu-0", PodClock("llm", "a", 1410)),)


def test_the_document_is_our_part_of_the_node_cap_and_nothing_else() -> None:
    document = clocks.document(NodePlan("gpu-0", 8, (PodClock("llm", "a", 1410),)))
    assert document["metadata"] == {"name": "gpu-0"}
    assert document["spec"] == {
        "plan": {"sequence": 8, "pods": [{"namespace": "llm", "name": "a", "clockMegahertz": 1410}]}
    }
