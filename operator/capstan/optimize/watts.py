"""What a policy asks of power domains, and what a plan may do with what it was granted.

Who calls it: `decide` claims for every policy and makes its allowance; `replicas` and `tune` stay inside it. Must not
know: how watts are dealt out. Claims are AC watts at a domain's meter, an allowance is DC watts of GPUs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from capstan.model import headroom, plan, power
from capstan.model.fleet import ServiceObserved
from capstan.model.headroom import Claim, DomainSeen, Grant, Place
from capstan.model.policy import Policy, Priority
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import fleets, sizing

TARGETS = 4
"""Domains without a replica of a policy that it claims growth in, the roomiest first: it grows by a few replicas at a
time, and a claim in each of a thousand domains would cost more than the decision."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a plan may draw more than what stands.

    Attributes:
        growth_gpus: GPUs that may be added; None: watts limit nobody.
        growth_w: Watts of growth on the GPUs that are there: what nobody grows into a clock may rise into.
        clock_w: Watts that a higher clock may cost.
        cap_mhz: The clock that all its replicas are capped at, the loosest of them; None: some are not.
    """

    growth_gpus: int | None = None
    growth_w: float = math.inf
    clock_w: float = math.inf
    cap_mhz: float | None = None

    def part(self, count: int) -> Allowance:
        """Return the equal part of one of several pools."""
        if count == 1 or self.growth_gpus is None:
            return self
        return Allowance(self.growth_gpus // count, self.growth_w / count, self.clock_w / count, self.cap_mhz)


UNLIMITED = Allowance()


@dataclass(frozen=True, slots=True)
class Subject:
    """A policy whose watts are asked for. `load` has its lengths; None: not known. `asked` is the last plan's."""

    policy: Policy
    seen: ServiceObserved
    profile: Profile
    load: Workload | None
    asked: plan.PowerMemory

    def busy_w(self, cap_mhz: float | None = None) -> float:
        """Return the watts of one GPU of a replica that serves what it can at a clock; None: at full clock."""
        lengths = None if self.load is None else self.load.coarse_lengths()
        return _busy_w(self.profile, lengths, self.policy.slo, self.profile.clocks.ratio(cap_mhz))


@functools.lru_cache(maxsize=4096)  # asked for by every policy several times a cycle; lengths are coarse
def _busy_w(profile: Profile, lengths: Workload | None, slo: Slo, x: float) -> float:
    worst_w = power.worst_case_w(profile, x)
    most_rps = 0.0 if lengths is None else sizing.capacity_rps(profile, lengths, slo, x=x, margin=1.0)
    if lengths is None or most_rps <= 0:
        return worst_w
    at = sizing.point(profile, lengths.at(most_rps).coarse(), slo, x=x)
    return worst_w if at is None else at.gpu_w


@dataclass(frozen=True, slots=True)
class Ground:
    """The domains as every policy of a priority sees them: those to grow in, and the GPUs that growth finds in each."""

    domains: Mapping[str, DomainSeen]
    targets: tuple[str, ...]
    free: Mapping[str, float]


def ground(domains: Iterable[DomainSeen], priority: Priority) -> Ground:
    """Return the domains of a cycle for a priority, worked out once for all of its policies."""
    known = headroom.by_name(domains)
    return Ground(known, tuple(_to_grow_in(known, priority)[:TARGETS]), _free(known, priority))


def claims(subject: Subject, at: Ground) -> tuple[Claim, ...]:
    """Return what a policy asks for: growth where there is room, a clock where its replicas are."""
    places, domains = subject.seen.places, at.domains
    growth = _wanted_gpus(subject, at)
    inside = {name: [p for p in places if p.domain == name] for name in {p.domain for p in places if p.domain}}
    gpus = max(sum(place.gpus for place in places), 1)
    busy = {name: _busy_there_w(subject, name, domains) for name in {*growth, *inside} if name in domains}
    idle_w = power.idle_w(subject.profile)
    return tuple(
        Claim(
            subject.policy.key,
            name,
            subject.policy.priority,
            clock_w=_ac_w(domains[name], subject.asked.asked_clock_w * _gpus(inside.get(name, ())) / gpus),
            growth_w=_ac_w(domains[name], busy_w * growth.get(name, 0)),
            replica_w=_ac_w(domains[name], busy_w * subject.profile.tp),
            booked_w=_ac_w(
                domains[name], max(busy_w - idle_w, 0.0) * sum(p.tp * p.starting for p in inside.get(name, ()))
            ),
        )
        for name, busy_w in sorted(busy.items())
    )


def allowance(subject: Subject, at: Ground, grants: Iterable[Grant]) -> Allowance:
    """Return what its grants come to. Replicas that no domain holds are limited by none, and so is who has such."""
    places, priority, domains = subject.seen.places, subject.policy.priority, at.domains
    outside = any(place.domain not in domains for place in places)
    if not domains or (outside and not any(place.domain in domains for place in places)):
        return UNLIMITED
    own = {grant.domain: grant for grant in grants if grant.policy == subject.policy.key}
    growth_gpus = sum(_placeable(own[name], subject, at) for name in own if headroom.grows(name, domains))
    caps = [headroom.cap_mhz(place.domain, priority, domains) for place in places]
    known = [cap for cap in caps if cap is not None]
    return Allowance(
        growth_gpus=None if outside else growth_gpus,
        growth_w=_on_places_w(places, domains, {name: grant.growth_w for name, grant in own.items()}),
        clock_w=_on_places_w(places, domains, {name: grant.clock_w for name, grant in own.items()}),
        cap_mhz=max(known) if known and len(known) == len(caps) else None,
    )


