"""Manifests to domains: which nodes stand where, what is armed, who is High.

Who calls it: `cycle`, every tick. Pure. An armed domain whose spec became invalid stays on its last valid one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from capstan.api import convert, errors, manifests, v1alpha1
from capstan.api.powerdomain import Mode
from capstan.model.policy import Priority
from capstan.power.ports import Document, PodSeen, Scene
from capstan.powercap.domains import Domain


@dataclass(frozen=True, slots=True)
class Declared:
    """One PowerDomain: its parsed spec and the nodes of its whole subtree; `problem` where the spec is not held."""

    raw: Document
    parsed: v1alpha1.PowerDomain
    nodes: tuple[str, ...]
    problem: str = ""

    @property
    def name(self) -> str:
        """Its name."""
        return self.parsed.metadata.name

    @property
    def generation(self) -> int:
        """The generation that was read."""
        return self.parsed.metadata.generation

    @property
    def asks_to_arm(self) -> bool:
        """Whether its owner asks that caps are written."""
        return self.parsed.spec.mode is Mode.ACT


def conditions(raw: Document) -> list[dict[str, object]]:
    """Return the conditions of a domain's status."""
    found = raw.get("status")
    listed = found.get("conditions") if isinstance(found, dict) else None
    return [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []


def armed_before(raw: Document) -> bool:
    """Return whether the status of a domain says that it is armed: a restarted controller keeps it so."""
    return any(c.get("type") == "Armed" and c.get("status") == "True" for c in conditions(raw))


class Tree:
    """Keeps the last valid spec of every domain."""

    def __init__(self) -> None:
        self._valid: dict[str, v1alpha1.PowerDomain] = {}
        self.unread_armed = False
        """Whether a domain whose status says that it is armed could not be read, and no valid spec of it is known."""

    def read(self, scene: Scene) -> tuple[Declared, ...]:
        """Return all domains with their nodes, in order of name."""
        read = [(raw, self._parse(raw)) for raw in scene.domains]
        parsed = [found for _, found in read if found is not None]
        self.unread_armed = any(found is None and armed_before(raw) for raw, found in read)
        self._valid = {domain.metadata.name: domain for _, domain, _ in parsed}
        nodes = _members([domain for _, domain, _ in parsed], scene)
        made = (Declared(raw, domain, nodes[domain.metadata.name], problem) for raw, domain, problem in parsed)
        return tuple(sorted(made, key=lambda declared: declared.name))

    def _parse(self, raw: Document) -> tuple[Document, v1alpha1.PowerDomain, str] | None:
        try:
            parsed = manifests.parse(v1alpha1.PowerDomain, raw)
            convert.power_domain(raw, ())
        except errors.Invalid as invalid:
            meta = raw.get("metadata")
            before = self._valid.get(str(meta.get("name"))) if isinstance(meta, dict) else None
            return None if before is None else (raw, before, str(invalid))
        return raw, parsed, ""


def domain_of(declared: Declared, *, armed: bool) -> Domain:
    """Return the domain as the machine sees it, without a safe setting."""
    document = declared.parsed.manifest()
    return convert.power_domain(document, declared.nodes, armed=armed)


def _members(domains: list[v1alpha1.PowerDomain], scene: Scene) -> dict[str, tuple[str, ...]]:
    """Return the nodes below each domain: its own selector's and its children's."""
    own: dict[str, set[str]] = {}
    for domain in domains:
        selector = domain.spec.node_selector
        chosen = (n.name for n in scene.nodes.values() if selector is not None and selector.selects(n.labels))
        own[domain.metadata.name] = set(chosen)
    children: dict[str, list[str]] = {}
    for domain in domains:
        if domain.spec.parent_name:
            children.setdefault(domain.spec.parent_name, []).append(domain.metadata.name)

    def below(name: str, met: frozenset[str]) -> set[str]:
        found = set(own[name])
        for child in children.get(name, []):
            if child not in met:  # a loop of parents ends where it began
                found |= below(child, met | {child})
        return found

    return {name: tuple(sorted(below(name, frozenset({name})))) for name in own}


def high_pods(scene: Scene, declared: Iterable[Declared]) -> frozenset[tuple[str, str]]:
    """Return (namespace, name) of the pods that are High: asked for by their policy, admitted by a domain over them."""
    admitted: dict[str, set[str]] = {}
    for domain in declared:
        selector = domain.parsed.spec.high_priority_namespaces
        chosen = {n for n, labels in scene.namespaces.items() if selector is not None and selector.selects(labels)}
        for node in domain.nodes:
            admitted.setdefault(node, set()).update(chosen)
    asked = {key for key, raw in scene.policies.items() if _asks_high(raw)}
    return frozenset(
        (p.namespace, p.name) for p in scene.pods if p.policy in asked and p.namespace in admitted.get(p.node, ())
    )


def _asks_high(raw: Document) -> bool:
    try:
        return convert.asked_priority(raw) is Priority.HIGH
    except errors.Invalid:
        return False  # an invalid policy is Low: priority is a right that must be readable


def pods_by_node(pods: Iterable[PodSeen]) -> Mapping[str, tuple[PodSeen, ...]]:
    """Return the pods of each node, in order of name."""
    found: dict[str, list[PodSeen]] = {}
    for pod in pods:
        found.setdefault(pod.node, []).append(pod)
    return {node: tuple(sorted(on, key=lambda p: (p.namespace, p.name))) for node, on in found.items()}
