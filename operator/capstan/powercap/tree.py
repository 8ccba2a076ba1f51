"""What is wrong with a tree of domains: circles, missing parents, nodes in two places, two strategies in one tree.

Who calls it: `power`, whenever domains or nodes change. Pure. Must not know: status, conditions. Nothing is repaired
here; the machine is safe on any tree (`domains.lineage` cuts a circle, a node is held by every domain that it stands
in), but an operator who oversubscribes a feed must not be left to guess which one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from capstan.powercap.domains import Domain, lineage


class Flaw(StrEnum):
    """What kind of finding."""

    CIRCLE = "Circle"
    NO_PARENT = "NoParent"
    SHARED_NODE = "SharedNode"
    MIXED = "Mixed"
    ABOVE_PARENT = "AboveParent"  # allowed: the parent binds first


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know of one domain.

    Attributes:
        field: The path in its manifest.
        message: What is so, and the fix.
    """

    domain: str
    flaw: Flaw
    field: str
    message: str

    @property
    def allowed(self) -> bool:
        """Return whether the tree holds with it: it is told, and hinders nothing."""
        return self.flaw is Flaw.ABOVE_PARENT


def findings(domains: tuple[Domain, ...]) -> tuple[Finding, ...]:
    """Return all findings, in order of the domains' names.

    Args:
        domains: Each with all nodes below it. Their order does not count.
    """
    by_name = {domain.name: domain for domain in domains}
    lines = {name: lineage(name, domains) for name in by_name}
    found = [*_parents(by_name, lines), *_shared(by_name, lines), *_mixed(by_name, lines), *_budgets(by_name)]
    return tuple(sorted(found, key=lambda finding: (finding.domain, finding.flaw, finding.message)))


def _parents(by_name: Mapping[str, Domain], lines: Mapping[str, tuple[Domain, ...]]) -> Iterator[Finding]:
    for name, domain in by_name.items():
        if domain.parent is None:
            continue
        if domain.parent not in by_name:
            fix = f"no PowerDomain is named {domain.parent}; create it, or leave parentName out for a root"
            yield Finding(name, Flaw.NO_PARENT, "spec.parentName", fix)
        elif lines[name][-1].parent == name:
            circle = " -> ".join([*(above.name for above in lines[name]), name])
            fix = f"{circle} is a circle; leave parentName out of the domain that is the root"
            yield Finding(name, Flaw.CIRCLE, "spec.parentName", fix)


def _shared(by_name: Mapping[str, Domain], lines: Mapping[str, tuple[Domain, ...]]) -> Iterator[Finding]:
    """Yield the innermost domains of nodes that have several.

    Feeds may share: a server with two cords stands on two of them, and each counts it in full.
    """
    holders: dict[str, list[str]] = {}
    for name, domain in by_name.items():
        if domain.kind != "Feed":
            for node in domain.nodes:
                holders.setdefault(node, []).append(name)
    shared: dict[tuple[str, str], list[str]] = {}
    for node, names in holders.items():
        above = {line.name for name in names for line in lines[name][1:]}
        innermost = [name for name in names if name not in above]
        for pair in ((one, other) for one in innermost for other in innermost if one != other):
            shared.setdefault(pair, []).append(node)
    for (one, other), nodes in shared.items():
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        fix = f"node {min(nodes)}{more} also stands in {other}; narrow one selector, or make one the other's parent"
        yield Finding(one, Flaw.SHARED_NODE, "spec.nodeSelector", fix)


def _mixed(by_name: Mapping[str, Domain], lines: Mapping[str, tuple[Domain, ...]]) -> Iterator[Finding]:
    """Yield the domains that would be held otherwise than their root: grants and thresholds do not know each other."""
    for name, domain in by_name.items():
        root = lines[name][-1]
        if domain.strategy is not root.strategy:
            fix = (
                f"{domain.strategy} below {root.name}, which is {root.strategy}: one strategy per tree; set them alike"
            )
            yield Finding(name, Flaw.MIXED, "spec.strategy", fix)


def _budgets(by_name: Mapping[str, Domain]) -> Iterator[Finding]:
    for name, domain in by_name.items():
        parent = by_name.get(domain.parent or "")
        if parent is not None and domain.budget_w > parent.budget_w:
            told = (
                f"{domain.budget_w:.0f} is above the {parent.budget_w:.0f} of {parent.name}, which binds first; "
                f"lower it where that is not meant"
            )
            yield Finding(name, Flaw.ABOVE_PARENT, "spec.budgetWatts", told)
