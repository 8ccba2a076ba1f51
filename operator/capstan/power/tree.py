"""Manifests to domains: which nodes stand where, what is armed, what is wrong with the tree.

Who calls it: `site`, every tick; what did not change is not read again. Pure. An armed domain whose spec became invalid
stays on its last valid one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from capstan.api import convert_power, errors, manifests, v1alpha1
from capstan.api.powerdomain import Mode
from capstan.power.ports import Document, Scene
from capstan.powercap import tree as flaws
from capstan.powercap.domains import Domain, Level, Strategy, Timers
from capstan.powercap.tree import Finding

FINALIZER = "capstan.dev/power"


@dataclass(frozen=True, slots=True)
class Declared:
    """One PowerDomain as declared.

    Attributes:
        raw: As the API server has it.
        parsed: The last valid spec.
        domain: As the machine sees it, disarmed, with the nodes of its whole subtree.
        problem: Why the spec of now is not held; empty where it is.
        findings: What is wrong with the tree here.
    """

    raw: Document
    parsed: v1alpha1.PowerDomain
    domain: Domain
    problem: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """Its name."""
        return self.parsed.metadata.name

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of its whole subtree."""
        return self.domain.nodes

    @property
    def generation(self) -> int:
        """The generation that was read."""
        return self.parsed.metadata.generation

    @property
    def acts(self) -> bool:
        """Whether its mode is Act."""
        return self.parsed.spec.mode is Mode.ACT

    @property
    def leaving(self) -> bool:
        """Whether it was deleted and only our finalizer, or somebody else's, keeps it."""
        return bool(_meta(self.raw).get("deletionTimestamp"))

    @property
    def asks_to_arm(self) -> bool:
        """Whether its owner asks that caps are written."""
        return self.acts and not self.leaving

    @property
    def finalized(self) -> bool:
        """Whether our finalizer is on it."""
        found = _meta(self.raw).get("finalizers")
        return isinstance(found, list) and FINALIZER in found

    @property
    def flaws(self) -> tuple[Finding, ...]:
        """Findings with which it is not armed."""
        return tuple(finding for finding in self.findings if not finding.allowed)


def conditions(raw: Document) -> list[dict[str, object]]:
    """Return the conditions of a domain's status."""
    listed = _status(raw).get("conditions")
    return [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []


def armed_before(raw: Document) -> bool:
    """Return whether the status of a domain says that it is armed: a restarted controller keeps it so."""
    return any(c.get("type") == "Armed" and c.get("status") == "True" for c in conditions(raw))


def level_before(raw: Document) -> Level | None:
    """Return the level that status holds, None where there is none."""
    word = _status(raw).get("state")
    return Level(word) if isinstance(word, str) and word in set(Level) else None


def strategy_before(raw: Document) -> Strategy | None:
    """Return what status says holds the budget, None where it says nothing."""
    word = _status(raw).get("strategy")
    return Strategy(word) if isinstance(word, str) and word in set(Strategy) else None


def lost_feeds_before(raw: Document) -> tuple[str, ...]:
    """Return the feeds that status calls lost."""
    found = _status(raw).get("lostFeeds")
    return tuple(name for name in found if isinstance(name, str)) if isinstance(found, list) else ()


def _status(raw: Document) -> Mapping[str, object]:
    found = raw.get("status")
    return found if isinstance(found, dict) else {}


def _meta(raw: Document) -> Mapping[str, object]:
    found = raw.get("metadata")
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class _Read:
    spec: object
    generation: object
    parsed: v1alpha1.PowerDomain | None
    problem: str


@dataclass(slots=True)
class Tree:
    """Keeps the last valid spec of every domain, and what was read of a scene that did not change.

    Attributes:
        timers: How long every domain waits.
        unread_armed: A domain whose status says that it is armed could not be read, and no valid spec of it is known.
    """

    timers: Timers = field(default_factory=Timers)
    unread_armed: bool = False
    _read: dict[str, _Read] = field(default_factory=dict)
    _seen: tuple[object, ...] = ()
    _made: tuple[Declared, ...] = ()

    def read(self, scene: Scene) -> tuple[Declared, ...]:
        """Return all domains with their nodes and findings, in order of name."""
        seen: list[object] = [*scene.domains]
        for node in scene.nodes.values():
            seen += [node.name, node.labels]
        if len(seen) != len(self._seen) or any(a is not b and a != b for a, b in zip(seen, self._seen, strict=True)):
            self._made = self._declared(scene)
            self._seen = tuple(seen)
        return self._made

    def _declared(self, scene: Scene) -> tuple[Declared, ...]:
        self._read = {_name(raw): self._parsed(raw) for raw in scene.domains}
        self.unread_armed = any(self._read[_name(raw)].parsed is None and armed_before(raw) for raw in scene.domains)
        read = [(raw, found.parsed, found.problem) for raw in scene.domains if (found := self._read[_name(raw)]).parsed]
        nodes = _members([parsed for _, parsed, _ in read if parsed is not None], scene)
        made = {
            parsed.metadata.name: Declared(raw, parsed, self._domain(parsed, nodes[parsed.metadata.name]), problem)
            for raw, parsed, problem in read
            if parsed is not None
        }
        return _with_findings(made)

    def _domain(self, parsed: v1alpha1.PowerDomain, nodes: tuple[str, ...]) -> Domain:
        return replace(convert_power.domain_of(parsed, nodes, timed=True), timers=self.timers)

    def _parsed(self, raw: Document) -> _Read:
        """Parse a manifest, or keep what was made of it before."""
        spec, generation, before = raw.get("spec"), _meta(raw).get("generation"), self._read.get(_name(raw))
        if before is not None and before.spec is spec and before.generation == generation:
            return before
        try:
            parsed = manifests.parse(v1alpha1.PowerDomain, raw)
            convert_power.domain_of(parsed, (), timed=True)
        except errors.Invalid as invalid:
            return _Read(spec, generation, None if before is None else before.parsed, str(invalid))
        return _Read(spec, generation, parsed, "")


def _with_findings(made: Mapping[str, Declared]) -> tuple[Declared, ...]:
    found: dict[str, list[Finding]] = {}
    for finding in flaws.findings(tuple(declared.domain for declared in made.values())):
        found.setdefault(finding.domain, []).append(finding)
    return tuple(
        Declared(of.raw, of.parsed, of.domain, of.problem, tuple(found.get(name, ())))
        for name, of in sorted(made.items())
    )


def _name(raw: Document) -> str:
    return str(_meta(raw).get("name"))


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
