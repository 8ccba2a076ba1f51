"""What PowerDomains mean for a policy, and what a selector selects."""

from __future__ import annotations

import pytest

from capstan.model.policy import Priority
from capstan.serving import domains, manifest
from capstan.serving.cluster import Node, Pod

NODES = {"gpu-0": Node("gpu-0", {"rack": "7"}), "gpu-1": Node("gpu-1", {"rack": "8"})}
PODS = (Pod("llm", "a", {}, "gpu-0", 1.0, False, "", ""),)


def domain(name: str, state: str, *, rack: str = "", parent: str = "", mode: str = "Act") -> manifest.Manifest:
    selector = {"nodeSelector": {"matchLabels": {"rack": rack}}} if rack else {}
    spec = {"mode": mode, "parentName": parent, **selector}
    return {"metadata": {"name": name}, "spec": spec, "status": {"state": state}}


@pytest.mark.parametrize(
    ("tree", "priority", "capping"),
    [
        ((domain("r7", "Normal", rack="7"),), Priority.LOW, ()),
        ((domain("r7", "LowBase", rack="7"),), Priority.LOW, ("r7",)),
        ((domain("r7", "LowBase", rack="7"),), Priority.HIGH, ()),
        ((domain("r7", "HighCap", rack="7"),), Priority.HIGH, ("r7",)),
        ((domain("r7", "Brake", rack="7", mode="Advise"),), Priority.LOW, ()),
        ((domain("r8", "Brake", rack="8"),), Priority.LOW, ()),
        ((domain("r7", "Normal", rack="7", parent="row"), domain("row", "LowDeep")), Priority.LOW, ("row",)),
        ((domain("r7", "Disarmed", rack="7"),), Priority.LOW, ()),
        ((domain("r7", "FailSafe", rack="7", parent="r7"),), Priority.HIGH, ("r7",)),
    ],
    ids=[
        "normal",
        "low-is-capped-first",
        "high-is-not-capped-at-low-base",
        "high-is-capped-last",
        "advice-caps-nobody",
        "another-rack",
        "an-ancestor-without-a-selector",
        "disarmed",
        "a-loop-ends",
    ],
)
def test_which_domains_cap_a_policy(
    tree: tuple[manifest.Manifest, ...], priority: Priority, capping: tuple[str, ...]
) -> None:
    assert domains.capping(PODS, priority, tree, NODES) == ({"gpu-0": frozenset(capping)} if capping else {})


def test_only_the_nodes_of_a_capping_domain_and_below_it_are_capped() -> None:
    """Rack 7 caps; rack 8 does not, until the row above both of them does."""
    pods = (*PODS, Pod("llm", "b", {}, "gpu-1", 1.0, False, "", ""))
    racks = (domain("r7", "LowBase", rack="7", parent="row"), domain("r8", "Normal", rack="8", parent="row"))
    normal, above = (
        domains.capping(pods, Priority.LOW, (*racks, domain("row", s)), NODES) for s in ("Normal", "LowBase")
    )
    assert normal == {"gpu-0": {"r7"}}
    assert above == {"gpu-0": {"r7", "row"}, "gpu-1": {"row"}}


@pytest.mark.parametrize(
    ("binds", "priority", "capping"),
    [("True", Priority.LOW, ("r7",)), ("True", Priority.HIGH, ("r7",)), ("False", Priority.LOW, ())],
)
def test_under_grants_a_domain_caps_where_its_limits_bind(
    binds: str, priority: Priority, capping: tuple[str, ...]
) -> None:
    """A board's limit knows no priority: who got fewer watts had less of it before."""
    said = {"strategy": "Guaranteed", "conditions": [{"type": "Capping", "status": binds}]}
    raw = domain("r7", "Normal", rack="7")
    tree = ({**raw, "status": {"state": "Normal", **said}},)
    assert domains.capping(PODS, priority, tree, NODES) == ({"gpu-0": frozenset(capping)} if capping else {})


@pytest.mark.parametrize(
    ("selector", "selects"),
    [
        ({}, False),
        ({"matchLabels": {}}, False),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "1", "b": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["0"]}]}, False),
    ],
    ids=[
        "empty-grants-nothing",
        "empty-labels-grant-nothing",
        "label",
        "one-label-of-two",
        "in",
        "not-in",
        "does-not-exist",
        "exists",
        "an-operator-we-do-not-know",
    ],
)
def test_a_selector_grants_only_what_it_says(selector: manifest.Manifest, selects: bool) -> None:
    assert manifest.matches(selector, {"a": "1"}) is selects
