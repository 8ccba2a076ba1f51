"""What is wrong with a tree, each finding with the field and the fix."""

from __future__ import annotations

from capstan.powercap import tree
from capstan.powercap.domains import Domain
from capstan.powercap.tree import Flaw
from support import power


def rack(name: str, nodes: tuple[str, ...], parent: str | None = None, **changes: object) -> Domain:
    return power.domain(name=name, nodes=nodes, parent=parent, **changes)


def row(name: str, nodes: tuple[str, ...], parent: str | None = None, **changes: object) -> Domain:
    return power.domain(
        **{"name": name, "nodes": nodes, "parent": parent, "kind": "Row", "budget_w": 20_000, **changes}
    )


SOUND = (rack("rack-1", ("n1", "n2"), "row"), rack("rack-2", ("n3",), "row"), row("row", ("n1", "n2", "n3")))


def test_a_sound_tree_has_no_findings() -> None:
    assert tree.findings(SOUND) == ()


def test_no_domains_have_no_findings() -> None:
    assert tree.findings(()) == ()


def test_a_parent_that_is_missing_is_named() -> None:
    (found,) = tree.findings((rack("rack-1", ("n1",), "row-9"),))
    assert (found.domain, found.flaw, found.field) == ("rack-1", Flaw.NO_PARENT, "spec.parentName")
    assert found.message == "no PowerDomain is named row-9; create it, or leave parentName out for a root"


def test_every_domain_of_a_circle_is_told_and_what_hangs_below_is_not() -> None:
    found = tree.findings((row("a", (), "b"), row("b", (), "c"), row("c", (), "a"), rack("rack-1", ("n1",), "a")))
    assert [(f.domain, f.flaw) for f in found] == [(name, Flaw.CIRCLE) for name in "abc"]
    assert found[0].message.startswith("a -> b -> c -> a is a circle;")


def test_a_domain_that_is_its_own_parent_is_a_circle() -> None:
    (found,) = tree.findings((row("a", (), "a"),))
    assert found.message.startswith("a -> a is a circle")


def test_a_node_in_two_racks_is_told_at_both_and_not_at_their_rows() -> None:
    found = tree.findings(
        (
            rack("rack-1", ("n1", "n2", "n3"), "row-1"),
            rack("rack-2", ("n2", "n3"), "row-2"),
            row("row-1", ("n1", "n2", "n3")),
            row("row-2", ("n2", "n3")),
        )
    )
    assert [(f.domain, f.flaw, f.field) for f in found] == [
        (name, Flaw.SHARED_NODE, "spec.nodeSelector") for name in ("rack-1", "rack-2")
    ]
    assert found[0].message.startswith("node n2 and 1 more also stands in rack-2;")


def test_a_node_of_a_rack_that_another_row_selects_is_told() -> None:
    found = tree.findings((rack("rack-1", ("n1",), "row-1"), row("row-1", ("n1",)), row("row-2", ("n1",))))
    assert [f.domain for f in found] == ["rack-1", "row-2"]


def test_a_server_on_two_feeds_is_as_it_should_be() -> None:
    feeds = tuple(power.domain(name=n, nodes=("n1",), kind="Feed", budget_w=50_000) for n in ("feed-a", "feed-b"))
    assert tree.findings((*feeds, rack("rack-1", ("n1",)))) == ()


def test_a_budget_above_the_parents_is_told_and_allowed() -> None:
    (found,) = tree.findings((rack("rack-1", ("n1",), "row", budget_w=30_000), row("row", ("n1",))))
    assert (found.flaw, found.field, found.allowed) == (Flaw.ABOVE_PARENT, "spec.budgetWatts", True)
    assert found.message.startswith("30000 is above the 20000 of row, which binds first;")


def test_order_does_not_count() -> None:
    shuffled = (SOUND[2], rack("rack-3", ("n1",), "row"), SOUND[0], SOUND[1])
    assert tree.findings(shuffled) == tree.findings(shuffled[::-1])
    assert not tree.findings(shuffled)[0].allowed
