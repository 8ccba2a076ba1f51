"""Which domains belong together, and which of the site's Leases they go with.

Who calls it: `site`, every tick. Pure. A root and everything below it is led by one process; roots that share a node
(two feeds of one server) are led together, because that node's caps are joined. Nodes in no domain go with shard 0:
they hold nothing that a lease could end, but whoever renews them also releases them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from capstan.power.ports import PodSeen, Scene
from capstan.power.tree import Declared


@dataclass(frozen=True, slots=True)
class Part:
    """What one shard of a site sees: its domains and nodes, and the whole site to look things up in.

    Attributes:
        high: (namespace, name) of the pods of high priority.
        on_node: The engine pods of each node, in order of name.
        may_release: Whether nodes in no armed domain may be let go: not while an armed domain cannot be read.
    """

    scene: Scene
    declared: tuple[Declared, ...]
    nodes: frozenset[str]
    high: frozenset[tuple[str, str]]
    on_node: Mapping[str, tuple[PodSeen, ...]]
    may_release: bool = True


def split(site: Part, count: int) -> tuple[Part, ...]:
    """Return the parts of a site, one per shard; every domain and every node is in exactly one."""
    group = _groups(site.declared)
    shard_of = {name: zlib.crc32(root.encode()) % count for name, root in group.items()}
    domains: list[list[Declared]] = [[] for _ in range(count)]
    nodes: list[set[str]] = [set() for _ in range(count)]
    for domain in site.declared:
        domains[shard_of[domain.name]].append(domain)
        nodes[shard_of[domain.name]].update(domain.nodes)
    nodes[0] |= site.nodes - set().union(*nodes)
    return tuple(replace(site, declared=tuple(d), nodes=frozenset(n)) for d, n in zip(domains, nodes, strict=True))


def _groups(declared: Iterable[Declared]) -> dict[str, str]:
    """Return, for each domain, the first name of all domains that are tied to it by parents or nodes."""
    of: dict[str, str] = {}

    def first(name: str) -> str:
        while of.setdefault(name, name) != name:
            of[name] = of[of[name]]
            name = of[name]
        return name

    def tie(one: str, other: str) -> None:
        low, high = sorted((first(one), first(other)))
        of[high] = low

    holder: dict[str, str] = {}
    names = []
    for domain in declared:
        names.append(domain.name)
        first(domain.name)
        parent = domain.parsed.spec.parent_name
        if parent is not None:
            tie(domain.name, parent)  # a parent that is not there still ties its children: they belong to one feed
        for node in domain.nodes:
            tie(domain.name, holder.setdefault(node, domain.name))
    return {name: first(name) for name in names}
