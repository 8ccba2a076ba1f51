"""Power domains as a decision sees them: what each leaves, whom it caps, and which replicas of a policy lie in it.

And what policies ask of domains and are granted: claims and grants.

Who calls it: `serving.domains` and `replay.guards` say what is seen; `optimize.powered` claims, `powercap.allocate`
grants. Must not know: agents, levels, timers. Watts of a domain are AC at its meter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from capstan.model.policy import Priority
from capstan.model.sample import Fresh, Sample

OUTSIDE = ""
"""The domain of replicas that no domain holds: nobody counts their watts."""


@dataclass(frozen=True, slots=True)
class DomainSeen:
    """A domain that acts. One that only advises, or is not armed, limits nobody and has no record.

    Attributes:
        parent: Name of the domain above; None at the root.
        headroom_w: Budget less projected draw; negative is a shortfall. Not fresh: nobody may draw more.
        low_ratio, high_ratio, brake_ratio: Its thresholds, as shares of the budget.
        supply_efficiency_ratio: DC over AC of its power supplies.
        low_mhz, high_mhz: The clock that each class is capped at now; None: it is not.
        free_gpus: GPUs of its nodes that have no pod, those of domains below included; None: not known.
    """

    name: str
    budget_w: float
    headroom_w: Sample[float]
    parent: str | None = None
    low_ratio: float = 1.0
    high_ratio: float = 1.0
    brake_ratio: float = 1.0
    supply_efficiency_ratio: float = 1.0
    low_mhz: float | None = None
    high_mhz: float | None = None
    free_gpus: int | None = None

    def __post_init__(self) -> None:
        if not self.budget_w > 0:
            raise ValueError("budget_w is not above zero")
        if not 0 < self.low_ratio <= self.high_ratio <= self.brake_ratio <= 1:
            raise ValueError("ratios need 0 < low <= high <= brake <= 1 (shares of the budget)")

    def cap_mhz(self, priority: Priority) -> float | None:
        """Return the clock that a class is capped at by this domain alone."""
        return self.high_mhz if priority is Priority.HIGH else self.low_mhz

    @property
    def caps_low_alone(self) -> bool:
        """Whether it caps low priority and not high: what low priority adds then draws no more than at its cap."""
        return self.low_mhz is not None and self.high_mhz is None

    def growth_ratio(self, priority: Priority) -> float:
        """Return the share of the budget at which growth of a class ends.

        That of low priority ends at the low threshold, where it would be capped a second later. Once it is, that has
        happened: it ends at the high one, as that of high priority does, beyond which high priority would be capped.
        """
        return self.high_ratio if priority is Priority.HIGH or self.caps_low_alone else self.low_ratio

    def left_w(self, line_ratio: float) -> float:
        """Return what may be drawn more below a share of the budget, 0 where that is not known."""
        match self.headroom_w:
            case Fresh(value) if math.isfinite(value):
                return max(value - (1 - line_ratio) * self.budget_w, 0.0)
        return 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Replicas of one degree of a policy in one innermost domain (`OUTSIDE`: in none)."""

    domain: str
    tp: int
    ready: int
    starting: int = 0

    @property
    def gpus(self) -> int:
        """GPUs that they hold."""
        return self.tp * (self.ready + self.starting)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a policy asks for in one domain, AC watts.

    Attributes:
        domain: The innermost domain that it would draw them in.
        clock_w, growth_w: What it asks for.
        replica_w: What one replica of that growth draws: less than that is of no use to it. 0: all of it is one.
        booked_w: What its starting replicas will draw more than they do: drawn whether anybody grants it or not.
    """

    policy: str
    domain: str
    priority: Priority
    clock_w: float = 0.0
    growth_w: float = 0.0
    replica_w: float = 0.0
    booked_w: float = 0.0

    def __post_init__(self) -> None:
        asked = (self.clock_w, self.growth_w, self.replica_w, self.booked_w)
        if not all(0 <= each < math.inf for each in asked):
            raise ValueError("a claim is finite watts, none below zero")


@dataclass(frozen=True, slots=True)
class Grant:
    """How many more watts a policy may draw in a domain, AC."""

    policy: str
    domain: str
    clock_w: float
    growth_w: float


def by_name(domains: Iterable[DomainSeen]) -> dict[str, DomainSeen]:
    """Return domains by their names."""
    return {domain.name: domain for domain in domains}


def lineage(name: str, domains: Mapping[str, DomainSeen]) -> tuple[DomainSeen, ...]:
    """Return a domain and its ancestors, innermost first; a missing parent ends the line, a cycle is cut."""
    found: dict[str, DomainSeen] = {}
    at: str | None = name
    while at is not None and at in domains and at not in found:
        found[at] = domains[at]
        at = domains[at].parent
    return tuple(found.values())


def above(name: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    """Return a name and those above it, innermost first; a parent that is not there ends the line, a cycle is cut."""
    found: list[str] = []
    while name in parents and name not in found:
        found.append(name)
        name = parents[name]
    return tuple(found)


def cap_mhz(name: str, priority: Priority, domains: Mapping[str, DomainSeen]) -> float | None:
    """Return the tightest cap of a class in a domain, that of ancestors included; None: there is none."""
    caps = (domain.cap_mhz(priority) for domain in lineage(name, domains))
    return min((cap for cap in caps if cap is not None), default=None)


def grows(name: str, domains: Mapping[str, DomainSeen]) -> bool:
    """Return whether anybody may grow in a domain: nobody may where high priority is capped."""
    return cap_mhz(name, Priority.HIGH, domains) is None


def innermost(domains: Iterable[DomainSeen]) -> tuple[DomainSeen, ...]:
    """Return the domains that have none below them."""
    known = tuple(domains)
    parents = {domain.parent for domain in known}
    return tuple(domain for domain in known if domain.name not in parents)
