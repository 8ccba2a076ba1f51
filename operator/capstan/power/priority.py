"""Who is High: asked for by a pod's policy, admitted by a domain over its node.

Who calls it: `site`, every tick. Pure: what a tenant writes is a wish (promise P2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from capstan.api import convert, errors
from capstan.model.policy import Priority
from capstan.power.ports import Document, PodSeen, Scene
from capstan.power.tree import Declared

HighPods = frozenset[tuple[str, str]]  # (namespace, name)


@dataclass(slots=True)
class Asking:
    """Remembers what each policy asks for, as long as its document is the same."""

    _known: dict[str, tuple[Document, bool]] = field(default_factory=dict)

    def high(self, policies: Mapping[str, Document]) -> frozenset[str]:
        """Return the keys of the policies that ask for High."""
        self._known = {key: self._one(key, raw) for key, raw in policies.items()}
        return frozenset(key for key, (_, asks) in self._known.items() if asks)

    def _one(self, key: str, raw: Document) -> tuple[Document, bool]:
        before = self._known.get(key)
        return before if before is not None and before[0] is raw else (raw, _asks_high(raw))


def high_pods(scene: Scene, declared: Iterable[Declared], asked: frozenset[str]) -> frozenset[tuple[str, str]]:
    """Return (namespace, name) of the pods that are High."""
    admitted: dict[str, set[str]] = {}
    for domain in declared:
        selector = domain.parsed.spec.high_priority_namespaces
        chosen = {n for n, labels in scene.namespaces.items() if selector is not None and selector.selects(labels)}
        for node in domain.nodes:
            admitted.setdefault(node, set()).update(chosen)
    return frozenset(
        (p.namespace, p.name) for p in scene.pods if p.policy in asked and p.namespace in admitted.get(p.node, ())
    )


def pods_by_node(pods: Iterable[PodSeen]) -> Mapping[str, tuple[PodSeen, ...]]:
    """Return the pods of each node, in order of name."""
    found: dict[str, list[PodSeen]] = {}
    for pod in pods:
        found.setdefault(pod.node, []).append(pod)
    return {node: tuple(sorted(on, key=lambda p: (p.namespace, p.name))) for node, on in found.items()}


def _asks_high(raw: Document) -> bool:
    try:
        return convert.asked_priority(raw) is Priority.HIGH
    except errors.Invalid:
        return False  # an invalid policy is Low: priority is a right that must be readable
