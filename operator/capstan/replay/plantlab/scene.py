"""A scenario file with a `Plant` as the records that a run needs.

Who calls it: `app.replay_kinds`. Must not know: how a run is played.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan.api import convert_power, errors, manifests, plant, v1alpha1
from capstan.api import scenario as files
from capstan.model.profile import Profile, with_clock_response
from capstan.powercap.domains import Domain
from capstan.powercap.grants import Member
from capstan.replay import believed
from capstan.replay.plantlab.layout import CLOCK_POINTS


@dataclass(frozen=True, slots=True)
class Server:
    """A machine: one replica of the profile."""

    name: str
    domains: tuple[str, ...]  # innermost first
    high: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """What is played: the spec, the physics, the machines and their domains, the root first."""

    spec: plant.Plant
    profile: Profile
    servers: tuple[Server, ...]
    domains: tuple[Domain, ...]
    gpus: int

    @property
    def root(self) -> Domain:
        """Return the domain above all others."""
        return self.domains[0]

    @property
    def members(self) -> tuple[Member, ...]:
        """Return the servers as the grants see them."""
        draw, root = self.profile.draw, self.root
        return tuple(
            Member(
                server.name, server.domains, self.gpus, root.non_gpu_worst_w, root.supply_efficiency_ratio,
                draw.min_limit_w, draw.limit_w, server.high,
            )
            for server in self.servers
        )  # fmt: skip

    @property
    def highs(self) -> tuple[bool, ...]:
        """Return which servers have High priority."""
        return tuple(server.high for server in self.servers)


def read(path: Path, profiles: Path) -> Scene:
    """Return the scene of a scenario file; its own ServingProfiles go before those of the folder.

    Raises:
        Invalid: The field and the fix.
    """
    documents = manifests.load(path)
    spec = manifests.only(documents, plant.Plant, path)
    fleet = manifests.only(documents, files.Fleet, path)
    profile = _profile(spec, believed.shipped(profiles, documents))
    group_gpus = {group.gpus for group in fleet.nodes}
    if group_gpus != {profile.tp} or any(group.gpu_product not in profile.gpu_products for group in fleet.nodes):
        fix = f"each server is one replica of {profile.name}; give all {profile.tp} GPUs of {profile.gpu_products[0]}"
        raise errors.Invalid("Fleet.nodes", fix)
    if spec.supply.non_gpu_full_watts > (worst := _root(documents).spec.non_gpu_watts_per_node.worst_case):
        fix = f"what servers can draw is above the domain's worstCase of {worst} W; raise nonGPUWattsPerNode.worstCase"
        raise errors.Invalid("supply.nonGPUFullWatts", fix)
    domains = _domains(documents, fleet)
    return Scene(spec, profile, _servers(spec, domains), domains, profile.tp)


def _profile(spec: plant.Plant, known: Sequence[Profile]) -> Profile:
    found = next((profile for profile in known if profile.name == spec.profile), None)
    if found is None:
        raise errors.Invalid("Plant.profile", f"there is no ServingProfile {spec.profile}; correct the name")
    clocks = found.clocks
    points = round((clocks.max_mhz - clocks.min_mhz) / clocks.step_mhz) + 1
    if points != CLOCK_POINTS:
        fix = f"{found.name} has {points} clocks; the plant's tables hold {CLOCK_POINTS}, so name an H100's profile"
        raise errors.Invalid("Plant.profile", fix)
    return with_clock_response(found, spec.clock_response)


def _root(documents: Sequence[manifests.Document]) -> v1alpha1.PowerDomain:
    roots = [d for d in documents if isinstance(d, v1alpha1.PowerDomain) and d.spec.parent_name is None]
    if len(roots) != 1:
        raise errors.Invalid("PowerDomain", f"the file has {len(roots)} without parentName; write exactly one root")
    return roots[0]


def _domains(documents: Sequence[manifests.Document], fleet: files.Fleet) -> tuple[Domain, ...]:
    """Return the root and its racks, all armed: a run of the plant is about what an armed tree does."""
    root = _root(documents)
    racks = [d for d in documents if isinstance(d, v1alpha1.PowerDomain) and d.spec.parent_name == root.metadata.name]
    found = tuple(_domain(document, fleet) for document in (root, *racks))
    below = [node for domain in found[1:] for node in domain.nodes]
    if sorted(below) != sorted(found[0].nodes):
        fix = "every node of the root stands in exactly one of its racks; correct the nodeSelectors"
        raise errors.Invalid(f"PowerDomain {root.metadata.name}", fix)
    return found


def _domain(document: v1alpha1.PowerDomain, fleet: files.Fleet) -> Domain:
    selector = document.spec.node_selector
    inside = tuple(
        name
        for group in fleet.nodes
        if selector is not None and selector.selects(group.labels)
        for name in group.node_names
    )
    return dataclasses.replace(convert_power.power_domain(document.manifest(), inside), armed=True)


def _servers(spec: plant.Plant, domains: tuple[Domain, ...]) -> tuple[Server, ...]:
    """Return the servers rack by rack; High ones are spread evenly, as Bresenham draws a line."""
    root, racks = domains[0], domains[1:]
    placed = [(node, rack.name) for rack in racks for node in rack.nodes]
    share = spec.high_percent
    return tuple(
        Server(node, (rack, root.name), high=(i + 1) * share // 100 > i * share // 100)
        for i, (node, rack) in enumerate(placed)
    )