def fitted(allowed: Allowance, wanted: plan.Fleet, standing: plan.Fleet, *, tp: int) -> plan.Fleet:
    """Return what of a wanted fleet may be started: all of it, else what stands and as many more of its main degree."""
    counts = dict(standing)
    new_gpus = sum(degree * max(count - counts.get(degree, 0), 0) for degree, count in wanted)
    if allowed.growth_gpus is None or new_gpus <= allowed.growth_gpus:
        return wanted
    more = max(dict(wanted).get(tp, 0) - counts.get(tp, 0), 0)
    return fleets.with_more(standing, tp, min(allowed.growth_gpus // tp, more))


def roomiest(domains: Mapping[str, DomainSeen], priority: Priority) -> list[str]:
    """Return the innermost domains in which a class is not capped, those with most watts below its line first."""
    found = _to_grow_in(domains, priority)
    return [name for name in found if headroom.cap_mhz(name, priority, domains) is None]


def _to_grow_in(domains: Mapping[str, DomainSeen], priority: Priority) -> list[str]:
    """Return the innermost domains to grow in: first those that do not cap the class, of equals most watts first."""

    def worse(name: str) -> tuple[bool, float, str]:
        capped = headroom.cap_mhz(name, priority, domains) is not None
        return capped, -growth_left_w(name, domains, priority), name

    innermost = (domain.name for domain in headroom.innermost(domains.values()))
    return sorted((name for name in innermost if headroom.grows(name, domains)), key=worse)


def growth_left_w(name: str, domains: Mapping[str, DomainSeen], priority: Priority) -> float:
    """Return the AC watts that a class may grow by in a domain, were it alone."""
    line = headroom.lineage(name, domains)
    return min((domain.left_w(domain.growth_ratio(priority)) for domain in line), default=0.0)


def _busy_there_w(subject: Subject, name: str, domains: Mapping[str, DomainSeen]) -> float:
    """Return the watts of a busy GPU at the clock that a domain caps its class at."""
    return subject.busy_w(headroom.cap_mhz(name, subject.policy.priority, domains))


def _wanted_gpus(subject: Subject, at: Ground) -> dict[str, int]:
    """Return the GPUs that are asked for per domain: all that fit in the roomiest, then on; the rest in the first."""
    priority, left, tp = subject.policy.priority, subject.asked.asked_gpus, subject.profile.tp
    domains, targets = at.domains, at.targets
    found = dict.fromkeys(targets, 0)
    for name in targets:
        left_w = growth_left_w(name, domains, priority) * domains[name].supply_efficiency_ratio
        fits = int(left_w / _busy_there_w(subject, name, domains))
        fits = _whole(min(fits, at.free[name]), tp)
        found[name] = min(fits, left)
        left -= found[name]
    if targets:
        found[targets[0]] += left
    return found


def _placeable(grant: Grant, subject: Subject, at: Ground) -> int:
    """Return the GPUs that a grant powers, in whole replicas that there is room for."""
    granted_w = grant.growth_w * at.domains[grant.domain].supply_efficiency_ratio
    powered = int(granted_w / _busy_there_w(subject, grant.domain, at.domains))
    return _whole(min(powered, at.free[grant.domain]), subject.profile.tp)


def _on_places_w(places: Sequence[Place], domains: Mapping[str, DomainSeen], granted_w: Mapping[str, float]) -> float:
    """Return what all GPUs may draw more together, each as much: the domain that grants least for its share decides."""
    gpus = sum(place.gpus for place in places)
    held = {name: _gpus(p for p in places if p.domain == name) for name in {p.domain for p in places}}
    each = (
        granted_w.get(name, 0.0) * domains[name].supply_efficiency_ratio * gpus / own
        for name, own in held.items()
        if name in domains and own > 0
    )
    return min(each, default=math.inf)


def _gpus(places: Iterable[Place]) -> int:
    return sum(place.gpus for place in places)


def _free(domains: Mapping[str, DomainSeen], priority: Priority) -> dict[str, float]:
    """Return the GPUs that growth finds in each domain.

    While none is capped the scheduler may place it anywhere, and others make room for who comes first (`share`): no
    domain's free GPUs limit anybody. Else what finds no room in one that is not would go into one that is.
    """
    capped = any(headroom.cap_mhz(name, priority, domains) is not None for name in domains)
    return {
        name: domain.free_gpus if capped and domain.free_gpus is not None else math.inf
        for name, domain in domains.items()
    }


def _whole(gpus: float, tp: int) -> int:
    """Return GPUs in whole replicas."""
    return int(gpus // tp) * tp


def _ac_w(domain: DomainSeen, gpus_w: float) -> float:
    return gpus_w / domain.supply_efficiency_ratio
