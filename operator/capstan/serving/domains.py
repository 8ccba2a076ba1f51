"""What PowerDomains mean for a policy: whether its priority is granted, and whether its GPUs are capped now.

Who calls it: `cycle`. Pure, read-only: `power` owns domains, serving only reads their spec and state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from capstan.model.plan import NO_POWER_PLAN, PowerPlan
from capstan.model.policy import Priority
from capstan.model.reasons import Reason
from capstan.powercap.domains import Level, Strategy
from capstan.serving import manifest
from capstan.serving.cluster import Node, Pod
from capstan.serving.conditions import Condition, Type
from capstan.serving.manifest import Manifest

CAPS_LOW = frozenset({Level.LOW_BASE, Level.LOW_DEEP, Level.HIGH_CAP, Level.BRAKE, Level.FAIL_SAFE})
CAPS_HIGH = frozenset({Level.HIGH_CAP, Level.BRAKE, Level.FAIL_SAFE})

Capping = Mapping[str, frozenset[str]]
"""Names of the domains that cap a policy's GPUs, by node; a node that none caps is left out."""


def admits(domains: Iterable[Manifest], namespace_labels: Mapping[str, str]) -> bool:
    """Return whether some domain admits a namespace to high priority."""
    selectors = (manifest.mapping(d, "spec", "highPriorityNamespaces") for d in domains)
    return any(manifest.matches(s, namespace_labels) for s in selectors)


def granted(asked: Priority, *, admitted: bool) -> tuple[Priority, Condition]:
    """Return the priority in force and the condition that says so."""
    if asked is Priority.LOW:
        return Priority.LOW, Condition(Type.PRIORITY_GRANTED, True, Reason.APPLIED)
    if admitted:
        return Priority.HIGH, Condition(Type.PRIORITY_GRANTED, True, Reason.APPLIED)
    message = (
        "no PowerDomain's spec.highPriorityNamespaces selects this namespace; served as Low. Ask whoever runs the "
        "domain to admit it, or set spec.priority to Low"
    )
    return Priority.LOW, Condition(Type.PRIORITY_GRANTED, False, Reason.HIGH_NOT_ADMITTED, message)


def capping(pods: Iterable[Pod], priority: Priority, domains: Iterable[Manifest], nodes: Mapping[str, Node]) -> Capping:
    """Return which domains cap GPUs of this priority now on the nodes of these pods, ancestors included."""
    caps = CAPS_HIGH if priority is Priority.HIGH else CAPS_LOW
    by_name = {manifest.text(d, "metadata", "name"): d for d in domains}
    above = {
        name: found
        for name in by_name
        if (found := tuple(one for one in _with_ancestors(name, by_name) if _caps(by_name[one], caps)))
    }
    selectors = {name: manifest.mapping(by_name[name], "spec", "nodeSelector") for name in above}
    labels = {p.node: nodes[p.node].labels for p in pods if p.node in nodes}
    by_node = {
        node: frozenset(one for name in above if manifest.matches(selectors[name], of_node) for one in above[name])
        for node, of_node in labels.items()
    }
    return {node: found for node, found in by_node.items() if found}


def power_condition(
    capping: Capping, *, power: PowerPlan = NO_POWER_PLAN, held: bool, budgeted: bool, closed: bool
) -> Condition:
    """Return PowerConstrained: whether a domain or the policy's own budget holds it down, and what is done about it.

    Args:
        capping: What caps its GPUs now.
        power: What is done while they do.
        held: Whether the plan is smaller than the load asks for, for want of watts.
        budgeted: Whether the policy has a power budget of its own.
        closed: Whether nobody may grow there: high priority is capped, too.
    """
    if capping:
        names = ", ".join(sorted(frozenset().union(*capping.values())))
        grows = "no scale-out into it" if closed else "it grows there at that clock, and below the high threshold"
        message = f"capped by PowerDomain {names}: {grows}{_done(power)}"
        return Condition(Type.POWER_CONSTRAINED, True, Reason.POWER_LIMITED, message)
    if held:
        whose = "spec.powerBudgetWatts holds" if budgeted else "the headroom of its PowerDomains holds"
        return Condition(Type.POWER_CONSTRAINED, True, Reason.POWER_LIMITED, f"{whose} the plan down")
    return Condition(Type.POWER_CONSTRAINED, False, Reason.BELOW_THRESHOLDS)


def _done(power: PowerPlan) -> str:
    """Return what a plan does while GPUs are capped, for people. Nobody routes, refuses or evicts for us yet."""
    parts = []
    if power.shares:
        weights = ", ".join(f"{share.domain or 'elsewhere'} {share.weight_ratio:g}" for share in power.shares)
        parts.append(f"route by weights {weights}")
    if power.shed_ratio:
        parts.append(f"answer {power.shed_ratio:.0%} of its requests with 429")
    parts += [f"move a replica of tp {move.tp} from {move.source} to {move.target}" for move in power.moves]
    advice = f" (advice: {'; '.join(parts)})" if parts else ""
    return advice + ("; its SLO cannot be kept until then" if power.indebted else "")


def held_by_grants(domain: Manifest) -> bool:
    """Return whether watt grants hold a domain's budget now, as its status says: they know no levels."""
    return manifest.text(domain, "status", "strategy") == Strategy.GUARANTEED


def _caps(domain: Manifest, caps: frozenset[Level]) -> bool:
    """Return whether a domain acts (one that only advises caps nobody) and is at one of these levels.

    Grants know no levels: there the domain says whether its limits bind.
    """
    if held_by_grants(domain):
        return manifest.text(domain, "spec", "mode") == "Act" and _binds(domain)
    return manifest.text(domain, "spec", "mode") == "Act" and manifest.text(domain, "status", "state") in caps


def _binds(domain: Manifest) -> bool:
    found = manifest.items(domain, "status", "conditions")
    return any(one.get("type") == "Capping" and one.get("status") == "True" for one in found)


def _with_ancestors(name: str, by_name: Mapping[str, Manifest]) -> Iterable[str]:
    """Yield a domain and those above it; a loop ends where it began."""
    met: set[str] = set()
    while name in by_name and name not in met:
        met.add(name)
        yield name
        name = manifest.text(by_name[name], "spec", "parentName")
